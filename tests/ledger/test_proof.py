"""Proofs of one entry: laws and forgeries."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.material import BEN, LOG_KEY, ORIGIN, decided, make_ledger

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.note import NoteSigner
from truerun.ledger.proof import InclusionProof, parse_proof, render_proof, verify_proof


def proof_of(ledger, index):
    return InclusionProof(
        index=index,
        envelope=ledger.entry(index).envelope,
        hashes=ledger.prove_inclusion(index),
        tree_head=ledger.signed_tree_head(),
    )


PROOF = proof_of(make_ledger(), 5)


def test_it_is_a_tlog_proof_that_holds(ledger):
    lines = render_proof(PROOF).decode().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[2] == "index 5"
    assert ORIGIN in lines
    for index in range(6):
        proof = proof_of(ledger, index)
        assert verify_proof(parse_proof(render_proof(proof)), LOG_KEY.key) == ledger.entry(index)


def test_a_forged_proof_is_refused(ledger):
    """Another entry, another place, another head or another log: none of it passes as proof of Ben's approval."""
    verify_proof(PROOF, LOG_KEY.key)
    other_log = NoteSigner(ORIGIN, b"\x08" * 32)
    for forged in (
        dataclasses.replace(PROOF, envelope=ledger.entry(4).envelope),
        dataclasses.replace(PROOF, index=4),
        dataclasses.replace(PROOF, index=6),
        dataclasses.replace(PROOF, hashes=PROOF.hashes[:-1]),
        dataclasses.replace(PROOF, hashes=(*PROOF.hashes, b"\x00" * 32)),
        proof_of(make_ledger(log_key=other_log), 5),
    ):
        with pytest.raises(VerificationError):
            verify_proof(forged, LOG_KEY.key)


def test_an_entry_of_another_ledger_proves_nothing():
    """The holder of a log key takes up an approval that was signed for another ledger."""
    foreign = make_ledger(log_key=NoteSigner("truerun/other/0000", b"\x08" * 32)).append(decided(), BEN).envelope
    from truerun.ledger import merkle
    from truerun.ledger.tree_head import TreeHead, sign_tree_head

    head = TreeHead(origin=ORIGIN, size=1, root=merkle.leaf_hash(foreign))
    proof = InclusionProof(index=0, envelope=foreign, hashes=(), tree_head=sign_tree_head(head, LOG_KEY))
    with pytest.raises(VerificationError, match="another ledger"):
        verify_proof(proof, LOG_KEY.key)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 5", b"index 05"),
        (b"index 5", b"index -5"),
        (b"index 5", b"index 99999999999999999999"),
        (b"extra ", b"other "),
        (b"index 5\n", b"index 5\nAAAA\n"),
        (b"\n\n", b"\n"),
        (b"c2sp", b"\xff"),
    ],
)
def test_a_malformed_proof_is_refused(old, new):
    text = render_proof(PROOF)
    assert parse_proof(text) == PROOF
    assert old in text
    with pytest.raises(FormatError):
        parse_proof(text.replace(old, new) if old == b"\n\n" else text.replace(old, new, 1))


@given(st.binary(max_size=100), st.data())
def test_random_and_changed_proofs_are_refused_or_canonical(noise, data):
    whole = bytearray(render_proof(PROOF))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    for candidate in (noise, bytes(whole)):
        try:
            proof = parse_proof(candidate)
        except FormatError:
            continue
        assert render_proof(proof) == candidate
        if proof != PROOF:
            with pytest.raises((FormatError, VerificationError)):
                verify_proof(proof, LOG_KEY.key)
