"""`truerun run`, `runs` and `show`, as people type them: admission, verdicts, exit codes, the JSON contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOML = """
[project]
name = "small"
command = "python train.py"
critical = true
[config]
files = ["config.yaml"]
[environment]
packages = "none"
[training]
lr = "config:lr"
[monitoring]
every = 1
"""
TRAIN = """
import os, sys, torch, yaml, truerun
torch.manual_seed(0)
lr = float(os.environ.get("SMALL_LR", yaml.safe_load(open("config.yaml"))["lr"]))
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
for step in range(12):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    if os.path.exists("swap"): open("config.yaml", "w").write("lr: 0.5\\n")
truerun.log(loss=loss)
print("trained", loss.item())
"""
MAIN = "from truerun.apps.cli.main import main; main()"


@dataclass(frozen=True)
class Place:
    """A critical project with an owner (olga) and a maintainer (marek); both made up."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "project"

    def truerun(self, *words: str, key: str = "olga", **env: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"HOME": str(self.home), "TRUERUN_CACHE": str(self.home / "cache"), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", MAIN, *words],
            cwd=self.root,
            env={**kept, "PATH": path, **own, **({"TRUERUN_KEY": str(self.home / key)} if key else {}), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *options: str, **env: Any) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        output = self.home / "result.json"
        output.unlink(missing_ok=True)
        done = self.truerun("run", "--output", str(output), *options, "--", "python", "train.py", **env)
        return done, json.loads(output.read_text()) if output.exists() else {}

    def entries(self) -> int:
        return int(json.loads(self.truerun("ledger", "verify", "--format", "json").stdout)["entries"])


def _make(home: Path) -> Place:
    place = Place(home)
    place.root.mkdir()
    for name, text in (("truerun.toml", TOML), ("train.py", TRAIN), ("config.yaml", "lr: 0.01\n")):
        (place.root / name).write_text(text)
    for person in ("olga", "marek"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / person)], check=True)
    for words in (
        ("init", "--key", str(home / "olga"), "--id", "olga", "--name", "Olga Example", "--yes"),
        ("people", "add", "marek", "--name", "Marek Example", "--role", "maintainer", "--key-file", str(home / "marek.pub")),
        ("lock", "--note", "first"),
    ):
        done = place.truerun(*words)
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("template")).home


@pytest.fixture(scope="module")
def approved_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("approved") / "home"
    shutil.copytree(template, home)
    done = Place(home).truerun("approve", "--reason", "looked at it", key="marek")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def proposed(template: Path, tmp_path: Path) -> Place:
    shutil.copytree(template, tmp_path / "home")
    return Place(tmp_path / "home")


@pytest.fixture
def approved(approved_template: Path, tmp_path: Path) -> Place:
    shutil.copytree(approved_template, tmp_path / "home")
    return Place(tmp_path / "home")


def rules(result: dict[str, Any]) -> set[tuple[str, str]]:
    return {(finding["rule"], finding["severity"]) for finding in result["findings"]}


def test_not_approved_is_held(proposed: Place) -> None:
    """On a critical project nothing starts before somebody else has approved; who can and how is said; it is recorded."""
    done, result = proposed.run()
    assert (done.returncode, done.stdout) == (4, "")
    assert "marek" in done.stderr
    assert "truerun approve" in done.stderr
    assert (result["verdict"], result["command_exit"], result["mode"]) == ("held", None, "enforce")
    assert "held" in proposed.truerun("runs").stdout


def test_approved_runs_and_is_shown(approved: Place) -> None:
    """The accept twin: approved, unchanged, watched; `show` says in plain words what happened."""
    done, result = approved.run("--run-id", "first")
    assert (done.returncode, result["verdict"], result["findings"]) == (0, "pass", []), done.stderr
    assert done.stdout.startswith("trained ")
    assert (result["steps"], result["command_exit"], result["schema"]) == (12, 0, 1)
    assert result["ledger"]["last"] == approved.entries() - 1
    shown = approved.truerun("show", "first").stdout
    for words in ("first: pass", "olga (owner)", "admission allow", "approved by marek", "lr 0.01", "checked 12 of 12", "none"):
        assert words in shown, shown
    again = approved.truerun("run", "--run-id", "first", "--", "python", "train.py")
    assert (again.returncode, "first already" in again.stderr) == (2, True)


def test_changed_after_approval_is_refused(approved: Place) -> None:
    """Approve A, run B: the learning rate is ten times the approved one when the run is started."""
    (approved.root / "config.yaml").write_text("lr: 0.1\n")
    done, result = approved.run()
    assert (done.returncode, result["verdict"], done.stdout) == (4, "held", "")
    assert ("config-drift", "error") in rules(result)


def test_changed_while_it_runs(approved: Place) -> None:
    """The configuration is rewritten during the run: seen at its end, by key."""
    (approved.root / "swap").write_text("")
    done, result = approved.run()
    assert (done.returncode, result["verdict"]) == (1, "fail")
    assert [(f["rule"], f["subject"]["key"]) for f in result["findings"]] == [("inputs-changed", "lr")]


def test_observe_reports_and_does_not_stop(approved: Place) -> None:
    """An environment variable overrides the approved file: seen at rest and at step 1; the exit code is the command's own."""
    done, result = approved.run("--mode", "observe", SMALL_LR="0.1")
    assert (done.returncode, result["verdict"], result["mode"]) == (0, "fail", "observe")
    assert {("environment-variable", "error"), ("hyperparameter-drift", "error")} <= rules(result)
    steps = [f["location"]["step"] for f in result["findings"] if f["rule"] == "hyperparameter-drift"]
    assert steps == [1]
    assert "hyperparameter-drift" in done.stderr
    assert approved.run("--mode", "observe", "--fail-on", "error", SMALL_LR="0.1")[0].returncode == 1


def test_without_a_key(approved: Place) -> None:
    """Observing needs no key: the run's own key signs, and that is said. Enforcing does."""
    done, result = approved.run("--mode", "observe", key="")
    assert (done.returncode, rules(result)) == (0, {("record-not-kept", "warning")})
    assert result["verdict"] == "pass"
    assert approved.run(key="")[0].returncode == 2


def test_interrupted_words(approved: Place) -> None:
    """Options after the command belong to the command; a bad run id is refused."""
    done = approved.truerun("run", "--mode", "observe", "--", "echo", "--output", "-q", "--mode")
    assert (done.returncode, done.stdout) == (0, "--output -q --mode\n")
    assert approved.truerun("run", "--run-id", "../up", "--", "true").returncode == 2
