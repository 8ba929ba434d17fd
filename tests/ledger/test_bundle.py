"""Exported ledgers: verified with the file alone, and refused when anything in it was touched."""

import json

import pytest
import rfc8785
from tests.ledger.material import ANA, LOG_KEY, ORIGIN, make_ledger, revoked

from truerun.core.errors import FormatError, LedgerCorruptError, VerificationError
from truerun.ledger.bundle import render_bundle, verify_bundle
from truerun.ledger.ledger import Ledger
from truerun.ledger.note import NoteSigner, render_note_key
from truerun.ledger.store import MemoryStore

LINES = list(render_bundle(make_ledger()))


def test_a_bundle_holds_the_whole_ledger_and_verifies_alone(ledger):
    assert list(render_bundle(ledger)) == LINES
    assert len(LINES) == 7
    read = verify_bundle(LINES, log_key=render_note_key(LOG_KEY.key))
    assert list(read.entries()) == list(ledger.entries())
    assert read.signed_tree_head() == ledger.signed_tree_head()
    assert all(rfc8785.dumps(json.loads(line)) + b"\n" == line for line in LINES)


def test_entries_recorded_while_it_is_written_are_left_for_the_next(ledger):
    lines = render_bundle(ledger)
    first = next(lines)
    ledger.append(revoked(1), ANA)
    assert len(list(verify_bundle([first, *lines]).entries())) == 6


def edited(number, **changes):
    line = rfc8785.dumps({**json.loads(LINES[number]), **changes}) + b"\n"
    return [*LINES[:number], line, *LINES[number + 1 :]]


@pytest.mark.parametrize(
    ("lines", "index"),
    [
        (LINES[:-1], 5),
        ([LINES[0], *LINES[2:]], 0),
        ([*LINES, LINES[-1]], 6),
        ([*LINES[:3], LINES[4], LINES[3], *LINES[5:]], 2),
        (edited(3, envelope="{}"), 2),
        (edited(3, index=7), 2),
        (edited(3, proof=[]), 2),
        (edited(3, proof=["AAAA"]), 2),
        (edited(3, proof=["!"]), 2),
        (edited(3, proof=None), 2),
        (edited(3, extra=1), 2),
        ([*LINES[:3], LINES[3][:-1], *LINES[4:]], 2),
        ([*LINES[:3], b" " + LINES[3], *LINES[4:]], 2),
    ],
)
def test_a_touched_entry_is_named(lines, index):
    verify_bundle(LINES)
    with pytest.raises(LedgerCorruptError) as refused:
        verify_bundle(lines)
    assert refused.value.index == index


def test_another_ledger_in_its_place_is_refused_by_whoever_knows_the_log_key():
    other = make_ledger(log_key=NoteSigner(ORIGIN, b"\x08" * 32))
    verify_bundle(render_bundle(other))
    with pytest.raises(VerificationError, match="another log key"):
        verify_bundle(render_bundle(other), log_key=render_note_key(LOG_KEY.key))
    with pytest.raises(VerificationError):
        verify_bundle(edited(0, log_key=render_note_key(NoteSigner(ORIGIN, b"\x08" * 32).key)))


@pytest.mark.parametrize(
    "first",
    [b"", b"{}\n", b"null\n", b"\xff\n", b"text\n", edited(0, kind="other")[0], edited(0, schema=2)[0], edited(0, size=0)[0]],
)
def test_what_is_no_bundle_is_refused(first):
    with pytest.raises(FormatError):
        verify_bundle([first, *LINES[1:]])


def test_a_bundle_is_to_read_only():
    ledger = verify_bundle(LINES)
    with pytest.raises(Exception, match="opened to read"):
        ledger.append(revoked(1), ANA)
    assert len(Ledger(MemoryStore())) == 0
