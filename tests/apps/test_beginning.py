"""A beginning overwrites nothing, can be resumed where it was cut short, and refuses people who cannot be."""

import pytest

from truerun.adapters.keys import create_run_key
from truerun.adapters.ledger_files import create_ledger
from truerun.apps.beginning import begin, first_owner, require_nothing_begun
from truerun.core.errors import DeclarationError, PolicyError, UsageError


def owner(bare, signer, **names):
    return first_owner(bare.root, signer.public_key, names.get("id", "ana"), names.get("name", "Ana (made up)"))


def test_what_is_begun_is_not_begun_again(small):
    before = (small.root / "truerun.toml").read_text()
    with pytest.raises(UsageError, match="is a project already"):
        require_nothing_begun(small.root)
    signer = create_run_key()
    with pytest.raises(UsageError, match="exists"):
        begin(small.root, "[project]\n", signer, owner(small, signer))
    assert (small.root / "truerun.toml").read_text() == before


def test_a_beginning_that_was_cut_short_is_completed(bare):
    signer = create_run_key()
    create_ledger(bare.root / ".truerun", project="small", signer=signer, at="2026-11-20T09:30:00Z")
    require_nothing_begun(bare.root)
    begun = begin(bare.root, None, signer, owner(bare, signer))
    assert [person.id for person in begun.project.people().all()] == ["ana"]
    assert len(begun.project.entries()) == 2


def test_the_folder_is_never_committed(small):
    assert (small.root / ".truerun" / ".gitignore").read_text().endswith("*\n")
    assert (small.root / ".truerun" / "log.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("names", [{"id": "Ana Ana"}, {"id": "ana", "name": "\x1b[31m"}, {"id": "../x"}])
def test_impossible_people_are_refused_before_anything_is_written(bare, names):
    signer = create_run_key()
    with pytest.raises(PolicyError, match="cannot be the first owner"):
        begin(bare.root, None, signer, owner(bare, signer, **names))
    assert not (bare.root / ".truerun").exists()


def test_a_bad_declaration_stops_the_beginning(bare):
    bare.write("truerun.toml", "[project]\n")
    signer = create_run_key()
    with pytest.raises(DeclarationError):
        begin(bare.root, None, signer, owner(bare, signer))
    assert not (bare.root / ".truerun").exists()


def test_without_an_id_the_login_serves(bare, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "Ana.Müller")
    person = first_owner(bare.root, create_run_key().public_key, None, None)
    assert person.id == "ana.m-ller"
