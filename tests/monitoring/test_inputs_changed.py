"""Rule inputs-changed: approve A, run B."""

from __future__ import annotations

from truerun.core.change import Action, Change, ChangeKind
from truerun.monitoring.inputs_changed import MAX_SHOWN, check_unchanged


def test_a_swap_is_named_with_its_key() -> None:
    """The learning rate is replaced between admission and start."""
    change = Change(
        kind=ChangeKind.CONFIG, action=Action.MODIFIED, name="config.yaml", key="optimizer.lr", before=0.003, after=0.03
    )
    (finding,) = check_unchanged([change], "before it started")
    assert (finding.subject.kind, finding.subject.name, finding.subject.key) == ("config", "config.yaml", "optimizer.lr")
    assert "0.003 -> 0.03" in finding.message
    assert "before it started" in finding.message


def test_nothing_changed() -> None:
    """The accept twin."""
    assert check_unchanged([], "while it ran") == ()


def test_a_thousand_changes_are_not_a_thousand_findings() -> None:
    """Somebody checked out another branch: the list is cut."""
    changes = [Change(kind=ChangeKind.CODE, action=Action.MODIFIED, name=f"{i}.py") for i in range(1000)]
    assert len(check_unchanged(changes, "while it ran")) == MAX_SHOWN
