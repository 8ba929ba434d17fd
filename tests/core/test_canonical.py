"""Canonical JSON is RFC 8785: the same bytes as the reference package, invertible, and strict about what it reads."""

import json
import math
import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.canonical import MAX_EXACT_INTEGER, parse_canonical, render_canonical
from truerun.core.errors import FormatError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-MAX_EXACT_INTEGER, MAX_EXACT_INTEGER) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_same_bytes_as_the_reference_package(value):
    assert render_canonical(value) == rfc8785.dumps(value)


@given(VALUES)
def test_rendering_the_parsed_gives_the_same_bytes(value):
    data = render_canonical(value)
    assert render_canonical(parse_canonical(data)) == data


@given(st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]).filter(math.isfinite))
def test_every_double_survives_and_is_written_as_ecmascript_does(number):
    data = render_canonical(number)
    # ECMAScript writes the shortest digits that lead back to the double; read as an integer they may be another number.
    assert float(json.loads(data)) == number
    assert data == rfc8785.dumps(number)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (-0.0, "0"),
        (1e21, "1e+21"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e-7, "1e-7"),
        (0.000001, "0.000001"),
        (5e-324, "5e-324"),
        (1.0, "1"),
    ],
)
def test_numbers_of_rfc_8785_appendix_b(number, text):
    assert render_canonical(number) == text.encode()


def test_keys_sort_by_utf16_code_units():
    """RFC 8785 section 3.2.3: an emoji (surrogate pair) sorts before a private-use letter, unlike by code point."""
    assert render_canonical({"\ue000": 1, "\U0001f600": 2}).decode() == '{"\U0001f600":2,"\ue000":1}'


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 2**53, -(2**53), {1: 2}, "\ud800", {"\udfff": 1}, b"bytes", {1, 2}, object()]
)
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(FormatError):
        render_canonical(value)


def test_nesting_is_bounded():
    value = []
    for _ in range(100):
        value = [value]
    with pytest.raises(FormatError, match="nested too deeply"):
        render_canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"1.0",
        b"1e0",
        b'{"a":1,"a":1}',
        b"NaN",
        b'"\\u0041"',
        b"\xff",
        b"",
        b"[" * 5000,
        b"-0",
        b"1 ",
        b"\xef\xbb\xbf1",
    ],
)
def test_text_that_is_not_canonical_is_refused(data):
    with pytest.raises(FormatError):
        parse_canonical(data)
