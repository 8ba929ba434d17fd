"""Which coordinates are looked at: a pure function of a secret nonce and the tensors' sizes.

Probe and agent compute the same answer, so the agent knows what it asked for and no list of indices has to travel.
SHAKE-128 (FIPS 202) stretches the nonce; multiply-and-shift maps 64 random bits to a range (Lemire, arXiv:1805.10941).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

MIN_PER_TENSOR = 4


def share_out(sizes: Sequence[int], coordinates: int) -> list[int]:
    """How many of about *coordinates* go to each tensor: by size, at least four (or all) of each, so that none is left out."""
    total = sum(sizes) or 1
    return [min(size, max(MIN_PER_TENSOR, coordinates * size // total)) for size in sizes]


def draw_coordinates(nonce: bytes, sizes: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """For each tensor of `sizes[i]` elements, `counts[i]` flat positions in [0, sizes[i]), with replacement."""
    words = struct.unpack(f"<{sum(counts)}Q", hashlib.shake_128(nonce).digest(8 * sum(counts)))
    drawn: list[list[int]] = []
    at = 0
    for size, count in zip(sizes, counts, strict=True):
        drawn.append([(word * size) >> 64 for word in words[at : at + count]])
        at += count
    return drawn
