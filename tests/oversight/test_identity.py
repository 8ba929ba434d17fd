"""Ids and names that cannot be taken for one another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.oversight.identity import explain_id, explain_name, look_alike


@pytest.mark.parametrize("text", ["ana", "a", "engineer-7", "j.doe", "x_1", "0day", "a" * 64])
def test_plain_ids_are_accepted(text):
    assert explain_id(text) is None


@pytest.mark.parametrize(
    "text", ["", "Ana", "ana ", " ana", "аna", "ana\n", "-ana", "ana.", "a b", "a/b", "a" * 65, "ａna", "ana\u200b"]
)
def test_ids_that_could_be_misread_are_refused(text):
    assert explain_id(text) is not None


@pytest.mark.parametrize("text", ["Ana Petrova", "José", "李雷", "O'Neil", "Zoë-Marie d’Arc"])
def test_names_in_any_writing_are_accepted(text):
    assert explain_name(text) is None


@pytest.mark.parametrize("text", ["", "  ", "a\x1b[31m", "an\u200ba", "ab\u202eba", "a\nb", "x" * 101])
def test_names_with_hidden_characters_are_refused(text):
    assert explain_name(text) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mentor", "Mentor"),
        ("mentor", "mеntor"),
        ("mentor", "rnentor"),
        ("mentor", "men-tor"),
        ("Mira Okafor", "Mira  Okafor"),
        ("Mira Okafor", "Мirа Оkаfоr"),
        ("paul", "pau1"),
        ("Ivan", "lvan"),
        ("ｍira", "mira"),
        ("bob", "b0b"),
        ("wim", "vvim"),
    ],
)
def test_look_alikes_are_seen_both_ways(one, other):
    assert look_alike(one, other)
    assert look_alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("lia", "ila"), ("ana", "anna"), ("engineer-1", "engineer-2"), ("José", "Jose"), ("李雷", "李梅")]
)
def test_different_people_may_have_different_names(one, other):
    assert not look_alike(one, other)


@given(st.text(max_size=30))
def test_everything_looks_like_itself(text):
    assert look_alike(text, text)
