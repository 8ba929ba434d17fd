"""The story: three sentences, the timeline, who can say more, the way back; each a pure function of what is recorded."""

from dataclasses import replace

from truerun.core.attribution import AttributionVerdict
from truerun.response.incident import build_incident


def test_three_sentences(story):
    """What happened, what explains it, what follows."""
    incident = build_incident(story.evidence())
    what, why, next_ = incident.summary
    assert "0.741, 0.197 worse than run r-base (0.938)" in what
    assert why.startswith("Two of the 3 changes")
    assert "optimizer.lr 0.003 -> 0.3 (99.9%)" in why
    assert "entry 18" in next_
    assert "back within tolerance" in next_
    assert incident.headline == "Two changes cost run r-bad 0.197 of val_accuracy"


def test_before_a_recovery_it_says_what_to_type(story):
    """The last sentence is the next step."""
    story.recover = False
    incident = build_incident(story.evidence())
    assert "truerun recover r-bad" in incident.summary[2]
    assert incident.recovered is None


def test_before_a_trace_it_names_nothing(story):
    """Without an attribution there are changes and no suspects."""
    incident = build_incident(replace(story.evidence(), attribution=None))
    assert "truerun trace r-bad" in incident.summary[1]
    assert incident.voices[0].can_tell == ("started run r-bad (entry 18)",)


def test_cannot_tell_is_said_as_it_is(story):
    """A high probability in an undecided trace convicts nobody."""
    story.verdict = AttributionVerdict.CANNOT_TELL
    incident = build_incident(story.evidence())
    assert "could not tell" in incident.summary[1]
    assert incident.headline == "Run r-bad lost 0.197 of val_accuracy; which change did it is not known"


def test_a_healthy_run_has_no_headline_of_loss(story):
    """Within tolerance nothing is an incident."""
    story.accuracy, story.verdict = 0.93, AttributionVerdict.NO_DEGRADATION
    incident = build_incident(story.evidence())
    assert "no degradation" in incident.headline
    assert "within" in incident.summary[0]


def test_the_timeline_follows_the_entries(story, approve):
    """Indices rise; what an observer signed is put to whoever started the run."""
    story.decide(15, "slip", approve, "bo", "fine")
    timeline = build_incident(story.evidence()).timeline
    indices = [line.entry for line in timeline]
    assert indices == sorted(indices)
    assert {line.entry for line in timeline} >= {11, 14, 15, 16, 18, 20, 22, 25, 26}
    assert next(line for line in timeline if line.entry == 20).actor == "dee"
    assert "one other lock" in next(line for line in timeline if line.entry == 12).what


def test_who_can_say_more_includes_the_mentor_and_who_approved(story, approve):
    """Author, mentor, approver, and whoever started the run; nobody else."""
    story.decide(15, "slip", approve, "ada", "fine")
    voices = {voice.id: voice for voice in build_incident(story.evidence()).voices}
    assert set(voices) == {"dee", "bo", "ada"}
    assert voices["dee"].mentor == "bo"
    assert "mentors dee" in voices["bo"].can_tell
    assert any("approved" in line for line in voices["ada"].can_tell)


def test_what_it_cannot_tell_is_never_empty(story):
    """Every report says what it does not know."""
    assert any("cannot say who sat at the keyboard" in line for line in build_incident(story.evidence()).unknowns)
