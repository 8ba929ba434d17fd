"""The commands `init`, `lock` and `diff` as people and programs use them."""

import json

import pytest
from click.testing import CliRunner

from truerun.apps.cli.main import cli
from truerun.core.errors import SigningKeyError, UsageError


def run(small, *arguments):
    result = CliRunner().invoke(cli, [*arguments, "--config", str(small.root / "truerun.toml")], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


def lock(small, *arguments):
    return run(small, "lock", "--key", str(small.key), *arguments)


def test_lock_and_diff_speak_to_people(small):
    first = lock(small).stdout
    assert "+ config.yaml added  by ana (signed)" in first
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 2\n")
    assert "~ config.yaml optimizer.lr 0.003 -> 0.03  (line 2)" in run(small, "diff").stdout
    second = lock(small, "--note", "faster").stdout
    assert "~ config.yaml seed 1 -> 2  (line 3)  [not protected]  by ana (signed)" in second
    assert "no difference" in run(small, "diff").stdout
    assert "nothing changed" in lock(small).stdout
    assert lock(small, "-q").stdout == ""


def test_lock_and_diff_speak_to_programs(small):
    first = json.loads(lock(small, "--format", "json").stdout)
    assert (first["schema"], first["entry"]) == (1, 2)
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    lock(small)
    result = json.loads(run(small, "diff", first["lock"], "head", "--format", "json").stdout)
    (change,) = result["changes"]
    assert change["title"] == "config.yaml optimizer.lr 0.003 -> 0.03"
    assert change["actor"] == {"id": "ana", "basis": "signed"}
    assert result["from"]["lock"] == first["lock"]


def test_hostile_names_are_escaped(small):
    """P11: a key and a contributor that would move the cursor are shown as text."""
    lock(small)
    small.write("config.yaml", 'optimizer:\n  lr: 0.003\nseed: "\\e[2J\\u202e"\n')
    small.rows("x,label,added_by", "1,cat,\x1b[31mana")
    shown = lock(small).stdout
    assert "\x1b" not in shown
    assert "\\u001b[31mana" in shown


def test_diff_names_what_it_does_not_know(small):
    lock(small)
    with pytest.raises(UsageError, match="is no lock and no run"):
        run(small, "diff", "nonsense", ".")


def test_init_drafts_and_begins(bare, home):
    (bare.root / "truerun.toml").unlink()
    result = run(bare, "init", "--yes", "--id", "ana", "--name", "Ana (made up)")
    assert 'command = "python train.py"' in result.stdout
    assert f"made the key {home}/.ssh/id_ed25519" in result.stdout
    assert [person.id for person in bare.project.people().all()] == ["ana"]
    with pytest.raises(UsageError, match="is a project already"):
        run(bare, "init", "--yes")


def test_init_keeps_a_declaration_that_is_there(bare, home):
    before = (bare.root / "truerun.toml").read_bytes()
    result = json.loads(run(bare, "init", "--yes", "--id", "ana", "--format", "json").stdout)
    assert (result["drafted"], result["owner"]["id"]) == (False, "ana")
    assert (bare.root / "truerun.toml").read_bytes() == before


def test_init_asks_nothing_without_a_terminal(bare):
    with pytest.raises(UsageError, match="no terminal"):
        run(bare, "init")
    assert not (bare.root / ".truerun").exists()


def test_init_does_not_make_a_key_where_one_was_named(bare, tmp_path):
    with pytest.raises(SigningKeyError):
        run(bare, "init", "--yes", "--key", str(tmp_path / "absent"))


def test_init_beside_a_lock_says_that_it_begins_another_history(bare, home):
    """A fresh clone has truerun.lock and no ledger: the team's history is elsewhere."""
    bare.write("truerun.lock", "{}")
    assert "begins a new history" in run(bare, "init", "--yes", "--id", "ana").stderr
