"""K2: weights altered before they are loaded."""

import pytest

from truerun.core.change import Action, ChangeKind
from truerun.inspection.weights.checkpoint_drift import check_checkpoints


@pytest.mark.parametrize(
    ("action", "words"),
    [(Action.MODIFIED, "does not hold the bytes"), (Action.ADDED, "is new"), (Action.REMOVED, "is gone")],
)
def test_another_file_is_named(change, reference, action, words):
    swapped = change(ChangeKind.CHECKPOINT, action, name="weights/init.safetensors", before="a", after="b")
    (finding,) = check_checkpoints([swapped], reference)
    assert f"weights/init.safetensors {words}" in finding.message
    assert "approved on 2026-11-20 (entry 412)" in finding.message


def test_the_approved_file_is_no_finding(reference):
    assert check_checkpoints([], reference) == ()
