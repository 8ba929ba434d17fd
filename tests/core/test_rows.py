"""Rows compare as multisets, by contributor, and say when they were only reordered."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.errors import FormatError
from truerun.core.rows import RowList, diff_rows, parse_rows, render_rows

DIGESTS = st.lists(st.sampled_from(["a", "b", "c", "d"]).map(lambda letter: letter * 32), max_size=12)


def rows(text, by=""):
    return RowList(digests=tuple(letter * 32 for letter in text), contributors=tuple(by))


@given(DIGESTS, st.booleans())
def test_parse_inverts_render(digests, named):
    value = RowList(digests=tuple(digests), contributors=tuple(digest[0] for digest in digests) if named else ())
    assert parse_rows(render_rows(value)) == value


@given(DIGESTS, DIGESTS)
def test_what_was_added_and_removed_accounts_for_every_row(before, after):
    old, new = RowList(digests=tuple(before)), RowList(digests=tuple(after))
    moves = diff_rows(old, new)
    added = Counter(after[row] for group in moves.added.values() for row in group)
    removed = Counter(before[row] for group in moves.removed.values() for row in group)
    assert Counter(before) - removed + added == Counter(after)
    assert not set(added) & set(removed)
    if Counter(before) == Counter(after):
        assert moves.reordered == (before != after)


def test_a_duplicate_of_a_row_is_one_row_more_and_the_last_one_counts():
    assert diff_rows(rows("ab"), rows("aba")).added == {"": (2,)}


def test_rows_are_grouped_by_their_contributor():
    moves = diff_rows(rows("abc", "xyx"), rows("bde", "yxz"))
    assert moves.removed == {"x": (0, 2)}
    assert moves.added == {"x": (1,), "z": (2,)}


def test_an_edited_row_is_no_reordering():
    moves = diff_rows(rows("abc"), rows("adc"))
    assert not moves.reordered
    assert (moves.added, moves.removed) == ({"": (1,)}, {"": (1,)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"algorithm":"other","rows":[],"contributors":[],"by":[]}',
        b'{"algorithm":"rows-blake3-1","rows":["a"],"contributors":["x"],"by":[0,0]}',
        b'{"algorithm":"rows-blake3-1","rows":["a"],"contributors":[],"by":[3]}',
    ],
)
def test_what_is_no_row_list_is_refused(data):
    with pytest.raises(FormatError):
        parse_rows(data)
