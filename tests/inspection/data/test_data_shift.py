"""D6: rows that are distributed otherwise."""

import numpy as np

from truerun.core.finding import Severity
from truerun.inspection.data.data_shift import check_shift


def test_a_shifted_column_is_one_warning_for_its_contributor(growing):
    """One contributor's new values of f22 and f20 are half as large."""
    grown = growing("breast_cancer", new=200, people=2)
    for column in ("f20", "f22"):
        grown.set(column, grown.rows(), lambda value: value * 0.5)
    (finding,) = check_shift(grown.growth())
    assert finding.severity is Severity.WARNING
    assert {"f20", "f22"} <= set(finding.evidence["columns"])
    assert finding.actor.id == grown.someone


def test_honest_growth_is_no_finding(growing):
    for name in ("digits", "wine", "breast_cancer"):
        for seed in range(3):
            assert check_shift(growing(name, seed=seed, new=60, people=2).growth()) == ()


def test_a_contributor_who_always_differed_is_no_finding(growing):
    """Accept twin: one hospital's machine measures twice as much, and always has."""
    grown = growing("breast_cancer", new=200, people=2)
    theirs = np.array([i for i in range(grown.now.height) if grown.now["by"][i] == grown.someone])
    grown.set("f20", theirs, lambda value: value * 2)
    grown.approved = grown.now[: grown.approved.height]
    assert check_shift(grown.growth()) == ()
