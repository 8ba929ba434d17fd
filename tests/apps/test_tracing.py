"""A run got worse; the trace names the changes that did it, by rerunning the project, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rehearsal import Rehearsal, rows

from truerun.apps.tracing import Traced, TraceRequest, trace
from truerun.core.attribution import AttributionVerdict
from truerun.core.errors import UsageError


@pytest.fixture
def stage(tmp_path: Path) -> Rehearsal:
    return Rehearsal(tmp_path / "project")


def ask(stage: Rehearsal, run: str, **how: object) -> Traced:
    return trace(stage.project, TraceRequest(run=run, **how), stage.signer)  # type: ignore[arg-type]


def legitimate_weeks(stage: Rehearsal) -> None:
    stage.config("name: base", "name: week one")
    stage.add_rows(rows("ben", 30, 3))
    stage.lock()
    stage.config("log_every: 10", "log_every: 50")
    stage.add_rows(rows("cem", 20, 9))
    stage.lock()


def test_two_harmful_changes_among_legitimate_ones_are_named(stage: Rehearsal) -> None:
    """A trainee sets the learning rate too high and adds wrong rows, amid ordinary work of others."""
    stage.run("good")
    legitimate_weeks(stage)
    stage.config("lr: 0.1", "lr: 3.0")
    harmful = stage.lock()
    stage.add_rows(rows("eve", 40, 5, wrong=True))
    stage.config("clip: 1", "clip: 2")
    stage.lock()
    stage.run("bad")
    traced = ask(stage, "bad")
    answer = traced.attribution
    assert answer.verdict is AttributionVerdict.ATTRIBUTED
    assert answer.against == "good"
    named = {suspect.change.title() for suspect in answer.suspects if suspect.probability >= 0.9}
    assert named == {"config.yaml lr 0.1 -> 3", "train +40 rows by eve"}
    assert all(suspect.probability < 0.1 for suspect in answer.suspects if suspect.change.title() not in named)
    proposal = stage.project.history().proposal(harmful.digest)
    assert proposal is not None
    assert answer.onset is not None
    assert answer.onset["entry"] == proposal.index
    assert answer.suspects[0].change.actor is not None
    assert answer.suspects[0].change.actor.id == "ana"
    [source] = answer.sources
    assert (source.contributor, source.rows) == ("eve", 40)
    assert 15 <= source.rows_suspect <= 22
    assert stage.project.history().traces[-1].fact.attribution == answer
    assert not list((stage.root / ".truerun/trace").iterdir()), "the copies are gone"


def test_only_legitimate_changes_convict_nobody(stage: Rehearsal) -> None:
    """The accept twin: the same weeks without the two changes."""
    stage.run("good")
    legitimate_weeks(stage)
    stage.run("fine")
    answer = ask(stage, "fine").attribution
    assert answer.verdict is AttributionVerdict.NO_DEGRADATION
    assert all(suspect.probability < 0.1 for suspect in answer.suspects)
    assert answer.runs_used == 2


def test_a_drop_that_reruns_do_not_show_is_not_pinned_on_a_change(stage: Rehearsal) -> None:
    """Somebody tampered with the live process: the recorded inputs are innocent, and the trace says so."""
    stage.run("good")
    legitimate_weeks(stage)
    stage.run("bad", lie=0.5)
    answer = ask(stage, "bad").attribution
    assert answer.verdict is AttributionVerdict.CANNOT_TELL
    assert any("not in the recorded inputs" in note for note in answer.notes)
    assert all(suspect.probability < 0.1 for suspect in answer.suspects)


def test_a_reference_that_is_lost_points_to_what_cannot_be_rebuilt(stage: Rehearsal) -> None:
    stage.run("good", lie=0.99)
    legitimate_weeks(stage)
    stage.run("bad")
    answer = ask(stage, "bad", budget=8).attribution
    assert answer.verdict is AttributionVerdict.CANNOT_TELL
    assert any("no longer reach" in note for note in answer.notes)


def test_a_change_of_the_command_line_is_a_candidate(stage: Rehearsal) -> None:
    """The files are untouched; the harm is in an argument."""
    (stage.root / "train.py").write_text(
        (stage.root / "train.py").read_text().replace('config["lr"] > 1 else', "len(sys.argv) > 1 else")
    )
    stage.lock()
    stage.run("good")
    stage.config("name: base", "name: other")
    stage.lock()
    stage.run("bad", command=(sys.executable, "train.py", "--fast"))
    answer = ask(stage, "bad").attribution
    assert answer.verdict is AttributionVerdict.ATTRIBUTED
    assert answer.suspects[0].change.name == "command"


def test_changes_that_were_never_locked_are_found_too(stage: Rehearsal) -> None:
    """Run straight from an edited working tree: the lock of the run is in no proposal."""
    stage.run("good")
    stage.config("lr: 0.1", "lr: 2.0")
    stage.config("name: base", "name: mine")
    from truerun.apps.locking import resolve, store

    store(stage.project, resolve(stage.project))
    stage.run("bad")
    answer = ask(stage, "bad").attribution
    assert [suspect.change.key for suspect in answer.suspects if suspect.probability >= 0.9] == ["lr"]


def test_subsets_that_do_not_run_are_observations(stage: Rehearsal) -> None:
    """A new option needs a new module: subsets with one and not the other fail, and neither is convicted for that."""
    stage.run("good")
    (stage.root / "helper.py").write_text("gain = 0.001\n")
    stage.lock()
    stage.config("name: base", "needs_helper: true\nname: base")
    stage.config("lr: 0.1", "lr: 2.0")
    stage.add_rows(rows("ben", 30, 3))
    stage.lock()
    stage.run("bad")
    answer = ask(stage, "bad").attribution
    assert [suspect.change.key for suspect in answer.suspects if suspect.probability >= 0.9] == ["lr"]


def test_a_run_that_fails_is_traced_to_what_makes_it_fail(stage: Rehearsal) -> None:
    stage.run("good")
    legitimate_weeks(stage)
    stage.config("name: week one", "stop: true\nname: week one")
    stage.lock()
    stage.run("bad")
    answer = ask(stage, "bad").attribution
    assert [suspect.change.key for suspect in answer.suspects if suspect.probability >= 0.9] == ["stop"]


def test_bad_questions_say_what_to_ask_instead(stage: Rehearsal) -> None:
    stage.run("good")
    with pytest.raises(UsageError, match="no run 'nothing'"):
        ask(stage, "nothing")
    with pytest.raises(UsageError, match="against itself"):
        ask(stage, "good", against="good")
    with pytest.raises(UsageError, match="no run before"):
        ask(stage, "good")
    with pytest.raises(UsageError, match="is declared"):
        ask(stage, "good", metric="speed")


TORCH_TRAIN = """
import torch, yaml, truerun
with open("config.yaml") as stream:
    config = yaml.safe_load(stream)
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
x = torch.randn(64, 3)
y = x @ torch.tensor([[1.0], [2.0], [-1.0]])
for step in range(30):
    optimizer.zero_grad()
    loss = (model(x) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
truerun.log(quality=1.0 - min(loss.item(), 1.0))
"""


@pytest.mark.slow
@pytest.mark.torch
def test_replay_sets_inert_changes_aside_and_names_the_first_step(stage: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long job: a few replayed steps tell which keys alter the computation, before any full rerun."""
    from truerun.apps import tracing

    monkeypatch.setattr(tracing, "REPLAY_PAYS_SECONDS", 0.0)
    monkeypatch.setattr(tracing, "REPLAY_PAYS_RATIO", 0)
    (stage.root / "train.py").write_text(TORCH_TRAIN)
    stage.lock()
    stage.run("good")
    stage.config("name: base", "name: other")
    stage.config("log_every: 10", "log_every: 20")
    stage.config("lr: 0.1", "lr: 0.0001")
    stage.lock()
    stage.run("bad")
    answer = ask(stage, "bad", replay_steps=5).attribution
    assert answer.verdict is AttributionVerdict.ATTRIBUTED
    assert [suspect.change.key for suspect in answer.suspects if suspect.probability >= 0.9] == ["lr"]
    assert answer.replay_steps_used >= 15
    assert answer.onset is not None
    assert answer.onset["step"] == 1
    inert = [suspect for suspect in answer.suspects if suspect.change.key in ("name", "log_every")]
    assert all("alters nothing" in suspect.evidence[-1]["text"] for suspect in inert)
