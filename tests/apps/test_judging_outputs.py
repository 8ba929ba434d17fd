"""The outputs gate after a run: against which earlier run, and what is found."""

import json
import sys

import pytest

from truerun.adapters.keys import create_key
from truerun.apps.cli.main import main
from truerun.apps.project import open_project

DECLARATION = """
[project]
name = "digits"
command = "{python} train.py"
critical = {critical}
[config]
files = ["config.yaml"]
[environment]
packages = "none"
[outputs]
predictions = "predictions.parquet"
"""
SCRIPT = """
import random, sys
import polars as pl
draw = random.Random(1)
spoiled = int(open("config.yaml").read().split(":")[1])
label = [draw.randrange(4) for _ in range(1200)]
right = [draw.random() < 0.9 and not (value == spoiled and draw.random() < 0.5) for value in label]
answer = [value if good else (value + 1) % 4 for value, good in zip(label, right)]
pl.DataFrame({"label": label, "prediction": answer}).write_parquet("predictions.parquet")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose script writes predictions; `config.yaml` says which class it gets wrong (9: none)."""
    create_key(tmp_path / "olga", "olga")
    root = tmp_path / "project"
    root.mkdir()
    (root / "truerun.toml").write_text(DECLARATION.format(python=sys.executable, critical="false"))
    (root / "config.yaml").write_text("spoiled: 9\n")
    (root / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRUERUN_KEY", str(tmp_path / "olga"))
    assert run("init", "--id", "olga", "--name", "Olga (made up)", "--yes") == 0
    assert run("lock") == 0
    return root


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return done.value.code


def train(root, name, *more) -> dict:
    assert run("run", "--run-id", name, "--output", root / f"{name}.json", *more, "--", sys.executable, "train.py") == 0
    return json.loads((root / f"{name}.json").read_text())


def found(result, severity) -> list[dict]:
    return [f for f in result["findings"] if f["rule"].startswith("outputs-") and f["severity"] == severity]


def test_a_run_whose_outputs_got_worse_in_one_class_is_told_so(project):
    """Story O2 end to end: the second run gets class 2 wrong half the time; its overall accuracy stays near 0.8."""
    (note,) = found(train(project, "good"), "note")
    assert "no outputs of a reference run" in note["message"]
    (project / "config.yaml").write_text("spoiled: 2\n")
    assert run("lock") == 0
    bad = train(project, "bad")
    errors = {(f["rule"], f["subject"]["key"]) for f in found(bad, "error")}
    assert {("outputs-regressed", "label=2"), ("outputs-bias", "label=2")} <= errors
    assert not {key for _, key in errors} & {"label=0", "label=1", "label=3"}
    assert bad["verdict"] == "fail"


def test_the_accept_twin_the_same_again(project):
    train(project, "good")
    again = train(project, "again")
    assert found(again, "error") == []
    assert found(again, "note") == []


def test_a_reference_that_was_edited_since_is_none(project):
    """Attack: the kept predictions of the good run are replaced, so that a bad one looks like it."""
    train(project, "good")
    kept = project / ".truerun" / "runs" / "good" / "outputs" / "predictions.parquet"
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    result = train(project, "next")
    assert any("are not the ones it recorded" in json.dumps(f) for f in result["findings"])


def test_check_outputs_looks_at_the_predictions_that_lie_there(project, capsys):
    assert run("check", "outputs") == 3
    assert run("check") == 0
    train(project, "good")
    assert run("check", "outputs") == 0
    assert "against run good" in capsys.readouterr().out
    (project / "config.yaml").write_text("spoiled: 2\n")
    assert run("lock") == 0
    train(project, "bad")
    assert run("check", "outputs") == 1
    assert "recall of label 2" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", [None, "gone", "altered"])
def test_p7_leaving_critical_out_of_the_declaration_changes_nothing_until_it_is_approved(project, tmp_path, spoil):
    """
    Attack P7: the declaration says that the project is not critical any more, and the run is started without asking.

    It does not help to remove or alter the stored lock that says it was.
    """
    create_key(tmp_path / "mira", "mira")
    assert run("people", "add", "mira", "--role", "maintainer", "--key-file", tmp_path / "mira.pub") == 0
    toml = project / "truerun.toml"
    toml.write_text(toml.read_text().replace("critical = false", "critical = true"))
    assert run("lock") == 0
    assert run("approve", "--key", tmp_path / "mira") == 0
    approved = open_project().approved_lock().digest
    toml.write_text(toml.read_text().replace("critical = true", "critical = false"))
    assert run("lock") == 0
    stored = open_project().objects.path(approved)
    kept = stored.read_bytes()
    if spoil:
        stored.chmod(0o600)
        stored.unlink() if spoil == "gone" else stored.write_bytes(kept.replace(b"true", b"null", 1))
    assert run("run", "--run-id", "loose", "--", sys.executable, "train.py") in ((4,) if spoil is None else (3, 4, 5))
    assert not (project / "predictions.parquet").exists()
    if spoil is None:
        assert run("approve", "--key", tmp_path / "mira") == 0
        assert run("run", "--run-id", "loosened", "--", sys.executable, "train.py") == 0
