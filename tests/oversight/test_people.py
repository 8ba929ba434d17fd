"""Who may sign, folded from the ledger; each refusal has its accept twin."""

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truerun.core.actor import Role
from truerun.ledger.signing import Ed25519Signer
from truerun.oversight.people import People


def key(name: str) -> str:
    return Ed25519Signer.from_seed(hashlib.sha256(name.encode()).digest()).public_key


def ids(people: People) -> list[str]:
    return [person.id for person in people.all()]


def test_the_creator_of_the_ledger_becomes_its_first_owner(lone):
    people = lone.people()
    assert ids(people) == ["olga"]
    assert people.resolve(key("olga")).role is Role.OWNER
    assert not people.refused


def test_nobody_else_can_take_the_first_place(another_team):
    team = another_team(founder="olga")
    entries = [team.ledger.entry(0), another_team(founder="zoe").ledger.entry(1), team.ledger.entry(1)]
    people = People.of(entries)
    assert ids(people) == ["olga"]
    assert len(people.refused) == 1


def test_an_owner_adds_people_and_they_resolve_by_key(team):
    people = team.people()
    assert ids(people) == ["olga", "mira", "emil", "tara"]
    assert people.get("tara").mentor == "mira"
    assert people.since("mira") == 2
    assert people.resolve(key("mira")).id == "mira"
    assert people.resolve(key("nobody")) is None


@pytest.mark.parametrize("by", ["mira", "emil", "tara", "stranger"])
def test_p7_people_added_by_somebody_who_may_not_add_have_no_effect(team, by):
    """Attack P7: somebody without the right records a PersonAdded. It stays in the ledger, is listed, and changes nothing."""
    entry = team.add("friend", Role.OWNER, by=by)
    people = team.people()
    assert people.get("friend") is None
    assert [(refused.entry, refused.reason) for refused in people.refused] == [(entry.index, "only an owner adds people")]


@pytest.mark.parametrize("by", ["mira", "emil", "stranger"])
def test_p7_a_revocation_by_somebody_who_may_not_revoke_has_no_effect(team, by):
    team.revoke("tara", by=by)
    assert team.people().get("tara") is not None


def test_people_may_give_up_their_own_key_and_an_owner_anybodys(team):
    team.revoke("emil", by="emil")
    team.revoke("mira", by="olga")
    assert ids(team.people()) == ["olga", "tara"]


def test_nobody_raises_their_own_role(team):
    team.add("emil", Role.OWNER, by="emil")
    assert team.people().get("emil").role is Role.ENGINEER


def test_a_role_changes_by_revoking_and_adding_again(team):
    team.add("emil", Role.MAINTAINER)
    assert team.people().get("emil").role is Role.ENGINEER
    team.revoke("emil")
    added = team.add("emil", Role.MAINTAINER)
    people = team.people()
    assert people.get("emil").role is Role.MAINTAINER
    assert people.get("emil", at_index=added.index - 2).role is Role.ENGINEER
    assert people.since("emil") == added.index


def test_p9_a_revoked_key_resolves_up_to_its_revocation_and_never_after(team):
    before = len(team.ledger) - 1
    revoked = team.revoke("mira")
    people = team.people()
    assert people.resolve(key("mira")) is None
    assert people.resolve(key("mira"), at_index=before).id == "mira"
    assert people.resolve(key("mira"), at_index=revoked.index).id == "mira"
    assert people.resolve(key("mira"), at_index=revoked.index + 1) is None


def test_p9_a_key_lost_one_by_one_stays_lost_while_the_other_key_works(team):
    team.add("mira", Role.MAINTAINER, keys=("mira laptop",))
    assert team.people().resolve(key("mira laptop")).id == "mira"
    team.revoke("mira", key="mira laptop")
    team.add("mira", Role.MAINTAINER, keys=("mira laptop",))
    people = team.people()
    assert people.resolve(key("mira laptop")) is None
    assert people.resolve(key("mira")).id == "mira"
    assert people.since("mira") == 2


def test_p5_two_keys_are_one_person(team):
    team.add("mira", Role.MAINTAINER, keys=("mira laptop",))
    people = team.people()
    assert people.resolve(key("mira")) == people.resolve(key("mira laptop"))
    assert len(people.approvers()) == 2


def test_p5_one_key_belongs_to_one_person(team):
    team.add("friend", keys=("mira",))
    assert team.people().get("friend") is None
    assert "one key belongs to one person" in team.people().refused[0].reason


