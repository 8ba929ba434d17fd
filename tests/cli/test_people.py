"""`truerun people` through the command line: who is here, who came, who left, and who may decide that."""

import json
import subprocess

import pytest

from truerun.adapters.keys import create_key
from truerun.apps.cli.main import main

DECLARATION = """
[project]
name = "digits"
command = "python train.py"
critical = true
[config]
files = ["config.yaml"]
[environment]
packages = "none"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of olga's, with keys for mira and tara beside it."""
    for name in ("olga", "mira", "tara"):
        create_key(tmp_path / name, name)
    root = tmp_path / "project"
    root.mkdir()
    (root / "truerun.toml").write_text(DECLARATION)
    (root / "config.yaml").write_text("lr: 0.1\n")
    (root / "train.py").write_text("print('training')\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRUERUN_KEY", str(tmp_path / "olga"))
    monkeypatch.setenv("TRUERUN_AT", "2026-11-20T09:30:00Z")
    assert run("init", "--id", "olga", "--name", "Olga (made up)", "--yes") == 0
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return done.value.code


def add(project, person, role, *more) -> int:
    return run("people", "add", person, "--role", role, "--key-file", project / f"{person}.pub", *more)


def listed(capsys) -> dict:
    capsys.readouterr()
    assert run("people", "list", "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


def test_people_are_added_listed_and_revoked(project, capsys):
    assert add(project, "mira", "maintainer", "--name", "Mira (made up)") == 0
    assert add(project, "tara", "trainee", "--mentor", "mira") == 0
    found = listed(capsys)
    assert [(row["id"], row["role"], row["mentor"], row["since"]) for row in found["people"]] == [
        ("olga", "owner", None, 1),
        ("mira", "maintainer", None, 2),
        ("tara", "trainee", "mira", 3),
    ]
    assert found["people"][1]["keys"][0]["by"] == "olga"
    assert run("people", "revoke", "tara", "--reason", "left the team") == 0
    found = listed(capsys)
    assert [row["id"] for row in found["people"]] == ["olga", "mira"]
    assert found["former"] == ["tara"]
    assert found["refused"] == []


def test_the_fingerprint_is_the_one_ssh_keygen_prints(project, capsys):
    add(project, "mira", "maintainer")
    printed = subprocess.run(["ssh-keygen", "-l", "-f", project / "mira.pub"], capture_output=True, text=True, check=True).stdout
    assert listed(capsys)["people"][1]["keys"][0]["key_id"] == printed.split()[1]


def test_a_text_list_names_role_mentor_and_key(project, capsys):
    add(project, "mira", "maintainer")
    add(project, "tara", "trainee", "--mentor", "mira")
    capsys.readouterr()
    assert run("people", "list") == 0
    out = capsys.readouterr().out
    assert "tara  trainee, mentored by mira" in out
    assert out.count("SHA256:") == 3


def test_what_would_have_no_effect_is_refused_before_it_is_recorded(project, capsys):
    add(project, "mira", "maintainer")
    assert run("people", "add", "tara", "--role", "engineer", "--key-file", project / "tara.pub", "--key", project / "mira") == 2
    err = capsys.readouterr().err
    assert "only an owner adds people" in err
    assert "owners here: olga" in err
    assert run("people", "add", "mirа", "--role", "engineer", "--key-file", project / "tara.pub") == 2
    assert run("people", "add", "rnira", "--role", "engineer", "--key-file", project / "tara.pub") == 2
    assert "reads like mira" in capsys.readouterr().err
    assert run("people", "add", "tara", "--role", "engineer", "--key-file", project / "mira.pub") == 2
    assert "one key belongs to one person" in capsys.readouterr().err
    assert run("people", "revoke", "olga", "--reason", "x") == 2
    found = listed(capsys)
    assert ([row["id"] for row in found["people"]], found["refused"]) == (["olga", "mira"], [])


def test_another_key_is_added_to_the_same_person_and_revoked_alone(project, capsys):
    add(project, "mira", "maintainer")
    assert run("people", "add", "mira", "--key-file", project / "tara.pub") == 0
    assert len(listed(capsys)["people"][1]["keys"]) == 2
    assert run("people", "revoke", "mira", "--ssh-key", project / "tara.pub", "--reason", "lost laptop") == 0
    assert len(listed(capsys)["people"][1]["keys"]) == 1


def test_revoking_lists_everything_the_key_signed(project, capsys):
    add(project, "mira", "maintainer")
    assert run("lock", "--key", project / "mira") == 0
    capsys.readouterr()
    assert run("people", "revoke", "mira", "--reason", "key lost", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["signed"] == [{"entry": 3, "kind": "lock-proposed"}]


def test_somebody_new_needs_a_role_and_a_key(project, capsys):
    assert run("people", "add", "mira", "--key-file", project / "mira.pub") == 2
    assert "--role" in capsys.readouterr().err
    assert run("people", "add", "mira", "--role", "maintainer", "--key-file", project / "mira") == 2
    assert "private key" in capsys.readouterr().err
    assert run("people", "revoke", "mira", "--reason", "x") == 2
