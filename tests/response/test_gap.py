"""The protocol gap: which rule did not stop it, shown by which entry, closed by which setting."""

from dataclasses import replace

from truerun.core.actor import Actor, Basis
from truerun.core.declaration import ConfigSection, DataSection
from truerun.core.finding import Severity
from truerun.core.incident import Control
from truerun.core.run import Mode
from truerun.response.gap import find_gaps


def named(story, rule):
    return [gap for gap in find_gaps(story.evidence()) if gap.rule == rule]


def declare(story, **sections):
    story.declaration = replace(story.declaration, **sections)


def test_a_project_that_is_not_critical(story):
    """Nothing holds a run there; the setting is one line."""
    gaps = named(story, "admission")
    assert any("critical = true" in gap.setting and gap.control is Control.ABSENT and gap.entry == 18 for gap in gaps)


def test_a_critical_project_run_to_observe(story):
    """The gate was there and was gone around; in enforce mode there is no such gap."""
    declare(story, project=replace(story.declaration.project, critical=True))
    (gap,) = named(story, "admission")
    assert gap.control is Control.BYPASSED
    assert gap.setting == "truerun run --mode enforce -- python train.py"
    story.mode = Mode.ENFORCE
    assert named(story, "admission") == []


def test_a_lock_that_nobody_approved(story):
    """One gap names both changes and how to look at each lock; the mentor is named separately."""
    (gap,) = named(story, "approval")
    assert gap.control is Control.ABSENT
    assert "optimizer.lr" in gap.explanation
    assert "520 rows" in gap.explanation
    assert gap.entry == 14
    (mentor,) = named(story, "mentor's approval")
    assert "bo" in mentor.explanation


def test_an_approval_by_the_mentor_passed_it(story, approve):
    """With the mentor's yes before the run no approval was absent: it passed, and that is said."""
    story.decide(15, "slip", approve, "bo")
    story.decide(17, "bad", approve, "bo")
    gaps = named(story, "approval")
    assert {gap.control for gap in gaps} == {Control.PASSED}
    assert [gap.entry for gap in gaps] == [17]
    assert named(story, "mentor's approval") == []


def test_a_yes_to_a_later_lock_is_a_yes_to_what_it_holds(story, approve):
    """An approver of the last lock was shown both changes: approval passed it, and only the mentor's is absent."""
    story.decide(17, "bad", approve, "ada")
    gaps = named(story, "approval")
    assert {gap.control for gap in gaps} == {Control.PASSED}
    assert len(gaps) == 1
    assert "ada (entry 17)" in gaps[0].explanation
    assert len(named(story, "mentor's approval")) == 1


def test_a_yes_to_an_earlier_lock_says_nothing(story, approve):
    """The lock before the change was fine."""
    story.decide(13, "tuned", approve, "ada")
    (gap,) = named(story, "approval")
    assert gap.control is Control.ABSENT


def test_an_approval_by_the_author_or_after_the_run_counts_for_nothing(story, approve):
    """The author's own yes, and a yes that came later, leave the gap open."""
    story.decide(15, "slip", approve, "dee")
    story.decide(30, "bad", approve, "bo")
    (gap,) = named(story, "approval")
    assert gap.control is Control.ABSENT


def test_a_check_that_was_only_reported(story):
    """A finding at error level about exactly this change: the check was bypassed by observing."""
    story.find("config-drift", Severity.ERROR, "optimizer.lr")
    (gap,) = named(story, "config-drift")
    assert gap.control is Control.BYPASSED
    story.findings = ()
    story.find("config-drift", Severity.WARNING, "optimizer.lr")
    assert named(story, "config-drift")[0].control is Control.PASSED


def test_a_finding_about_something_else_is_not_credited(story):
    """A finding on another key says nothing about this change."""
    story.find("config-drift", Severity.ERROR, "model.hidden")
    assert named(story, "config-drift") == []


def test_rows_without_declared_columns(story):
    """Without a label or contributor column the checks that would have seen the rows were absent."""
    declare(story, data={"train": DataSection(path="train.parquet")})
    assert any('label = "…"' in gap.setting for gap in named(story, "checks at rest"))
    declare(story, data={"train": DataSection(path="train.parquet", label="label")})
    assert any('contributor = "…"' in gap.setting for gap in named(story, "checks at rest"))


def test_an_unprotected_key(story):
    """Nobody had to approve it, and the setting says how to change that."""
    declare(story, config=ConfigSection(files=("config.yaml",), protected=("data.*",)))
    story.slip = replace(story.slip, protected=False)
    (gap,) = named(story, "protected inputs")
    assert "protected" in gap.setting


def test_outputs_and_metrics_that_nobody_declared(story):
    """Without them no gate compares anything."""
    declare(story, outputs=None, metrics={})
    assert named(story, "outputs gate")[0].control is Control.ABSENT
    assert named(story, "declared metric")[0].control is Control.ABSENT


def test_it_speaks_of_rules_and_never_of_fault(story):
    """No word of any explanation accuses."""
    story.slip = replace(story.slip, actor=Actor(id="dee", basis=Basis.SIGNED))
    words = " ".join(gap.explanation.lower() for gap in find_gaps(story.evidence()))
    assert not {"blame", "culprit", "fault", "guilty", "malicious", "sabotage", "careless"} & set(words.split())
