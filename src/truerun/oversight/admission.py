"""May this lock run? The policy applied to what the ledger says about a lock, as a decision with its reasons in plain words.

It judges the recorded answers, never the content of a change. The list of changes in a proposal was written by its author
and is used only to name more authors, never fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from truerun.core.actor import Role
from truerun.core.change import Change
from truerun.core.decision import Decision, Need, Outcome
from truerun.core.digest import Digest
from truerun.core.errors import TruerunError
from truerun.core.lock import Lock
from truerun.ledger.history import History
from truerun.oversight.approvals import Docket, Proposal, Vote, read_docket, speaks_for
from truerun.oversight.people import People
from truerun.oversight.policy import POLICY, Case, Outlook, decide_case, mentors_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One proposal and how it stands; `base` is the proposal of the last approved lock before it, which its case is counted from."""

    proposal: Proposal
    case: Case
    outlook: Outlook
    base: Proposal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Docketed:
    """Every proposal under review, in order, with what was read."""

    docket: Docket
    reviews: tuple[Review, ...]

    def of(self, lock: Digest) -> Review | None:
        """The review of *lock*: the first of its proposals that is approved, else its newest; None when nobody proposed it."""
        found = [review for review in self.reviews if review.proposal.fact.lock == lock]
        return next((review for review in found if review.outlook.approved), found[-1] if found else None)

    @property
    def approved(self) -> Review | None:
        """The review of the newest proposal whose lock is approved; going back to an approved lock needs no new approval."""
        return next(
            (
                review
                for item in reversed(self.reviews)
                if (review := self.of(item.proposal.fact.lock)) and review.outlook.approved
            ),
            None,
        )


def review_all(history: History, people: People) -> Docketed:
    """Review every proposal in order; each is counted from the last lock before it that is approved by now."""
    docket = read_docket(history, people)
    reviews: list[Review] = []
    approved: set[Digest] = set()
    base: Proposal | None = None
    first = docket.proposals[0].entry if docket.proposals else 0
    for number, proposal in enumerate(docket.proposals):
        lock = proposal.fact.lock
        since = base.entry if base is not None else first
        chain = [p for p in docket.proposals[: number + 1] if p.fact.lock == lock or base is None or p.entry > base.entry]
        case = _make_case(chain, since, people)
        outlook = decide_case(case, docket.last_votes(lock), people)
        reviews.append(Review(proposal=proposal, case=case, outlook=outlook, base=base))
        if outlook.approved and lock not in approved:
            approved.add(lock)
            base = proposal
    return Docketed(docket=docket, reviews=tuple(reviews))


def approved_lock(history: History, people: People) -> Digest | None:
    """The newest proposed lock that satisfies the policy, or None while there is none."""
    review = review_all(history, people).approved
    return review.proposal.fact.lock if review is not None else None


def decide_admission(
    lock: Lock,
    history: History,
    people: People,
    *,
    lock_of: Callable[[Digest], Lock] | None = None,
    changes: tuple[Change, ...] | None = None,
) -> Decision:
    """
    Decide whether *lock* may run.

    *lock_of* reads the last approved lock, so that a project which was critical stays so until dropping it is approved;
    a lock that cannot be read counts as critical. *changes* are the caller's own comparison of *lock* with the last
    approved one (never an author's): when all of them are unprotected, no approval is needed. Without it, all count.
    """
    docketed = review_all(history, people)
    decision = _decide(lock.digest, docketed, people, changes)
    approved = docketed.approved
    if decision.outcome is Outcome.ALLOW or lock.critical or _was_critical(approved, lock_of):
        return decision
    note = "this project is not critical: what the policy misses is reported and not enforced"
    return replace(decision, outcome=Outcome.ALLOW, reasons=(note, *decision.reasons))


def _decide(lock: Digest, docketed: Docketed, people: People, changes: tuple[Change, ...] | None) -> Decision:
    if people.origin is None or not people.all():
        reason = "this ledger names no owner, so nobody can approve anything; truerun init creates a ledger with one"
        return Decision(outcome=Outcome.DENY, lock=lock, reasons=(reason,), policy=POLICY)
    review, approved = docketed.of(lock), docketed.approved
    if review is not None and review.outlook.approved:
        counted = review.outlook.counted
        reasons = tuple(f"approved by {_voter(vote)} at entry {vote.entry}" for vote in counted)
        return Decision(outcome=Outcome.ALLOW, lock=lock, reasons=reasons, approvals=_entries(counted), policy=POLICY)
    # An empty list explains nothing: the digests differ, so something was not compared.
    if approved is not None and changes and not any(change.protected for change in changes):
        reason = f"nothing protected changed since the approved lock {approved.proposal.fact.lock.short} (entry {approved.proposal.entry})"
        return Decision(
            outcome=Outcome.ALLOW, lock=lock, reasons=(reason,), approvals=_entries(approved.outlook.counted), policy=POLICY
        )
    ignored = tuple(f"entry {i.entry} by {i.actor} does not count: {i.reason}" for i in docketed.docket.ignored if i.lock == lock)
    if review is None:
        who = tuple(person.id for person in people.all())
        need = Need(what="run truerun lock to propose this state, then ask for its approval", who=who)
        reason = f"nobody has proposed lock {lock.short}, so nobody can have approved it"
        return Decision(outcome=Outcome.HOLD, lock=lock, reasons=(reason, *ignored), needs=(need,), policy=POLICY)
    outlook = review.outlook
    reasons = (
        _changed_by(review),
        *(f"{_voter(v)} rejected it at entry {v.entry}: {v.fact.reason}" for v in outlook.against),
        *ignored,
    )
    needs = (*outlook.needs, *(_withdrawal(vote) for vote in outlook.against))
    return Decision(
        outcome=Outcome.HOLD, lock=lock, reasons=reasons, needs=needs, approvals=_entries(outlook.counted), policy=POLICY
    )


def _make_case(chain: list[Proposal], since: int, people: People) -> Case:
    authors: set[str] = set()
    mentors: dict[str, tuple[str, ...]] = {}
    for proposal in chain:
        here = proposal.named | speaks_for(people, proposal.key, proposal.entry, since)
        authors |= here
        for author in here:
            person = people.get(author, proposal.entry) or people.known(author)
            if person is not None and person.role is Role.TRAINEE:
                mentors[person.id] = mentors_of(person, people)
    return Case(authors=frozenset(authors), mentors=mentors, since=since)


def _was_critical(approved: Review | None, lock_of: Callable[[Digest], Lock] | None) -> bool:
    if approved is None or lock_of is None:
        return False
    try:
        return lock_of(approved.proposal.fact.lock).critical
    except TruerunError:  # gone, altered or of another release: what cannot be read was critical
        return True


def _changed_by(review: Review) -> str:
    authors = ", ".join(sorted(review.case.authors))
    if review.base is None:
        return f"proposed at entry {review.proposal.entry}; no lock is approved yet; so far {authors} made changes"
    base = review.base
    return (
        f"proposed at entry {review.proposal.entry}; since the approved lock {base.fact.lock.short} (entry {base.entry}) "
        f"{authors} made changes"
    )


def _withdrawal(vote: Vote) -> Need:
    return Need(what=f"a new answer by {vote.person.id}, who said no; or another lock that settles it", who=(vote.person.id,))


def _voter(vote: Vote) -> str:
    return f"{vote.person.id} ({vote.person.role.value})"


def _entries(votes: tuple[Vote, ...]) -> tuple[int, ...]:
    return tuple(vote.entry for vote in votes)
