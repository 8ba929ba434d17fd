"""Which coordinates are looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from truerun.adapters.pytorch.sampling import draw_coordinates, share_out

SIZES = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.binary(min_size=16, max_size=16), SIZES, st.integers(1, 300))
def test_every_tensor_and_never_outside(nonce: bytes, sizes: list[int], coordinates: int) -> None:
    """Each tensor gets its share, at least four or all; positions are inside; the same nonce gives the same answer."""
    counts = share_out(sizes, coordinates)
    assert all(count >= min(size, 4) for size, count in zip(sizes, counts, strict=True))
    drawn = draw_coordinates(nonce, sizes, counts)
    assert [len(flat) for flat in drawn] == counts
    assert all(0 <= position < size for flat, size in zip(drawn, sizes, strict=True) for position in flat)
    assert draw_coordinates(nonce, sizes, counts) == drawn


def test_another_nonce_gives_other_coordinates() -> None:
    """Who does not hold the nonce cannot tell where it will be looked."""
    assert draw_coordinates(b"a" * 16, [10**6], [64]) != draw_coordinates(b"b" * 16, [10**6], [64])


def test_positions_are_spread() -> None:
    """Over many nonces every tenth of a tensor is met about equally often."""
    tenths = [0] * 10
    for number in range(200):
        for position in draw_coordinates(number.to_bytes(16, "big"), [1000], [50])[0]:
            tenths[position // 100] += 1
    assert max(tenths) < 1.2 * min(tenths)
