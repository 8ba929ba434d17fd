"""Frames between probe and agent: invertible, bounded, never pickle."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.adapters.pytorch.frames import MAX_HEADER_BYTES, PREFIX, Frame, parse_frames, render_frame
from truerun.core.errors import FormatError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
HEADERS = st.dictionaries(st.text().filter(lambda name: name not in ("kind", "buffers")), JSON, max_size=4)
BUFFERS = st.dictionaries(
    st.text(min_size=1),
    st.one_of(
        st.lists(st.floats(width=32), max_size=5).map(lambda v: ("f4", struct.pack(f"<{len(v)}f", *v))),
        st.lists(st.floats(), max_size=5).map(lambda v: ("f8", struct.pack(f"<{len(v)}d", *v))),
    ),
    max_size=4,
)


@given(HEADERS, BUFFERS, st.binary(max_size=7))
def test_parse_is_the_inverse_of_render(header: dict, buffers: dict, rest: bytes) -> None:
    """Any header and buffers come back exactly, and what is not a whole frame yet stays."""
    data = render_frame({"kind": "sample", **header}, buffers)
    frames, left = parse_frames(data + data + rest)
    assert [(dict(f.header), dict(f.buffers)) for f in frames] == [({"kind": "sample", **header}, buffers)] * 2
    assert left == rest


@given(st.binary(max_size=60))
def test_hostile_bytes_are_refused_or_incomplete(data: bytes) -> None:
    """Whatever arrives: frames, a rest, or FormatError; nothing else."""
    try:
        frames, rest = parse_frames(data)
    except FormatError:
        return
    assert all(isinstance(frame, Frame) for frame in frames)
    assert data.endswith(rest)


@pytest.mark.parametrize(
    "data",
    [
        PREFIX.pack(MAX_HEADER_BYTES + 1, 0),
        PREFIX.pack(2, 0) + b"[]",
        PREFIX.pack(2, 0) + b"{}",
        PREFIX.pack(3, 0) + b"\x80\x04.",
        PREFIX.pack(12, 4) + b'{"kind":"x"}' + b"abcd",
        PREFIX.pack(38, 4) + b'{"kind":"x","buffers":[["g","f4",-4]]}' + b"abcd",
    ],
    ids=["too large", "a list", "no kind", "a pickle", "a body nobody announced", "a negative size"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    """Each way of not being a frame."""
    with pytest.raises(FormatError):
        parse_frames(data)
