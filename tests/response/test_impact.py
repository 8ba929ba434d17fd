"""The impact: what tainted runs cost. A clean run after the recovery is not one of them."""

from truerun.core.attribution import AttributionVerdict
from truerun.response.impact import measure_impact


def test_tainted_runs_are_counted_and_clean_ones_are_not(story):
    """Only the degraded run holds the convicted changes: neither its reference nor the recovered run does."""
    impact = measure_impact(story.evidence())
    assert impact.runs == ("r-bad",)
    assert impact.steps == 1200
    assert impact.hours * 3600 == 90
    assert impact.reruns == 9
    assert impact.checkpoints == ("out/model.pt",)


def test_the_run_itself_counts_even_when_nothing_is_convicted(story):
    """What went wrong cost what it cost."""
    story.verdict = AttributionVerdict.CANNOT_TELL
    assert measure_impact(story.evidence()).runs == ("r-bad",)


def test_taint_follows_parents(story):
    """A lock built upon a harmful one is tainted; the one before it and the recovery's are not."""
    evidence = story.evidence()
    tainted = {str(record.fact.lock): evidence.is_tainted(record.fact.lock) for record in evidence.history.all_proposals()}
    assert list(tainted.values()) == [False, False, True, True, False]
