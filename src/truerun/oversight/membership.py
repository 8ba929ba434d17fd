"""Who may add and revoke whom, as questions that answer with the reason why not.

Owners add people; owners revoke them, and everybody may revoke their own keys. One person has one id, one name that reads
like nobody else's, and keys that are nobody else's. Somebody who is here gains keys only: to change a role, a mentor or a
name they are revoked and added again, so that adding always gives and revoking always takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from truerun.core.actor import Person, Role
from truerun.core.errors import FormatError
from truerun.core.fact import PersonAdded, PersonRevoked
from truerun.ledger.sshsig import parse_public_key
from truerun.oversight.identity import explain_id, explain_name, look_alike

if TYPE_CHECKING:
    from truerun.oversight.people import People

MAX_KEYS = 8


def explain_membership(people: People, fact: PersonAdded | PersonRevoked, key: str) -> str | None:
    """Why *fact*, signed by *key* after what *people* has folded, has no effect; None where it counts."""
    if isinstance(fact, PersonRevoked):
        return _explain_revoked(people, fact, key)
    if not people.standings:
        return _explain_founder(fact.person, key, people.founder)
    signer = people.resolve(key)
    if signer is None or signer.role is not Role.OWNER:
        return "only an owner adds people"
    return _explain_person(people, fact.person) or _explain_keys(people, fact.person) or _explain_twin(people, fact.person)


def _explain_person(people: People, person: Person) -> str | None:
    reason = explain_id(person.id) or explain_name(person.name)
    if reason is not None:
        return reason
    if person.robot and person.role is not Role.ENGINEER:
        return "a robot is an engineer: it proposes and never decides"
    if person.role is not Role.TRAINEE:
        return None if person.mentor is None else "only a trainee has a mentor"
    mentor = people.get(person.mentor) if person.mentor is not None and person.mentor != person.id else None
    if mentor is None or mentor.robot or mentor.role is Role.TRAINEE:
        return "a trainee needs a mentor: an owner, maintainer or engineer who may sign"
    return None


def _explain_keys(people: People, person: Person) -> str | None:
    current = people.get(person.id)
    reason = _explain_key_lines(person.keys)
    if reason is not None:
        return reason
    for key in person.keys:
        grant = people.grants.get(key)
        if grant is not None and grant.person != person.id:
            return f"a key of {grant.person} is given to {person.id}; one key belongs to one person"
        if key in people.lost:
            return "a revoked key does not come back; make a new one"
    if current is not None and set(person.keys) <= set(current.keys):
        return f"{person.id} has these keys already"
    return None


def _explain_twin(people: People, person: Person) -> str | None:
    current = people.get(person.id)
    if current is not None:
        same = (current.name, current.role, current.mentor, current.robot)
        if (person.name, person.role, person.mentor, person.robot) != same:
            return f"{person.id} is here already; revoke them first to change name, role or mentor"
        return None if len(current.keys) + len(set(person.keys) - set(current.keys)) <= MAX_KEYS else f"more than {MAX_KEYS} keys"
    for other in {s.person.id: s.person for s in people.standings}.values():
        if other.id != person.id and (look_alike(other.id, person.id) or look_alike(other.name, person.name)):
            return f"{person.id} ({person.name}) reads like {other.id} ({other.name}); one person has one id"
    return None


def _explain_revoked(people: People, fact: PersonRevoked, key: str) -> str | None:
    signer, person = people.resolve(key), people.get(fact.person)
    if person is None:
        return f"there is no {fact.person[:64]!r} who may sign"
    if signer is None or (signer.role is not Role.OWNER and signer.id != person.id):
        return "only an owner revokes, or people their own keys"
    if fact.key is not None and fact.key not in person.keys:
        return f"this is no key of {person.id}"
    owners = [other.id for other in people.all() if other.role is Role.OWNER]
    if owners == [person.id] and (fact.key is None or person.keys == (fact.key,)):
        return "the last owner's last key stays, or nobody could add people again"
    return None


def _explain_founder(person: Person, key: str, founder: str | None) -> str | None:
    if founder is not None and key != founder:
        return "the first owner is whoever created the ledger"
    if person.role is not Role.OWNER or person.robot or person.mentor is not None:
        return "the first person is an owner"
    if key not in person.keys:
        return "the first owner signs with their own key"
    return explain_id(person.id) or explain_name(person.name) or _explain_key_lines(person.keys)


def _explain_key_lines(keys: tuple[str, ...]) -> str | None:
    if not 0 < len(set(keys)) == len(keys) <= MAX_KEYS:
        return f"a person has 1 to {MAX_KEYS} different keys"
    for line in keys:
        try:
            if parse_public_key(line).line == line:
                continue
        except FormatError:
            pass  # said below, in the same words for every way a line can be wrong
        return "a key is one line of the form ssh-ed25519 AAAA…, without comment"
    return None
