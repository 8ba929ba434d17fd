"""`truerun approve` and `truerun reject` through the command line, from a proposal to the answer."""

import json

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
TEAM = {"mira": ("maintainer",), "emil": ("engineer",), "tara": ("trainee", "--mentor", "mira")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A critical project with olga (owner), mira (maintainer), emil (engineer) and tara (trainee); one lock approved."""
    for name in ("olga", "stranger", *TEAM):
        create_key(tmp_path / name, name)
    root = tmp_path / "project"
    root.mkdir()
    (root / "truerun.toml").write_text(DECLARATION)
    (root / "config.yaml").write_text("lr: 0.1\n")
    (root / "train.py").write_text("print('training')\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRUERUN_AT", "2026-11-20T09:30:00Z")
    keyed = ("--key", tmp_path / "olga")
    assert run("init", "--id", "olga", "--name", "Olga (made up)", "--yes", *keyed) == 0
    for name, role in TEAM.items():
        assert run("people", "add", name, "--key-file", tmp_path / f"{name}.pub", "--role", *role, *keyed) == 0
    assert run("lock", "--key", tmp_path / "emil") == 0
    assert run("approve", "--key", tmp_path / "mira") == 0
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return done.value.code


def propose(project, by, text="lr: 0.5\n", *more) -> None:
    (project / "project" / "config.yaml").write_text(text)
    assert run("lock", "--key", project / by, *more) == 0


def answer(project, by, *arguments, command="approve"):
    return run(command, *arguments, "--key", project / by)


def as_json(project, by, capsys, *arguments, command="approve") -> dict:
    capsys.readouterr()
    assert answer(project, by, *arguments, "--format", "json", command=command) == 0
    return json.loads(capsys.readouterr().out)


def test_the_approver_sees_exactly_what_changed_and_by_whom(project, capsys):
    propose(project, "emil", "lr: 0.5\n", "--note", "larger steps")
    capsys.readouterr()
    assert answer(project, "mira", "--reason", "looks right") == 0
    out = capsys.readouterr().out
    assert "proposed by emil at entry 7" in out
    assert "note: larger steps" in out
    assert "config.yaml lr 0.1 -> 0.5" in out
    assert "mira approved lock" in out
    assert "nothing more is needed" in out


def test_a_first_lock_shows_its_configuration_because_there_is_nothing_to_compare_with(project, capsys):
    capsys.readouterr()
    assert answer(project, "mira") == 0
    out = capsys.readouterr().out
    assert "the first lock" in out
    assert "config.yaml lr = 0.1" in out
    assert "mira already approved" in out


def test_a_trainees_change_waits_for_the_mentor_and_says_so(project, capsys):
    propose(project, "tara")
    decision = as_json(project, "olga", capsys)["decision"]
    assert decision["outcome"] == "hold"
    assert decision["needs"] == [{"what": "an approval by mira, who mentors tara", "who": ["mira"]}]
    assert as_json(project, "mira", capsys)["decision"]["outcome"] == "allow"


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("emil", "emil is an engineer"),
        ("tara", "tara is a trainee"),
        ("mira", "mira made some of these changes"),
        ("stranger", "this key belongs to nobody here"),
    ],
)
def test_who_has_no_say_is_told_who_has_and_nothing_is_recorded(project, capsys, by, words):
    propose(project, "mira")
    capsys.readouterr()
    assert answer(project, by) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "olga" in err
    assert as_json(project, "olga", capsys)["entry"] == 8


def test_changes_of_several_people_are_shown_by_author(project, capsys):
    propose(project, "emil", "lr: 0.5\n")
    propose(project, "tara", "lr: 0.5\nseed: 1\n")
    changes = as_json(project, "mira", capsys)["changes"]
    assert {author: [change["key"] for change in group] for author, group in changes.items()} == {
        "emil": ["lr"],
        "tara": ["seed"],
    }


def test_a_no_holds_until_the_same_person_says_yes(project, capsys):
    propose(project, "emil")
    assert as_json(project, "olga", capsys)["decision"]["outcome"] == "allow"
    held = as_json(project, "mira", capsys, "--reason", "why 0.5?", command="reject")["decision"]
    assert held["outcome"] == "hold"
    assert any("why 0.5?" in reason for reason in held["reasons"])
    assert as_json(project, "mira", capsys)["decision"]["outcome"] == "allow"


def test_the_same_answer_twice_is_one_entry(project, capsys):
    propose(project, "emil")
    first = as_json(project, "mira", capsys)["entry"]
    assert as_json(project, "mira", capsys)["entry"] == first


def test_a_lock_is_named_by_the_beginning_of_its_digest(project, capsys):
    propose(project, "emil")
    lock = as_json(project, "olga", capsys)["lock"]
    propose(project, "emil", "lr: 0.7\n")
    assert as_json(project, "mira", capsys, lock.split(":")[1][:10])["lock"] == lock
    assert answer(project, "mira", "0000") == 2


def test_p4_an_answer_dated_before_its_question_is_refused(project, monkeypatch, capsys):
    propose(project, "emil")
    monkeypatch.setenv("TRUERUN_AT", "2026-11-01T09:30:00Z")
    assert answer(project, "mira") == 2
    assert "check the clock" in capsys.readouterr().err
    monkeypatch.setenv("TRUERUN_AT", "2026-11-20T09:31:00Z")
    assert answer(project, "mira") == 0


def test_text_that_others_wrote_is_escaped(project, capsys):
    propose(project, "emil", "lr: 0.5\n", "--note", "\x1b[2Jhidden \u202etxet")
    capsys.readouterr()
    assert answer(project, "mira") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_without_a_proposal_there_is_nothing_to_answer(tmp_path, monkeypatch, capsys):
    create_key(tmp_path / "olga", "olga")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truerun.toml").write_text(DECLARATION)
    assert run("init", "--key", tmp_path / "olga", "--id", "olga", "--name", "Olga (made up)", "--yes") == 0
    assert answer(tmp_path, "olga") == 2
    assert "truerun lock proposes one" in capsys.readouterr().err
