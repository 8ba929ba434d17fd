"""What is declared decides what is checked."""

from truerun.core.change import Action, ChangeKind
from truerun.inspection.config.declaration_drift import check_declaration


def test_a_dropped_contributor_column_is_named(change, reference):
    """Somebody undeclares the contributor column, so that rows have no owner any more."""
    changed = change(
        ChangeKind.DECLARATION, name="truerun.toml", key="data.train.contributor", before="added_by", after=None, line=12
    )
    (finding,) = check_declaration([changed], reference)
    assert finding.subject.key == "data.train.contributor"
    assert finding.location.line == 12
    assert "added_by was approved on 2026-11-20 (entry 412)" in finding.message


def test_a_reformatted_declaration_is_no_finding(change, reference):
    formatted = change(ChangeKind.DECLARATION, Action.FORMATTED, name="truerun.toml", before="a", after="b")
    assert check_declaration([formatted], reference) == ()
