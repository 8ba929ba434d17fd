"""Answering a proposed lock: what it changes and by whom, whether this key may answer, and the recorded answer.

The changes shown are compared here, from the stored locks; the proposals' own lists only say who made what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from truerun.apps.comparing import compare_locks
from truerun.apps.project import Project
from truerun.core.actor import Person
from truerun.core.change import Change
from truerun.core.decision import Answer, Decision
from truerun.core.digest import Digest
from truerun.core.errors import InputError, PolicyError, UsageError
from truerun.core.fact import LockDecided
from truerun.core.lock import Lock
from truerun.ledger.entry import Entry
from truerun.ledger.history import History
from truerun.ledger.signing import Signer, key_id
from truerun.oversight.admission import Docketed, Review, decide_admission, review_all
from truerun.oversight.approvals import Vote, explain_answer
from truerun.oversight.people import APPROVER_ROLES, People
from truerun.oversight.policy import is_independent, speaks_alone

NOT_RECORDED = "not recorded by anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    One lock that waits for an answer.

    `changes` are everything since the last approved lock, by who recorded them; `compared` is False where the locks are
    not stored here and the list is the proposals' own.
    """

    digest: Digest
    lock: Lock
    review: Review
    changes: Mapping[str, tuple[Change, ...]]
    compared: bool
    people: People
    docketed: Docketed


def open_question(project: Project, prefix: str | None) -> Question:
    """
    The lock called *prefix* (default: the newest proposal).

    Raises UsageError when nobody who may has proposed it, InputError when the lock itself is not here: nobody signs what
    they cannot see.
    """
    history, people = project.history(), project.people()
    docketed = review_all(history, people)
    digest = _chosen(history, docketed, prefix)
    review = docketed.of(digest)
    if review is None:
        raise UsageError(
            f"lock {digest.short} was proposed with a key that belongs to nobody who may propose",
            next_step="somebody in `truerun people list` runs truerun lock",
        )
    lock = project.lock(digest)
    changes, compared = _compared(project, docketed, review, lock)
    grouped: dict[str, list[Change]] = {}
    for change, author in changes:
        grouped.setdefault(author, []).append(change)
    by_author = {author: tuple(group) for author, group in grouped.items()}
    return Question(
        digest=digest, lock=lock, review=review, changes=by_author, compared=compared, people=people, docketed=docketed
    )


def require_say(question: Question, public_key: str, answer: Answer) -> Person:
    """The person who answers with *public_key*; raises PolicyError, naming who can, when their answer would not count."""
    people, case = question.people, question.review.case
    who = _who_can(question)
    person = people.resolve(public_key)
    if person is None:
        raise PolicyError(
            "this key belongs to nobody here",
            got=key_id(public_key),
            expected=who,
            next_step="an owner can add you: truerun people add ID --role ROLE --key-file YOUR_KEY.pub",
        )
    now = max((standing.since for standing in people.standings), default=0)
    mentored = [trainee for trainee, mentors in case.mentors.items() if person.id in mentors]
    if person.robot or (person.role not in APPROVER_ROLES and not mentored):
        kind = "a robot" if person.robot else f"{_article(person.role.value)}"
        raise PolicyError(
            f"{person.id} is {kind}, and this needs {_wanted(question)}",
            expected=who,
            next_step=f"ask one of them: {_ask(question)}",
        )
    if answer is Answer.REJECT or (mentored and speaks_alone(case, people, public_key, now)):
        return person
    if not is_independent(case, people, public_key, now):
        raise PolicyError(_dependent(question, person), expected=who, next_step=f"ask one of them: {_ask(question)}")
    return person


def record_answer(project: Project, question: Question, signer: Signer, answer: Answer, reason: str) -> Entry:
    """Record the answer; raises PolicyError where its time would make it void."""
    proposal = question.review.proposal
    fact = LockDecided(
        lock=question.digest,
        answer=answer,
        reason=reason,
        origin=question.people.origin or "",
        proposal=proposal.entry,
        at=project.clock(),
    )
    void = explain_answer(fact, proposal.fact, question.people.origin)
    if void is not None:
        raise PolicyError(f"the answer would not count: {void}", next_step="check the clock of this machine")
    return project.ledger.append(fact, signer)


def standing_answer(question: Question, person: Person) -> Vote | None:
    """The last answer of *person* to this lock that counts, or None."""
    return next((vote for vote in question.docketed.docket.last_votes(question.digest) if vote.person.id == person.id), None)


def decision_now(project: Project, question: Question) -> Decision:
    """What the policy says about the lock now."""
    return decide_admission(question.lock, project.history(), project.people(), lock_of=project.lock)


def _chosen(history: History, docketed: Docketed, prefix: str | None) -> Digest:
    if prefix is not None:
        return history.lock(prefix)
    if docketed.reviews:
        return docketed.reviews[-1].proposal.fact.lock
    raise UsageError("there is no proposed lock to answer", next_step="truerun lock proposes one")


def _compared(project: Project, docketed: Docketed, review: Review, lock: Lock) -> tuple[list[tuple[Change, str]], bool]:
    base = review.base.entry if review.base is not None else -1
    chain = [r.proposal for r in docketed.reviews if base < r.proposal.entry <= review.proposal.entry]
    recorded = [(change, proposal.person.id) for proposal in chain for change in proposal.fact.changes]
    try:
        old = project.lock(review.base.fact.lock) if review.base is not None else None
        found = compare_locks(project, old, lock).changes
    except InputError:
        return recorded, False
    makers = {_place(change): _maker(change, person) for change, person in recorded}
    return [(change, makers.get(_place(change), NOT_RECORDED)) for change in found], True


def _place(change: Change) -> tuple[str, str, str | None]:
    return change.kind.value, change.name, change.key


def _maker(change: Change, person: str) -> str:
    return change.actor.id if change.actor is not None else person


def _who_can(question: Question) -> str:
    wanted = [name for need in question.review.outlook.needs for name in need.who]
    return ", ".join(dict.fromkeys(wanted)) or "nobody yet: an owner can add or promote a maintainer who made none of the changes"


def _wanted(question: Question) -> str:
    return " and ".join(need.what for need in question.review.outlook.needs) or "no further approval"


def _ask(question: Question) -> str:
    return f"truerun approve {question.digest.short}"


def _dependent(question: Question, person: Person) -> str:
    if person.id in question.review.case.authors:
        return f"{person.id} made some of these changes, and a second pair of eyes is what they need"
    return f"{person.id}'s key was given by somebody who made some of these changes, while they were waiting"


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
