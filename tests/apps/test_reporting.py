"""Reporting reads what is recorded and the run's files; a cut line, a missing file or an edited ledger must not mislead it."""

import json
import sqlite3

import pytest
from click.testing import CliRunner

from truerun.adapters.files import hash_file
from truerun.adapters.keys import create_key
from truerun.adapters.ledger_files import LEDGER_FILE
from truerun.apps.beginning import begin, first_owner
from truerun.apps.cli.report import command
from truerun.apps.locking import record_lock, resolve
from truerun.apps.project import open_project
from truerun.apps.reporting import gather_incident
from truerun.core.errors import LedgerCorruptError, UsageError, VerificationError
from truerun.core.fact import RunFinished, RunStarted
from truerun.core.run import Mode, Overhead, Verdict

DECLARATION = """[project]
name = "small"
command = "python train.py"
[config]
files = ["config.yaml"]
[environment]
packages = "none"
[metrics.accuracy]
tolerance = 0.01
[outputs]
predictions = "predictions.parquet"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with two recorded runs, the second worse."""
    import polars as pl

    monkeypatch.setenv("TRUERUN_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "project"
    root.mkdir()
    (root / "config.yaml").write_text("lr: 0.1\n")
    (root / "train.py").write_text("print('hello')\n")
    signer = create_key(tmp_path / "key", "made up")
    project = begin(root, DECLARATION, signer, first_owner(root, signer.public_key, "ada", "Ada Made-Up")).project
    for run, wrong, accuracy, lr in (("first", 0, 0.9, 0.1), ("second", 6, 0.6, 3.0)):
        (root / "config.yaml").write_text(f"lr: {lr}\n")
        lock = record_lock(project, resolve(project), signer).lock.digest
        labels = ["a"] * 10 + ["b"] * 10
        predictions = ["b"] * wrong + ["a"] * (10 - wrong) + ["b"] * 10
        path = project.folder / "runs" / run / "outputs" / "predictions.parquet"
        path.parent.mkdir(parents=True)
        pl.DataFrame({"label": labels, "prediction": predictions}).write_parquet(path)
        outputs = hash_file(path)
        _record(project, signer, run, lock=lock, accuracy=accuracy, outputs=outputs)
    return project


def _record(project, signer, run, *, lock, accuracy, outputs):
    at = "2026-10-01T10:00:00Z"
    project.ledger.append(
        RunStarted(
            run=run,
            lock=lock,
            mode=Mode.OBSERVE,
            command=("python", "train.py"),
            run_key=signer.public_key,
            decision=None,
            findings=(),
            at=at,
        ),
        signer,
    )
    project.ledger.append(
        RunFinished(
            run=run,
            verdict=Verdict.PASS,
            command_exit=0,
            steps=50,
            seconds=2.0,
            metrics={"accuracy": accuracy},
            overhead=Overhead(),
            at=at,
            outputs=outputs,
        ),
        signer,
    )
    folder = project.folder / "runs" / run
    lines = [json.dumps({"name": "accuracy", "step": step, "value": accuracy, "rank": 0}) for step in (10, 50)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"name": "accur')
    (folder / "steps-rank0.jsonl").write_text("\n".join(json.dumps({"step": step, "loss": 1 / step}) for step in range(1, 51)))


def test_it_gathers_curves_outcomes_and_what_to_verify_against(project):
    """Metric and loss of both runs, the class that lost, the tree head; a line cut short by a kill is left out."""
    incident = gather_incident(project, "second")
    assert incident.against == "first"
    assert [curve.name for curve in incident.curves] == ["accuracy", "loss"]
    assert len(incident.curves[0].run) == len(incident.curves[0].reference) == 2
    worst = incident.outcomes[0]
    assert (worst.name, worst.recall, worst.reference) == ("a", 0.4, 1.0)
    assert incident.anchor.size == len(project.ledger)
    assert incident.metrics["worse_by"] == pytest.approx(0.3)
    assert "truerun trace second" in incident.summary[1]


def test_a_run_that_is_not_recorded(project):
    """A usage error that says where runs are listed."""
    with pytest.raises(UsageError, match="no run"):
        gather_incident(project, "third")


def test_no_report_is_built_on_an_edited_history(project):
    """Somebody edits the recorded metric in the database: no report, the first bad index."""
    with sqlite3.connect(project.folder / LEDGER_FILE) as database:
        (table,) = (name for (name,) in database.execute("select name from sqlite_master where type='table'") if "entr" in name)
        columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
        column = next(name for name in columns if "envelope" in name)
        index, envelope = database.execute(f"select rowid, {column} from {table} order by rowid desc").fetchone()
        database.execute(f"update {table} set {column} = ? where rowid = ?", (envelope[:-9] + b"A" + envelope[-8:], index))
    with pytest.raises(LedgerCorruptError):
        gather_incident(open_project(str(project.root / "truerun.toml")), "second")


def test_outputs_that_were_edited_since(project):
    """Somebody improves the kept predictions: their digest is in the ledger, so no report is made from them."""
    (project.folder / "runs" / "second" / "outputs" / "predictions.parquet").write_bytes(b"better ones")
    with pytest.raises(VerificationError, match="not the ones that it recorded"):
        gather_incident(project, "second")


def test_outputs_that_are_not_kept_here(project):
    """Without the file there are no outcomes, and the report says that it does not know who is worse off."""
    (project.folder / "runs" / "second" / "outputs" / "predictions.parquet").unlink()
    incident = gather_incident(project, "second")
    assert incident.outcomes == ()
    assert any("who is worse off is not known" in line for line in incident.unknowns)


@pytest.mark.parametrize(("form", "start"), [("html", "<!doctype html>"), ("markdown", "# "), ("json", "{")])
def test_the_command_writes_every_form(project, tmp_path, form, start):
    """To a file, whole or not at all, and to standard output."""
    output = tmp_path / "report"
    config = ("--config", str(project.root / "truerun.toml"))
    done = CliRunner().invoke(command, ["second", "--format", form, "--output", str(output), *config])
    assert done.exit_code == 0, done.output
    assert output.read_text().startswith(start)
    assert CliRunner().invoke(command, ["second", "--format", form, *config]).output.startswith(start)
