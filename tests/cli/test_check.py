"""`truerun check` as people and programs see it: exit codes, a line for each kind, JSON."""

from __future__ import annotations

import json
import os
import sys

import pytest
from click.testing import CliRunner

from truerun.adapters.keys import create_key
from truerun.apps.beginning import begin, first_owner
from truerun.apps.cli.check import command
from truerun.apps.locking import record_lock, resolve
from truerun.apps.project import open_project

DECLARATION = """\
[project]
name = "small"
command = "python train.py"

[config]
files = ["config.yaml"]

[environment]
packages = "none"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A locked project of one configuration file; `python` is the interpreter that runs the tests."""
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    (tmp_path / "truerun.toml").write_text(DECLARATION)
    (tmp_path / "config.yaml").write_text("lr: 0.003\n")
    (tmp_path / "train.py").write_text("print(1)\n")
    signer = create_key(tmp_path.parent / f"{tmp_path.name}.key")
    begin(tmp_path, None, signer, first_owner(tmp_path, signer.public_key, "ana", "Ana (made up)"))
    opened = open_project(str(tmp_path / "truerun.toml"))
    record_lock(opened, resolve(opened), opened.signer(tmp_path.parent / f"{tmp_path.name}.key"))
    return tmp_path


def check(project, *arguments):
    result = CliRunner().invoke(
        command, [*arguments, "--config", str(project / "truerun.toml")], standalone_mode=False, catch_exceptions=False
    )
    return result.return_value, result.stdout


def test_an_untouched_project_says_what_was_looked_at_and_exits_with_0(project):
    code, out = check(project)
    assert code == 0
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["data", "config", "code", "environment", "weights", "outputs"]
    assert lines[-1].startswith("compared with lock ")
    assert "config: no findings (1 keys, 0 environment variables)" in lines


def test_a_changed_key_comes_first_and_exits_with_1(project):
    (project / "config.yaml").write_text("lr: 0.03\n")
    code, out = check(project, "config")
    assert code == 1
    assert out.startswith("error: config-drift  config.yaml:1  lr\n  lr is 0.03; 0.003 was proposed on ")
    assert out.splitlines()[-2] == "config: 1 error (1 keys, 0 environment variables)"


def test_quiet_says_only_what_is_wrong(project):
    assert check(project, "-q") == (0, "")


def test_the_level_that_fails_can_be_set(project):
    (project / "config.yaml").write_text("lr: 0.03\n")
    assert check(project, "config", "--fail-on", "critical")[0] == 0


def test_json_is_the_documented_form(project):
    (project / "config.yaml").write_text("lr: 0.03\n")
    code, out = check(project, "config", "weights", "--format", "json")
    value = json.loads(out)
    assert code == 1
    assert set(value) == {"schema", "lock", "reference", "kinds", "findings"}
    assert list(value["kinds"]) == ["config", "weights"]
    assert value["reference"]["approved"] is False
    assert [finding["rule"] for finding in value["findings"]] == ["config-drift"]


def test_what_could_not_be_told_exits_with_3(project):
    """Before the first lock there is nothing to compare with, and that is not "no findings"."""
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (project / ".truerun" / name).unlink(missing_ok=True)
    code, out = check(project, "config")
    assert code == 3
    assert "config: could not tell" in out


def test_hostile_names_cannot_act_on_the_terminal(project):
    """A key with an escape sequence in it is shown, not obeyed."""
    (project / "config.yaml").write_text('lr: 0.003\n"\\e[2J": 1\n')
    _, out = check(project, "config")
    assert "\x1b" not in out
