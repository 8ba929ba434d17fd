"""Rows that are not the approved ones, whatever is in them."""

from truerun.core.actor import Actor, Basis
from truerun.core.change import Action, ChangeKind
from truerun.core.finding import Severity
from truerun.inspection.data.data_drift import check_data

ANA, BO = (Actor(id=name, basis=Basis.CONTRIBUTOR) for name in ("ana", "bo"))


def rows(change, action, count, who, first=()):
    value = {"count": count, "rows": "sha256:" + "0" * 64}
    added = action is Action.ROWS_ADDED
    return change(
        ChangeKind.DATA,
        action,
        name="train",
        key=who.id,
        before=None if added else value,
        after=value if added else None,
        path="data/train.parquet",
        actor=who,
        detail={"first_rows": list(first)},
    )


def test_a_link_to_other_rows_is_named(change, reference):
    """The approved file's name leads to a file in which some rows are others: how many, whose, and where."""
    changes = [rows(change, Action.ROWS_ADDED, 3, ANA, (7, 4, 5)), rows(change, Action.ROWS_REMOVED, 1, BO)]
    (finding,) = check_data(changes, reference)
    assert finding.severity is Severity.ERROR
    assert "3 rows added, contributed by ana; 1 row removed, contributed by bo" in finding.message
    assert "approved on 2026-11-20 (entry 412)" in finding.message
    assert (finding.location.path, finding.location.rows) == ("data/train.parquet", (4, 5, 7))
    assert finding.actor is None, "two people's rows have no one actor"


def test_one_contributor_is_the_actor(change, reference):
    (finding,) = check_data([rows(change, Action.ROWS_ADDED, 3, ANA)], reference)
    assert finding.actor == ANA


def test_another_order_is_named(change, reference):
    (finding,) = check_data([change(ChangeKind.DATA, name="train", detail={"what": "order of rows"})], reference)
    assert "the order of rows changed" in finding.message


def test_a_file_written_anew_is_no_finding(change, reference):
    """The accept twin: the same rows in another file format, or nothing at all."""
    assert check_data([change(ChangeKind.DATA, Action.FORMATTED, name="train")], reference) == ()
    assert check_data([], reference) == ()