@pytest.mark.parametrize(
    ("person", "name"),
    [
        ("mira.", "X"),
        ("Mira", "X"),
        ("mіra", "X"),
        ("rnira", "X"),
        ("m-i-r-a", "X"),
        ("friend", "Мira (made up)"),
        ("friend", "mira  (MADE UP)"),
    ],
)
def test_p5_a_second_account_that_reads_like_somebody_is_refused(team, person, name):
    """Attack P5: an account whose id or name looks like an approver's. The accept twin is anybody with a name of their own."""
    team.add(person, Role.MAINTAINER, keys=("second",), name=name)
    assert team.people().resolve(key("second")) is None
    team.add("friend", Role.MAINTAINER, keys=("second",), name="Frida (made up)")
    assert team.people().resolve(key("second")).id == "friend"


def test_robots_are_engineers_and_never_approvers(team):
    team.add("ci", robot=True)
    team.add("bot", Role.MAINTAINER, robot=True)
    people = team.people()
    assert people.get("ci").robot
    assert people.get("bot") is None
    assert [person.id for person in people.approvers()] == ["olga", "mira"]


@pytest.mark.parametrize("mentor", [None, "tara", "nobody", "newcomer", "ci"])
def test_a_trainee_needs_a_mentor_who_can_answer(team, mentor):
    team.add("ci", robot=True)
    team.add("newcomer", Role.TRAINEE, mentor=mentor)
    assert team.people().get("newcomer") is None
    team.add("newcomer", Role.TRAINEE, mentor="emil")
    assert team.people().get("newcomer").mentor == "emil"


def test_the_last_owner_stays(team):
    team.revoke("olga")
    assert team.people().get("olga") is not None
    team.add("otto", Role.OWNER)
    team.revoke("olga")
    assert ids(team.people()) == ["mira", "emil", "tara", "otto"]


def test_a_replayed_entry_about_people_has_no_effect(team):
    """Attack: after mira is revoked, whoever holds the log appends the old envelope that once added her."""
    team.revoke("mira")
    entries = list(team.ledger.entries())
    replayed = type(entries[2])(
        index=len(entries), key=entries[2].key, fact=entries[2].fact, envelope=entries[2].envelope, seen=entries[2].seen
    )
    people = People.of([*entries, replayed])
    assert people.get("mira") is None
    assert "replay" in people.refused[0].reason


def test_an_entry_signed_for_another_ledger_has_no_effect(team, another_team):
    other = another_team(origin="example.org/other")
    foreign = other.add("friend", Role.OWNER)
    entries = list(team.ledger.entries())
    people = People.of(
        [
            *entries,
            type(foreign)(index=len(entries), key=foreign.key, fact=foreign.fact, envelope=foreign.envelope, seen=foreign.seen),
        ]
    )
    assert people.get("friend") is None
    assert people.refused[0].reason == "it was signed for another ledger"


def test_keys_must_be_plain_lines(team):
    from truerun.core.actor import Person
    from truerun.core.fact import PersonAdded

    for line in ("", "ssh-rsa AAAA", key("x") + " comment", " " + key("x"), "ssh-ed25519 AAAA"):
        person = Person(id="friend", name="Frida", role=Role.ENGINEER, keys=(line,))
        assert team.people().explain(PersonAdded(person=person, at="2026-11-20T09:30:00Z"), key("olga")) is not None
    person = Person(id="friend", name="Frida", role=Role.ENGINEER, keys=(key("x"),))
    assert team.people().explain(PersonAdded(person=person, at="2026-11-20T09:30:00Z"), key("olga")) is None


ACTORS = ("mira", "emil", "tara", "stranger", "spare")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTORS), st.sampled_from(("add", "revoke", "key")), st.sampled_from(("olga", "mira", "emil", "ally"))
        ),
        max_size=6,
    )
)
def test_without_an_owner_nobody_gains_anything(another_team, actions):
    """Property: whatever people who are not owners record, in any order, nobody gains a role, a key or a place."""
    team = another_team()
    team.add("mira", Role.MAINTAINER)
    team.add("emil")
    team.add("tara", Role.TRAINEE, mentor="mira")
    before = {person.id: person for person in team.people().all()}
    for actor, what, target in actions:
        if what == "revoke":
            team.revoke(target, by=actor)
        else:
            team.add(target, Role.OWNER, by=actor, keys=("spare",) if what == "key" else (f"{target} new",))
    for person in team.people().all():
        assert person == before[person.id]
    assert team.people().get("olga") is not None
