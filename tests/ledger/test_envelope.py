"""Envelopes: in-toto and DSSE as others read them, laws, and forgeries."""

import base64
import contextlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.material import ANA, BEN, LOCK, ORIGIN, added, created, decided, proposed, revoked

from truerun.core.digest import digest_bytes
from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    Statement,
    pae,
    parse_envelope,
    parse_statement,
    render_envelope,
    render_statement,
    sign_statement,
    verify_envelope,
)
from truerun.ledger.sshsig import parse_sshsig
from truerun.ledger.tree_head import TreeHead

SEEN = TreeHead(origin=ORIGIN, size=4, root=b"\x01" * 32)
STATEMENT = Statement(fact=proposed(parent=digest_bytes(b"before"), note="ünï"), seen=SEEN)
DATA = sign_statement(STATEMENT, ANA)


def test_it_is_an_in_toto_statement_whose_subjects_are_the_ledger_and_the_digests_of_the_fact():
    envelope = json.loads(DATA)
    payload = base64.b64decode(envelope["payload"])
    statement = json.loads(payload)
    assert rfc8785.dumps(envelope) == DATA
    assert rfc8785.dumps(statement) == payload
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:truerun:lock-proposed:1"
    assert statement["subject"] == [
        {"name": ORIGIN, "digest": {"rfc6962-sha256": "01" * 32}, "annotations": {"size": 4}},
        {"name": "lock", "digest": {"sha256": LOCK.value}},
        {"name": "parent", "digest": {"sha256": digest_bytes(b"before").value}},
    ]


def test_the_example_of_the_dsse_specification():
    """PAE of protocol.md with our payload type in the place of its example's."""
    assert pae(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"


@pytest.mark.parametrize("fact", [created(), added("ana"), revoked(1), proposed(), decided()])
def test_what_was_signed_is_what_is_read(fact):
    statement = Statement(fact=fact, seen=SEEN)
    data = sign_statement(statement, BEN)
    envelope = parse_envelope(data)
    assert verify_envelope(envelope) == statement
    assert envelope.key == BEN.public_key
    assert render_envelope(envelope) == data
    assert parse_statement(render_statement(statement)) == statement


def test_every_changed_bit_is_refused():
    verify_envelope(parse_envelope(DATA))
    for bit in range(8 * len(DATA)):
        changed = bytearray(DATA)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, VerificationError)):
            verify_envelope(parse_envelope(bytes(changed)))


def resigned(**changes):
    """The statement with *changes*, properly signed by Ana: only strictness can refuse it."""
    payload = rfc8785.dumps({**json.loads(render_statement(STATEMENT)), **changes})
    return Envelope(payload=payload, signature=parse_sshsig(ANA.sign(pae(payload))))


def test_a_signed_statement_in_another_form_is_refused():
    assert verify_envelope(resigned()) == STATEMENT
    subjects = json.loads(render_statement(STATEMENT))["subject"]
    fact = json.loads(render_statement(STATEMENT))["predicate"]
    for changes in (
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "urn:truerun:lock-proposed:2"},
        {"predicateType": "urn:truerun:unknown:1"},
        {"predicateType": 1},
        {"predicate": {**fact, "extra": 1}},
        {"predicate": {key: value for key, value in fact.items() if key != "at"}},
        {"predicate": []},
        {"subject": []},
        {"subject": subjects[1:]},
        {"subject": subjects[:2]},
        {"subject": [*subjects, subjects[1]]},
        {"subject": [{**subjects[0], "extra": 1}, *subjects[1:]]},
        {"subject": [{**subjects[0], "annotations": {"size": -1}}, *subjects[1:]]},
        {"subject": [{**subjects[0], "annotations": {"size": True}}, *subjects[1:]]},
        {"subject": [{**subjects[0], "digest": {"rfc6962-sha256": "xx" * 32}}, *subjects[1:]]},
        {"subject": [{**subjects[0], "digest": {"rfc6962-sha256": "AB" * 32}}, *subjects[1:]]},
        {"subject": 3},
        {"extra": 1},
    ):
        with pytest.raises(FormatError):
            verify_envelope(resigned(**changes))


def test_a_field_that_was_added_later_with_a_default_may_be_absent():
    """Entries of older releases stay readable; `note` has a default and stands for a field of tomorrow."""
    fact = json.loads(render_statement(STATEMENT))["predicate"]
    del fact["note"]
    assert verify_envelope(resigned(predicate=fact)).fact == proposed(parent=digest_bytes(b"before"))


def test_an_envelope_in_another_form_is_refused():
    whole = json.loads(DATA)
    signature = whole["signatures"][0]
    for changes in (
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": [signature, signature]},
        {"signatures": [{**signature, "keyid": "SHA256:AAAA"}]},
        {"signatures": [{"sig": signature["sig"]}]},
        {"signatures": [{**signature, "sig": "AAAA"}]},
        {"payload": whole["payload"].rstrip("=") + "!"},
        {"payload": 3},
        {"extra": 1},
    ):
        with pytest.raises(FormatError):
            parse_envelope(rfc8785.dumps({**whole, **changes}))
    for text in (
        json.dumps(whole).encode(),
        DATA + b"\n",
        b"",
        b"null",
        b"[]",
        b"\xff",
        DATA.replace(b'"sig"', b'"sig":"","sig"', 1),
    ):
        with pytest.raises(FormatError):
            parse_envelope(text)


def test_a_signature_for_another_payload_is_refused():
    other = sign_statement(Statement(fact=decided(), seen=SEEN), ANA)
    verify_envelope(parse_envelope(other))
    swapped = Envelope(payload=parse_envelope(DATA).payload, signature=parse_envelope(other).signature)
    with pytest.raises(VerificationError):
        verify_envelope(swapped)


def test_an_entry_of_a_gigabyte_is_refused_before_it_is_signed():
    class Refusing:
        public_key = ANA.public_key

        def sign(self, message):
            raise AssertionError("signed")

    assert sign_statement(Statement(fact=proposed(note="x" * 1000), seen=SEEN), ANA)
    with pytest.raises(FormatError, match="too large") as refused:
        sign_statement(Statement(fact=proposed(note="x" * MAX_ENVELOPE_BYTES), seen=SEEN), Refusing())
    assert "store the large part as an object" in str(refused.value)
    with pytest.raises(FormatError, match="too large"):
        parse_envelope(b" " * (MAX_ENVELOPE_BYTES + 1))


@given(st.binary(max_size=100), st.data())
def test_random_and_changed_envelopes_are_refused_or_canonical(noise, data):
    whole = bytearray(DATA)
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    for candidate in (noise, bytes(whole)):
        with contextlib.suppress(FormatError):
            assert render_envelope(parse_envelope(candidate)) == candidate


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["_type", "predicate", "predicateType", "subject", "new"]))
def test_no_signed_json_crashes_the_reader(value, field):
    with contextlib.suppress(FormatError):
        verify_envelope(resigned(**{field: value}))


@given(JSON)
def test_no_payload_crashes_the_reader(value):
    with pytest.raises(FormatError):
        parse_statement(rfc8785.dumps(value))
