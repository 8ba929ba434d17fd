"""E7: the training script edited after approval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.change import Action, ChangeKind
from truerun.inspection.code.code_drift import check_code, first_difference


def test_an_edited_file_is_named_at_its_first_differing_line(change, reference):
    """One line in the middle of train.py is changed."""
    edited = change(ChangeKind.CODE, name="train.py", before="blake3:" + "0" * 64, after="blake3:" + "1" * 64)
    old, new = b"a\nb\nc\n", b"a\nB\nc\n"
    (finding,) = check_code([edited], reference, {"train.py": (old, new)})
    assert finding.location.line == 2
    assert "train.py differs from line 2 on from what was approved on 2026-11-20 (entry 412)" in finding.message


def test_a_line_that_the_change_knows_already_is_used(change, reference):
    (finding,) = check_code([change(ChangeKind.CODE, name="train.py", before="a", after="b", line=9)], reference, {})
    assert finding.location.line == 9


@pytest.mark.parametrize(("action", "words"), [(Action.ADDED, "is new"), (Action.REMOVED, "is gone")])
def test_files_that_came_or_went(change, reference, action, words):
    (finding,) = check_code([change(ChangeKind.CODE, action, name="hook.py")], reference, {})
    assert f"hook.py {words}" in finding.message


@given(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=6), st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=6))
def test_the_first_difference_is_a_line_of_the_new_text(old, new):
    line = first_difference(b"\n".join(old), b"\n".join(new))
    assert 1 <= line <= max(1, len(b"\n".join(new).splitlines()))
