"""C1: a key changed in the file. C5: nothing but its looks."""

from truerun.core.actor import Actor, Basis
from truerun.core.change import Action, ChangeKind
from truerun.core.finding import Severity
from truerun.inspection.config.config_drift import check_config


def test_a_changed_key_is_named_with_both_values_line_and_actor(change, reference):
    """Somebody multiplies the learning rate by ten: key, old, new, line, approval and actor are in the finding."""
    actor = Actor(id="engineer-7", basis=Basis.SIGNED)
    changed = change(ChangeKind.CONFIG, key="optimizer.lr", before=0.003, after=0.03, path="config.yaml", line=7, actor=actor)
    (finding,) = check_config([changed], reference)
    assert finding.message == (
        "optimizer.lr is 0.03; 0.003 was approved on 2026-11-20 (entry 412). Approve the change or restore it."
    )
    assert finding.location.line == 7
    assert finding.evidence["declared"] == 0.003
    assert finding.evidence["observed"] == 0.03
    assert finding.actor == actor
    assert finding.severity is Severity.ERROR


def test_a_reformatted_file_is_no_finding(change, reference):
    """Accept twin: comments, order and quoting changed, no value did."""
    formatted = change(ChangeKind.CONFIG, Action.FORMATTED, before="a", after="b")
    assert check_config([formatted], reference) == ()


def test_a_key_the_policy_does_not_protect_is_a_note(change, reference):
    (finding,) = check_config([change(ChangeKind.CONFIG, key="log.every", before=1, after=2, protected=False)], reference)
    assert finding.severity is Severity.NOTE


def test_keys_that_came_or_went_say_so(change, reference):
    added, removed = check_config(
        [
            change(ChangeKind.CONFIG, Action.ADDED, key="clip", after=1.0),
            change(ChangeKind.CONFIG, Action.REMOVED, key="seed", before=7),
        ],
        reference,
    )
    assert "clip is new with 1.0" in added.message
    assert "seed is gone" in removed.message


def test_other_kinds_of_change_are_not_its_business(change, reference):
    assert check_config([change(ChangeKind.CODE, name="train.py", before="a", after="b")], reference) == ()
