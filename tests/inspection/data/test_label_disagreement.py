"""D1: labels flipped by one contributor; honest contributors and honest corrections are left alone."""

import pytest

from truerun.core.actor import Basis
from truerun.core.finding import Severity
from truerun.inspection.data.label_disagreement import check_labels


def alarms(growth):
    return [finding for finding in check_labels(growth) if finding.severity.rank >= Severity.WARNING.rank]


def wrong(grown, classes=10):
    return lambda label: (label + int(grown.draw.integers(1, classes))) % classes


def test_random_flips_name_the_contributor_and_the_rows(growing):
    """A third of one contributor's new rows get a random wrong label."""
    grown = growing()
    flipped = grown.rows(0.33)
    grown.set("label", flipped, wrong(grown))
    (finding,) = alarms(grown.growth())
    assert finding.severity is Severity.ERROR
    assert (finding.actor.id, finding.actor.basis) == (grown.someone, Basis.CONTRIBUTOR)
    assert len(set(finding.location.rows) & set(flipped.tolist())) >= 0.9 * len(flipped)
    assert len(set(finding.location.rows) - set(flipped.tolist())) <= 0.2 * len(flipped)


def test_one_pair_of_classes(growing):
    """All of one contributor's 3s are labelled 8."""
    grown = growing(new=400, people=2)
    rows = [int(row) for row in grown.rows() if grown.now["label"][int(row)] == 3]
    grown.set("label", rows, lambda _: 8)
    (finding,) = alarms(grown.growth())
    assert finding.actor.id == grown.someone
    assert set(rows) & set(finding.location.rows)


def test_ten_approved_labels_edited_in_place(growing):
    """Nothing is added: ten approved rows get another label, which is under one per cent of all."""
    grown = growing()
    rows = grown.draw.choice(grown.approved.height, 10, replace=False)
    grown.edit_in_place("label", rows, wrong(grown))
    (finding,) = alarms(grown.growth())
    assert len(set(finding.location.rows) & set(rows.tolist())) >= 9


def test_correcting_wrong_labels_is_no_finding(growing):
    """Accept twin: approved labels were wrong, and somebody puts them right."""
    grown = growing()
    rows = grown.draw.choice(grown.approved.height, 20, replace=False)
    right = grown.approved
    grown.edit_in_place("label", rows, wrong(grown))
    grown.approved, grown.now = grown.now, right
    assert alarms(grown.growth()) == []


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
def test_honest_growth_is_no_finding(growing, name):
    """Accept twin: more rows of the same kind, by the same people."""
    for seed in range(2):
        assert alarms(growing(name, seed=seed, new=50).growth()) == []


def test_what_cannot_be_told_is_a_note(growing):
    """A label that is a measurement, or features that say nothing about it."""
    grown = growing("wine", new=40)
    (note,) = check_labels(grown.growth(label="f0"))
    assert note.severity is Severity.NOTE
    assert "could not be told" in note.message
    shuffled = growing("digits")
    shuffled.approved = shuffled.approved.with_columns(shuffled.approved["label"].shuffle(seed=1))
    (note,) = check_labels(shuffled.growth())
    assert note.severity is Severity.NOTE


def test_without_a_contributor_column_the_new_rows_are_judged_together(growing):
    grown = growing()
    grown.added = {"": grown.rows()}
    grown.set("label", grown.added[""][:30], wrong(grown))
    (finding,) = alarms(grown.growth(contributor=None))
    assert finding.actor is None
