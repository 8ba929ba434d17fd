"""A project's ledger on disk: made once, opened to write or to read, continued after an interrupted beginning."""

import pytest
from tests.ledger.material import ANA, AT, revoked

from truerun.adapters.keys import create_log_key, load_log_key
from truerun.adapters.ledger_files import create_ledger, open_ledger
from truerun.core.errors import InputError, SigningKeyError, UsageError


def create(folder):
    return create_ledger(folder, project="digits", signer=ANA, at=AT)


def test_it_is_made_with_its_first_entry_and_opened_again(tmp_path):
    made = create(tmp_path / ".truerun")
    opened = open_ledger(tmp_path / ".truerun")
    assert opened.entry(0).fact.project == "digits"
    assert opened.origin == made.origin
    assert opened.append(revoked(1), ANA).index == 1
    assert len(made) == 2
    assert (tmp_path / ".truerun" / "log.key").stat().st_mode & 0o777 == 0o600


def test_it_is_never_made_twice(tmp_path):
    create(tmp_path)
    with pytest.raises(UsageError, match="there is a ledger already"):
        create(tmp_path)
    assert len(open_ledger(tmp_path)) == 1


def test_an_interrupted_beginning_is_continued_with_the_key_that_is_there(tmp_path):
    key = create_log_key(tmp_path / "log.key", "truerun/digits/0000")
    assert create(tmp_path).origin == "truerun/digits/0000" == load_log_key(tmp_path / "log.key").key.name == key.key.name


def test_reading_needs_no_log_key_and_writing_does(tmp_path):
    create(tmp_path)
    (tmp_path / "log.key").unlink()
    reader = open_ledger(tmp_path, read_only=True)
    reader.verify()
    with pytest.raises(SigningKeyError, match="no log key"):
        reader.append(revoked(1), ANA)
    with pytest.raises(SigningKeyError, match="cannot be read"):
        open_ledger(tmp_path)


def test_a_log_key_of_another_ledger_records_nothing(tmp_path):
    create(tmp_path / "one")
    create(tmp_path / "two")
    (tmp_path / "one" / "log.key").write_text((tmp_path / "two" / "log.key").read_text())
    with pytest.raises(SigningKeyError, match="not this ledger's"):
        open_ledger(tmp_path / "one").append(revoked(1), ANA)
    assert len(open_ledger(tmp_path / "one")) == 1


def test_where_there_is_none_is_said(tmp_path):
    with pytest.raises(InputError, match="no ledger"):
        open_ledger(tmp_path)
