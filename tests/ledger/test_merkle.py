"""The tree against RFC 6962's definitions written as they stand there, and proofs that must not hold."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.errors import VerificationError
from truerun.ledger import merkle


def naive_root(leaves):
    """MTH of RFC 6962 section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index, leaves):
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m, leaves, whole):
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def build(leaves):
    stored, frontier = [], []
    for index, leaf in enumerate(leaves):
        assert len(stored) == merkle.stored_count(index)
        stored.extend(merkle.new_hashes(index, merkle.leaf_hash(leaf), frontier))
    return stored, frontier


def leaves_of(count):
    return [b"leaf %d" % number for number in range(count)]


SIZES = range(40)


@pytest.mark.parametrize("size", SIZES)
def test_roots_and_proofs_are_those_of_rfc_6962(size):
    leaves = leaves_of(size)
    stored, frontier = build(leaves)

    def read(places):
        return [stored[place] for place in places]

    root = naive_root(leaves)
    assert merkle.fold(frontier) == root == merkle.fold(read(merkle.frontier_places(size)))
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, read)
        assert list(proof) == naive_path(index, leaves)
        merkle.verify_inclusion(merkle.leaf_hash(leaves[index]), index, size, proof, root)
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(old, size, read)
        assert list(proof) == naive_subproof(old, leaves, True)
        merkle.verify_consistency(old, naive_root(leaves[:old]), size, root, proof)


def test_the_published_roots_of_certificate_transparency():
    """Vectors of the Certificate Transparency project: the eight leaves of its reference tree."""
    leaves = [
        bytes.fromhex(text)
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    ]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for size, expected in roots.items():
        assert merkle.fold(build(leaves[:size])[1]).hex() == expected


@given(st.integers(0, 2**40), st.integers(0, 30))
def test_places_count_up_as_hashes_come_to_be(number, level):
    place = merkle.place(level, number)
    first = number << level
    assert merkle.first_leaf(place) == first
    assert merkle.place(0, first) == merkle.stored_count(first)


@given(st.integers(1, 33), st.data())
def test_an_inclusion_proof_with_any_part_changed_does_not_hold(size, data):
    leaves = leaves_of(size)
    stored, frontier = build(leaves)
    root, index = merkle.fold(frontier), data.draw(st.integers(0, size - 1))
    proof = list(merkle.inclusion_proof(index, size, lambda places: [stored[place] for place in places]))
    leaf = merkle.leaf_hash(leaves[index])
    merkle.verify_inclusion(leaf, index, size, proof, root)
    other = data.draw(st.integers(-1, size + 1).filter(lambda value: value != index))
    forged = [
        (merkle.leaf_hash(b"other"), index, size, proof, root),
        (leaf, other, size, proof, root),
        (leaf, index, size, [*proof, root], root),
        (leaf, index, size, proof, merkle.leaf_hash(root)),
    ]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        forged += [
            (leaf, index, size, proof[:at] + proof[at + 1 :], root),
            (leaf, index, size, [*proof[:at], b"\x00" * 32, *proof[at + 1 :]], root),
        ]
    for claim in forged:
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(*claim)


@given(st.integers(2, 33), st.data())
def test_a_rewritten_history_has_no_consistency_proof(size, data):
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*leaves[:changed], b"rewritten", *leaves[changed + 1 :]]
    stored, frontier = build(rewritten)
    proof = merkle.consistency_proof(old, size, lambda places: [stored[place] for place in places])
    merkle.verify_consistency(old, naive_root(rewritten[:old]), size, merkle.fold(frontier), proof)
    with pytest.raises(VerificationError):
        merkle.verify_consistency(old, naive_root(leaves[:old]), size, merkle.fold(frontier), proof)


def test_a_leaf_cannot_pass_for_an_interior_node():
    """Second preimage: a leaf whose bytes are two hashes must not hash like their parent."""
    left, right = merkle.leaf_hash(b"a"), merkle.leaf_hash(b"b")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


def test_a_consistency_proof_for_no_such_trees_is_refused():
    root = merkle.leaf_hash(b"x")
    merkle.verify_consistency(1, root, 1, root, [])
    for old, size, proof in ((0, 1, []), (2, 1, []), (1, 2, []), (1, 1, [root]), (1, 2, [root] * 64), (3, 4, [])):
        with pytest.raises(VerificationError):
            merkle.verify_consistency(old, root, size, root, proof)
    with pytest.raises(ValueError):
        merkle.consistency_proof(2, 1, list)
    with pytest.raises(ValueError):
        merkle.inclusion_proof(1, 1, list)
