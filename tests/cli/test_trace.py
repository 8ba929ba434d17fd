"""What `truerun trace` and `truerun recover` print: the answer first, JSON as documented, exit codes as promised."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent.parent / "apps"))
from rehearsal import Rehearsal, rows

from truerun.apps.cli.main import cli


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """A good run, one as good, and a bad one after a key and wrong rows."""
    stage = Rehearsal(tmp_path_factory.mktemp("stage") / "project")
    stage.run("good")
    stage.config("name: base", "name: other")
    stage.lock()
    stage.run("fine")
    stage.config("lr: 0.1", "lr: 3.0")
    stage.add_rows(rows("eve", 40, 5, wrong=True))
    stage.lock()
    stage.run("bad")
    return stage


def ask(stage: Rehearsal, *arguments: str) -> Result:
    declaration = ["--config", str(stage.root / "truerun.toml")]
    runner = CliRunner(env={"TRUERUN_KEY": str(stage.root.parent / "owner")})
    return runner.invoke(cli, [*arguments, *declaration], standalone_mode=False)


def test_a_bad_run_is_explained_first_and_then_recovered_from(stage: Rehearsal, tmp_path: Path) -> None:
    told = ask(stage, "trace", "bad", "--against", "good", "--output", str(tmp_path / "answer.json"))
    assert told.return_value == 1
    lines = told.output.splitlines()
    assert lines[0].startswith("2 of 3 changes explain it: ")
    assert "who can say more: ana (known from: signed, entry" in told.output
    assert "of the 40 rows added to train by eve" in told.output
    assert any(line.startswith("next: truerun recover bad") for line in lines)
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["schema"] == 1
    assert answer["verdict"] == "attributed"
    assert {suspect["change"]["name"] for suspect in answer["suspects"][:2]} == {"config.yaml", "train"}
    shown = ask(stage, "recover", "bad", "--rerun", "--format", "json")
    assert shown.return_value == 0
    proposal = json.loads(shown.output)
    assert proposal["rerun"]["within_tolerance"] is True
    assert (proposal["applied"], proposal["writes"]) == (False, ["config.yaml", "train.csv"])


def test_a_run_as_good_as_before_is_said_to_be(stage: Rehearsal) -> None:
    told = ask(stage, "trace", "fine", "--against", "good", "--format", "json")
    assert told.return_value == 0
    assert json.loads(told.output)["verdict"] == "no-degradation"


def test_undo_and_apply_do_not_go_together(stage: Rehearsal) -> None:
    told = ask(stage, "recover", "bad", "--undo", "--apply")
    assert told.exception is not None
    assert "goes alone" in str(told.exception)
