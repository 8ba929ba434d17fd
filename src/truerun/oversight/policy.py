"""The built-in policy `built-in-1`: what a changed lock needs before a critical project runs it.

1. One maintainer or owner says yes who made none of the changes since the last approved lock.
2. For each trainee among those who made them, the trainee's mentor says yes. A mentor who is a maintainer or owner and made
   none of the changes gives both with one answer. Where a mentor may not sign any more, an owner stands in.
3. No maintainer, owner or mentor concerned has said no as their last word.

Robots never decide. Non-critical projects are told the same and not held. It fails closed: what cannot be read as an
approval is none. Taking approvals away never turns hold or deny into allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from truerun.core.actor import Person, Role
from truerun.core.decision import Answer, Need
from truerun.oversight.approvals import Vote, speaks_for
from truerun.oversight.people import APPROVER_ROLES, People

POLICY = "built-in-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What is decided: everybody who made the changes (`authors`), and for each trainee among them who may answer for them.

    `since` is the entry of the last approved lock, or of the first proposal where nothing was approved yet: keys given
    after it speak also for whoever gave them.
    """

    authors: frozenset[str]
    mentors: Mapping[str, tuple[str, ...]]
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How a case stands: `needs` is empty when nothing is missing, `counted` are votes that meet a need, `against` the standing noes."""

    needs: tuple[Need, ...]
    counted: tuple[Vote, ...]
    against: tuple[Vote, ...]

    @property
    def approved(self) -> bool:
        """Whether the policy is satisfied."""
        return not self.needs and not self.against


def decide_case(case: Case, votes: tuple[Vote, ...], people: People) -> Outlook:
    """Apply the policy to *case*; *votes* are each person's last answer to the lock."""
    concerned = {mentor for mentors in case.mentors.values() for mentor in mentors}
    against = tuple(v for v in votes if v.fact.answer is Answer.REJECT and (_may_approve(v.person) or v.person.id in concerned))
    yes = tuple(vote for vote in votes if vote.fact.answer is Answer.APPROVE)
    seconds = [vote for vote in yes if _may_approve(vote.person) and is_independent(case, people, vote.key, vote.entry)]
    needs = [] if seconds else [second_need(case, people)]
    counted = list(seconds)
    for trainee, mentors in sorted(case.mentors.items()):
        answers = [vote for vote in yes if vote.person.id in mentors and speaks_alone(case, people, vote.key, vote.entry)]
        counted += answers
        if not answers:
            needs.append(Need(what=f"an approval by {_mentor_words(trainee, mentors, people)}", who=mentors))
    return Outlook(needs=tuple(needs), counted=_once(counted), against=against)


def second_need(case: Case, people: People) -> Need:
    """The need for one approver who made none of the changes, and who could be that now."""
    now = max((standing.since for standing in people.standings), default=0)
    able = (person.id for person in people.approvers() if any(is_independent(case, people, key, now) for key in person.keys))
    return Need(what="an approval by a maintainer or owner who made none of the changes", who=tuple(able))


def is_independent(case: Case, people: People, key: str, at_entry: int) -> bool:
    """Whether *key* speaks for nobody who made the changes."""
    voices = speaks_for(people, key, at_entry, case.since)
    return bool(voices) and voices.isdisjoint(case.authors)


def speaks_alone(case: Case, people: People, key: str, at_entry: int) -> bool:
    """Whether *key* is its person's own: no other author of the changes gave it while they were waiting."""
    person = people.resolve(key, at_entry)
    return person is not None and not (speaks_for(people, key, at_entry, case.since) - {person.id}) & case.authors


def mentors_of(trainee: Person, people: People) -> tuple[str, ...]:
    """Who may answer for *trainee*: their mentor as recorded last, or the owners where the mentor may not sign any more."""
    current = people.known(trainee.id) or trainee
    mentor = current.mentor or trainee.mentor
    if mentor is not None and people.get(mentor) is not None:
        return (mentor,)
    return tuple(person.id for person in people.approvers() if person.role is Role.OWNER)


def _may_approve(person: Person) -> bool:
    return person.role in APPROVER_ROLES and not person.robot


def _mentor_words(trainee: str, mentors: tuple[str, ...], people: People) -> str:
    known = people.known(trainee)
    if known is not None and known.mentor in mentors:
        return f"{known.mentor}, who mentors {trainee}"
    return f"an owner, because {trainee}'s mentor may not sign any more"


def _once(votes: list[Vote]) -> tuple[Vote, ...]:
    return tuple(sorted({vote.entry: vote for vote in votes}.values(), key=lambda vote: vote.entry))
