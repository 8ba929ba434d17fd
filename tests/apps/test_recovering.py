"""After a trace: back to the newest inputs without the convicted changes, and nothing of anybody else's work lost."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rehearsal import Rehearsal, rows

from truerun.apps.project import open_project
from truerun.apps.recovering import apply_recovery, propose_recovery, rerun_clean, undo_recovery
from truerun.apps.tracing import TraceRequest, trace
from truerun.core.errors import UsageError


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """A traced run with two harmful changes among others; a legitimate change of the same file came after them."""
    stage = Rehearsal(tmp_path_factory.mktemp("stage") / "project")
    (stage.root / "config.yaml").write_text("# ask Ana first\nlr: 0.1\nclip: 1  # keep\nlog_every: 10\nname: base\n")
    stage.lock()
    stage.run("good")
    stage.add_rows(rows("ben", 30, 3))
    stage.lock()
    stage.config("lr: 0.1", "lr: 3.0")
    stage.add_rows(rows("eve", 40, 5, wrong=True))
    stage.lock()
    stage.config("log_every: 10", "log_every: 50")
    stage.add_rows(rows("cem", 20, 9))
    stage.lock()
    stage.run("bad")
    trace(stage.project, TraceRequest(run="bad"), stage.signer)
    return stage


@pytest.fixture
def stage(degraded: Rehearsal, tmp_path: Path) -> Rehearsal:
    """A copy of it, so that each test may write."""
    import copy
    import shutil

    shutil.copytree(degraded.root, tmp_path / "project")
    again = copy.copy(degraded)
    again.root = tmp_path / "project"
    again.project = open_project(str(again.root / "truerun.toml"))
    return again


def test_a_proposal_writes_nothing_and_the_clean_state_is_good_again(stage: Rehearsal) -> None:
    before = {path.name: path.read_bytes() for path in stage.root.iterdir() if path.is_file()}
    with propose_recovery(stage.project, "bad") as proposal:
        assert {change.title() for change in proposal.plan.removed} == {"config.yaml lr 0.1 -> 3", "train +40 rows by eve"}
        assert proposal.plan.along == ()
        assert proposal.writes == ("config.yaml", "train.csv")
        measured = rerun_clean(proposal)
        assert measured.value == pytest.approx(0.9025)
    assert before == {path.name: path.read_bytes() for path in stage.root.iterdir() if path.is_file()}
    assert not proposal.folder.exists()


def test_applied_comments_and_others_work_stay_and_rows_are_set_aside(stage: Rehearsal) -> None:
    with propose_recovery(stage.project, "bad") as proposal:
        applied = apply_recovery(stage.project, proposal, stage.signer)
    assert (stage.root / "config.yaml").read_text() == "# ask Ana first\nlr: 0.1\nclip: 1  # keep\nlog_every: 50\nname: base\n"
    left = pl.read_csv(stage.root / "train.csv")
    assert left["by"].value_counts().sort("by").rows() == [("ana", 200), ("ben", 30), ("cem", 20)]
    table = pl.read_parquet(applied.quarantine["train"])
    assert table.height == 40
    assert set(table["by"]) == {"eve"}
    assert table["truerun_row"].to_list() == list(range(230, 270))
    assert any("nearest reference rows" in reason for reason in table["truerun_reason"])
    history = stage.project.history()
    recovery = history.recoveries[-1].fact
    assert recovery.lock == applied.lock.digest == stage.project.newest_proposal().fact.lock
    assert recovery.quarantine["train"] in stage.project.objects
    assert {change.title() for change in recovery.removed} == {"config.yaml lr 0.1 -> 3", "train +40 rows by eve"}


def test_undo_puts_everything_back_byte_for_byte(stage: Rehearsal) -> None:
    before = {name: (stage.root / name).read_bytes() for name in ("config.yaml", "train.csv")}
    head = stage.project.newest_proposal().fact.lock
    with propose_recovery(stage.project, "bad") as proposal:
        apply_recovery(stage.project, proposal, stage.signer)
    assert undo_recovery(stage.project, "bad", stage.signer).digest == head
    assert before == {name: (stage.root / name).read_bytes() for name in before}


def test_edits_that_no_lock_records_are_never_overwritten(stage: Rehearsal) -> None:
    """Somebody is working on the same file: recovery refuses and says what to do."""
    stage.config("name: base", "name: half an idea")
    with propose_recovery(stage.project, "bad") as proposal, pytest.raises(UsageError, match="no lock records"):
        apply_recovery(stage.project, proposal, stage.signer)
    assert "half an idea" in (stage.root / "config.yaml").read_text()
    assert not stage.project.history().recoveries


def test_a_recovery_that_is_done_has_nothing_left_to_take_back(stage: Rehearsal) -> None:
    with propose_recovery(stage.project, "bad") as proposal:
        apply_recovery(stage.project, proposal, stage.signer)
    with pytest.raises(UsageError, match="undo"), propose_recovery(stage.project, "bad"):
        pass


def test_a_run_that_was_not_traced_cannot_be_recovered_from(stage: Rehearsal) -> None:
    with pytest.raises(UsageError, match="not traced"), propose_recovery(stage.project, "good"):
        pass
