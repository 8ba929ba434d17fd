"""The Merkle tree of RFC 6962 section 2.1: hashes, where they are stored, proofs and their verification. Pure.

Interior nodes are stored as soon as their subtree is complete and never change. Their place in the store is the order
in which they come to be (leaf, then every parent it completes), as in Go's `golang.org/x/mod/sumdb/tlog`:

```
level 2          6
level 1      2       5       9
level 0    0   1   3   4   7   8   10
```

A hash reader is any function from places to hashes. Proof verification follows RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from truerun.core.errors import VerificationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF_HASHES = 63
HashReader = Callable[[Sequence[int]], Sequence[bytes]]


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 interior node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def place(level: int, number: int) -> int:
    """Where the hash of leaves `number * 2**level` up to `(number + 1) * 2**level` is stored."""
    last_leaf = ((number + 1) << level) - 1
    return stored_count(last_leaf) + level


def stored_count(size: int) -> int:
    """How many hashes a tree of *size* leaves stores: every complete subtree."""
    return 2 * size - size.bit_count()


def first_leaf(stored_place: int) -> int:
    """The first leaf under the hash stored at *stored_place*."""
    low, high = 0, stored_place + 1
    while high - low > 1:  # the leaf that wrote it: the largest leaf stored at or before it
        middle = (low + high) // 2
        low, high = (middle, high) if stored_count(middle) <= stored_place else (low, middle)
    level = stored_place - stored_count(low)
    return (low >> level) << level


def new_hashes(size: int, leaf: bytes, frontier: list[bytes]) -> list[bytes]:
    """
    Append one leaf hash to a tree of *size* leaves: the hashes to store, in order; *frontier* is brought up to date.

    *frontier* holds the roots of the complete subtrees of the tree, largest first (`frontier_places` says where).
    """
    stored = [leaf]
    while size & 1:
        stored.append(node_hash(frontier.pop(), stored[-1]))
        size >>= 1
    frontier.append(stored[-1])
    return stored


def frontier_places(size: int) -> list[int]:
    """Where the roots of the complete subtrees of a tree of *size* leaves are stored, largest first."""
    return _cover(0, size)


def fold(frontier: Sequence[bytes]) -> bytes:
    """The root over subtree roots, largest first; the empty tree's root for none."""
    if not frontier:
        return EMPTY_ROOT
    root = frontier[-1]
    for subtree in reversed(frontier[:-1]):
        root = node_hash(subtree, root)
    return root


def _cover(start: int, stop: int) -> list[int]:
    """Places of the complete subtrees that make up leaves *start* to *stop*, where *start* is aligned as RFC 6962 splits."""
    places = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        places.append(place(level, start >> level))
        start += 1 << level
    return places


def _split(size: int) -> int:
    """The largest power of two smaller than *size* (RFC 6962's k)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, read: HashReader) -> tuple[bytes, ...]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1; ValueError unless 0 <= index < size."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    ranges: list[tuple[int, int]] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start = middle
    return tuple(fold(read(_cover(*leaves))) for leaves in reversed(ranges))


def consistency_proof(old_size: int, size: int, read: HashReader) -> tuple[bytes, ...]:
    """PROOF(old_size, D[size]) of RFC 6962 section 2.1.2; ValueError unless 0 < old_size <= size."""
    if not 0 < old_size <= size:
        raise ValueError(f"no consistency proof from {old_size} to {size}")
    ranges: list[tuple[int, int]] = []
    start, stop, whole = 0, size, True
    while stop != old_size:
        middle = start + _split(stop - start)
        if old_size <= middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    if not whole:
        ranges.append((start, stop))
    return tuple(fold(read(_cover(*leaves))) for leaves in reversed(ranges))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise VerificationError unless *proof* shows that leaf hash *leaf* is number *index* of the tree (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > MAX_PROOF_HASHES:
        raise VerificationError("an inclusion proof for no such leaf", got=f"leaf {index} of {size}")
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise VerificationError("an inclusion proof that is too long", got=f"{len(proof)} hashes")
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or result != root:
        raise VerificationError("an inclusion proof that does not hold", got=result.hex(), expected=root.hex())


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise VerificationError unless the tree of *size* extends that of *old_size* (RFC 9162 section 2.1.4.2)."""
    if not 0 < old_size <= size or len(proof) > MAX_PROOF_HASHES:
        raise VerificationError("a consistency proof between no such trees", got=f"from {old_size} to {size}")
    hashes = list(proof)
    if old_size == size:
        if hashes or old_root != root:
            raise VerificationError("two tree heads of one size that differ", got=root.hex(), expected=old_root.hex())
        return
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        raise VerificationError("a consistency proof that is too short", got="0 hashes")
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old, new = hashes[0], hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise VerificationError("a consistency proof that is too long", got=f"{len(proof)} hashes")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or old != old_root or new != root:
        raise VerificationError(
            "a consistency proof that does not hold: history was rewritten", got=new.hex(), expected=root.hex()
        )
