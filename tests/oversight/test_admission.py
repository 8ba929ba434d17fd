"""May this lock run? Stories P4, P5, P7, P9 and P12 of the threat catalogue, each with its accept twin."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truerun.core.actor import Actor, Basis, Role
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.decision import Answer, Outcome
from truerun.core.digest import digest_bytes
from truerun.core.errors import InputError
from truerun.core.lock import Lock, LockedEnvironment, LockedFile
from truerun.ledger.history import History
from truerun.oversight.admission import approved_lock, decide_admission, review_all
from truerun.oversight.people import People


def make_lock(content: str, *, critical: bool = True) -> Lock:
    file = LockedFile(path="truerun.toml", digest=digest_bytes(content.encode()), size=len(content))
    return Lock(
        project="digits",
        command="python train.py",
        critical=critical,
        declaration=file,
        environment=LockedEnvironment(python="3.11"),
    )


def admit(team, content="good", *, critical=True, entries=None, **options):
    entries = list(entries if entries is not None else team.ledger.entries())
    return decide_admission(make_lock(content, critical=critical), History.of(entries), People.of(entries), **options)


def change(actor: str | None = None, *, protected: bool = True) -> Change:
    who = None if actor is None else Actor(id=actor, basis=Basis.GIT)
    return Change(
        kind=ChangeKind.CONFIG, action=Action.MODIFIED, name="c.yaml", key="lr", before=1, after=2, actor=who, protected=protected
    )


def who(decision) -> list[tuple[str, ...]]:
    return [need.who for need in decision.needs]


class TestPolicy:
    """What a change needs, as the documentation states it."""

    def test_a_lock_nobody_proposed_is_held(self, team):
        decision = admit(team)
        assert decision.outcome is Outcome.HOLD
        assert "truerun lock" in decision.needs[0].what

    def test_an_engineers_change_needs_one_maintainer_or_owner(self, team):
        entry = team.propose("good", by="emil")
        held = admit(team)
        assert (held.outcome, who(held)) == (Outcome.HOLD, [("olga", "mira")])
        vote = team.decide("good", by="mira", proposal=entry)
        allowed = admit(team)
        assert (allowed.outcome, allowed.approvals, allowed.needs) == (Outcome.ALLOW, (vote.index,), ())
        assert allowed.reasons == (f"approved by mira (maintainer) at entry {vote.index}",)

    def test_a_maintainers_own_change_needs_somebody_else(self, team):
        entry = team.propose("good", by="mira")
        team.decide("good", by="mira", proposal=entry)
        assert (admit(team).outcome, who(admit(team))) == (Outcome.HOLD, [("olga",)])
        team.decide("good", by="olga", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_a_trainees_change_needs_their_mentor_and_a_mentor_who_maintains_gives_both(self, team):
        entry = team.propose("good", by="tara")
        team.decide("good", by="olga", proposal=entry)
        held = admit(team)
        assert (held.outcome, who(held)) == (Outcome.HOLD, [("mira",)])
        assert held.needs[0].what == "an approval by mira, who mentors tara"
        team.decide("good", by="mira", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_a_mentor_who_is_an_engineer_gives_only_the_mentors_half(self, team):
        team.add("teo", Role.TRAINEE, mentor="emil")
        entry = team.propose("good", by="teo")
        team.decide("good", by="emil", proposal=entry)
        assert who(admit(team)) == [("olga", "mira")]
        team.decide("good", by="mira", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_an_owner_stands_in_for_a_mentor_who_left(self, team):
        team.add("otto", Role.OWNER)
        entry = team.propose("good", by="tara")
        team.revoke("mira")
        assert admit(team).needs[1].what == "an approval by an owner, because tara's mentor may not sign any more"
        team.decide("good", by="olga", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_an_engineer_or_trainee_cannot_approve(self, team):
        team.add("erik")
        entry = team.propose("good", by="emil")
        team.decide("good", by="erik", proposal=entry)
        team.decide("good", by="tara", proposal=entry)
        assert admit(team).outcome is Outcome.HOLD

    def test_everybody_who_proposed_since_the_last_approved_lock_is_an_author(self, team):
        """Mira's change hides under emil's proposal: she cannot be the second pair of eyes for it."""
        team.propose("hers", by="mira")
        entry = team.propose("both", by="emil")
        team.decide("both", by="mira", proposal=entry)
        assert who(admit(team, "both")) == [("olga",)]
        team.decide("both", by="olga", proposal=entry)
        assert admit(team, "both").outcome is Outcome.ALLOW

    def test_after_an_approved_lock_authors_are_counted_anew(self, team):
        first = team.propose("good", by="mira")
        team.decide("good", by="olga", proposal=first)
        second = team.propose("better", by="emil")
        team.decide("better", by="mira", proposal=second)
        assert admit(team, "better").outcome is Outcome.ALLOW

    def test_somebody_named_by_a_change_is_an_author_too(self, team):
        entry = team.propose("good", by="emil", changes=(change("mira"), change("tara")))
        assert who(admit(team)) == [("olga",), ("mira",)]
        team.decide("good", by="mira", proposal=entry)
        assert who(admit(team)) == [("olga",)]

    def test_a_trainee_whose_rows_somebody_else_proposes_still_has_a_mentor(self, team):
        rows = Change(kind=ChangeKind.DATA, action=Action.ROWS_ADDED, name="train", key="tara", after={"count": 2})
        entry = team.propose("good", by="emil", changes=(rows,))
        team.decide("good", by="olga", proposal=entry)
        assert who(admit(team)) == [("mira",)]

    def test_going_back_to_an_approved_lock_needs_nothing_new(self, team):
        first = team.propose("good", by="emil")
        team.decide("good", by="mira", proposal=first)
        team.propose("bad", by="emil")
        team.propose("good", by="mira")
        assert admit(team).outcome is Outcome.ALLOW
        entries = list(team.ledger.entries())
        assert approved_lock(History.of(entries), People.of(entries)) == make_lock("good").digest

    def test_the_newest_approved_lock_is_found_under_newer_proposals(self, team):
        entries = list(team.ledger.entries())
        assert approved_lock(History.of(entries), People.of(entries)) is None
        for content in ("one", "two"):
            team.decide(content, by="mira", proposal=team.propose(content, by="emil"))
        team.propose("three", by="emil")
        entries = list(team.ledger.entries())
        assert approved_lock(History.of(entries), People.of(entries)) == make_lock("two").digest

    def test_a_no_holds_until_the_same_person_says_yes(self, team):
        entry = team.propose("good", by="emil")
        team.decide("good", by="mira", proposal=entry)
        team.decide("good", by="olga", proposal=entry, answer=Answer.REJECT)
        held = admit(team)
        assert held.outcome is Outcome.HOLD
        assert held.needs[0].who == ("olga",)
        team.decide("good", by="mira", proposal=entry)
        assert admit(team).outcome is Outcome.HOLD
        team.decide("good", by="olga", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_a_no_by_somebody_without_a_say_does_not_hold(self, team):
        entry = team.propose("good", by="emil")
        team.decide("good", by="mira", proposal=entry)
        team.decide("good", by="tara", proposal=entry, answer=Answer.REJECT)
        assert admit(team).outcome is Outcome.ALLOW

    def test_a_project_that_is_not_critical_is_told_and_not_held(self, team):
        team.propose(make_lock("good", critical=False), by="emil")
        decision = admit(team, critical=False)
        assert decision.outcome is Outcome.ALLOW
        assert "not enforced" in decision.reasons[0]
        assert who(decision) == [("olga", "mira")]

    def test_an_unprotected_change_needs_nothing_and_the_authors_word_for_it_is_not_taken(self, team):
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        team.propose("tweak", by="emil", changes=(change(protected=False),))
        assert admit(team, "tweak").outcome is Outcome.HOLD
        assert admit(team, "tweak", changes=(change(protected=False),)).outcome is Outcome.ALLOW
        assert admit(team, "tweak", changes=(change(protected=False), change())).outcome is Outcome.HOLD
        assert admit(team, "tweak", changes=()).outcome is Outcome.HOLD

    def test_an_empty_ledger_is_denied(self):
        decision = decide_admission(make_lock("good"), History.of([]), People.of([]))
        assert decision.outcome is Outcome.DENY


class TestP4:
    """Approvals that are old, replayed, or about something else."""

    def test_an_approval_of_another_digest_does_not_count(self, team):
        entry = team.propose("good", by="emil")
        team.propose("evil", by="emil")
        team.decide("evil", by="mira", proposal=entry)
        assert admit(team, "evil").outcome is Outcome.HOLD
        assert admit(team, "good").outcome is Outcome.HOLD

    def test_an_approval_dies_with_any_change(self, team):
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        team.propose("good!", by="emil")
        assert admit(team, "good").outcome is Outcome.ALLOW
        assert admit(team, "good!").outcome is Outcome.HOLD

    def test_an_approval_for_another_project_or_ledger_does_not_count(self, team):
        entry = team.propose("good", by="emil")
        team.decide("good", by="mira", proposal=entry, origin="example.org/other")
        held = admit(team)
        assert held.outcome is Outcome.HOLD
        assert any("another ledger" in reason for reason in held.reasons)
        team.decide("good", by="mira", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_an_envelope_carried_over_from_another_ledger_does_not_count(self, team, another_team):
        """Attack P4: the same people, another ledger of the same name; mira approved there, the envelope is copied here."""
        other = another_team()
        other.add("mira", Role.MAINTAINER)
        other.add("emil")
        team.propose("good", by="emil")
        foreign = other.decide("good", by="mira", proposal=other.propose("good", by="emil"))
        entries = list(team.ledger.entries())
        copied = type(foreign)(
            index=len(entries), key=foreign.key, fact=foreign.fact, envelope=foreign.envelope, seen=foreign.seen
        )
        assert admit(team, entries=[*entries, copied]).outcome is Outcome.HOLD

    def test_an_approval_before_its_proposal_does_not_count(self, team):
        early = team.decide("good", by="mira", proposal=len(team.ledger) + 1)
        entry = team.propose("good", by="emil")
        assert (early.index + 1, admit(team).outcome) == (entry, Outcome.HOLD)

    def test_an_approval_signed_before_the_proposal_could_be_seen_does_not_count(self, team):
        """Attack P4: mira's signature over a guess, made before the proposal, is recorded after it."""
        before = team.ledger.tree_head()
        entry = team.propose("good", by="emil")
        vote = team.decide("good", by="mira", proposal=entry)
        early = type(vote)(index=vote.index, key=vote.key, fact=vote.fact, envelope=vote.envelope, seen=before)
        assert admit(team, entries=[*list(team.ledger.entries())[:-1], early]).outcome is Outcome.HOLD
        assert admit(team).outcome is Outcome.ALLOW

    def test_a_back_dated_approval_does_not_count(self, team):
        entry = team.propose("good", by="emil", at="2026-11-20T09:30:00Z")
        team.decide("good", by="mira", proposal=entry, at="2026-11-19T09:30:00Z")
        assert admit(team).outcome is Outcome.HOLD
        team.decide("good", by="mira", proposal=entry, at="2026-11-20T09:25:00Z")
        assert admit(team).outcome is Outcome.ALLOW

    def test_a_replayed_yes_does_not_undo_a_later_no(self, team):
        entry = team.propose("good", by="emil")
        yes = team.decide("good", by="mira", proposal=entry)
        team.decide("good", by="mira", proposal=entry, answer=Answer.REJECT)
        entries = list(team.ledger.entries())
        replayed = type(yes)(index=len(entries), key=yes.key, fact=yes.fact, envelope=yes.envelope, seen=yes.seen)
        assert admit(team, entries=[*entries, replayed]).outcome is Outcome.HOLD
        team.decide("good", by="mira", proposal=entry, at="2026-11-20T10:00:00Z")
        assert admit(team).outcome is Outcome.ALLOW


class TestP5:
    """One person as two."""

    def test_a_second_key_is_the_same_person(self, team):
        team.add("mira", Role.MAINTAINER, keys=("mira laptop",))
        entry = team.propose("good", by="mira")
        team.decide("good", by="mira laptop", proposal=entry)
        assert admit(team).outcome is Outcome.HOLD
        team.decide("good", by="olga", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    @pytest.mark.parametrize("account", ["mir-a", "mіra", "Mira"])
    def test_a_second_account_that_reads_like_the_first_is_nobody(self, team, account):
        team.add(account, Role.MAINTAINER, keys=("second",), name="M. (made up)")
        entry = team.propose("good", by="mira")
        team.decide("good", by="second", proposal=entry)
        assert admit(team).outcome is Outcome.HOLD

    def test_a_robot_neither_decides_nor_hides_who_runs_it(self, team):
        team.add("ci", robot=True)
        entry = team.propose("good", by="ci")
        team.decide("good", by="ci", proposal=entry)
        assert who(admit(team)) == [("mira",)]
        team.decide("good", by="olga", proposal=entry)
        assert admit(team).outcome is Outcome.HOLD
        team.decide("good", by="mira", proposal=entry)
        assert admit(team).outcome is Outcome.ALLOW

    def test_an_account_made_while_the_change_waits_is_no_second_pair_of_eyes(self, team):
        """Attack P5: the owner proposes, adds an account that he holds the key of, and approves with it."""
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        entry = team.propose("evil", by="olga")
        team.add("sock", Role.MAINTAINER)
        team.decide("evil", by="sock", proposal=entry)
        assert who(admit(team, "evil")) == [("mira",)]

    def test_nor_is_one_made_before_the_change_or_behind_another(self, team):
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        team.add("sock", Role.OWNER)
        team.add("puppet", Role.MAINTAINER, by="sock")
        team.add("muppet", by="sock")
        entry = team.propose("evil", by="muppet")
        for account in ("sock", "puppet", "olga"):
            team.decide("evil", by=account, proposal=entry)
        assert who(admit(team, "evil")) == [("mira",)]

    def test_nor_is_a_new_key_that_the_author_gave_to_an_approver(self, team):
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        team.add("mira", Role.MAINTAINER, keys=("planted",))
        entry = team.propose("evil", by="olga")
        team.decide("evil", by="planted", proposal=entry)
        assert admit(team, "evil").outcome is Outcome.HOLD
        team.decide("evil", by="mira", proposal=entry)
        assert admit(team, "evil").outcome is Outcome.ALLOW

    def test_new_people_count_for_everybody_elses_changes_at_once_and_for_all_after_the_next_approved_lock(self, team):
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        team.add("max", Role.MAINTAINER)
        team.decide("emils", by="max", proposal=team.propose("emils", by="emil"))
        assert admit(team, "emils").outcome is Outcome.ALLOW
        team.decide("olgas", by="max", proposal=team.propose("olgas", by="olga"))
        assert admit(team, "olgas").outcome is Outcome.ALLOW

    def test_a_team_that_grows_from_one_person_can_begin(self, lone):
        lone.propose("first", by="olga")
        lone.add("mira", Role.MAINTAINER)
        entry = lone.propose("good", by="olga")
        lone.decide("good", by="mira", proposal=entry)
        assert admit(lone).outcome is Outcome.ALLOW


class TestP7:
    """Policy and people changed by somebody who may not: what stood before decides."""

    def test_an_approver_added_by_an_engineer_is_nobody(self, team):
        team.add("friend", Role.OWNER, by="emil")
        entry = team.propose("good", by="emil")
        team.decide("good", by="friend", proposal=entry)
        assert admit(team).outcome is Outcome.HOLD

    def test_dropping_critical_is_decided_while_it_is_critical(self, team):
        good = make_lock("good")
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        loose = make_lock("loose", critical=False)
        entry = team.propose(loose, by="emil")
        locks = {good.digest: good, loose.digest: loose}
        assert admit(team, "loose", critical=False, lock_of=locks.__getitem__).outcome is Outcome.HOLD
        team.decide(loose, by="mira", proposal=entry)
        assert admit(team, "loose", critical=False, lock_of=locks.__getitem__).outcome is Outcome.ALLOW
        team.propose(make_lock("looser", critical=False), by="emil")
        assert admit(team, "looser", critical=False, lock_of=locks.__getitem__).outcome is Outcome.ALLOW

    def test_a_last_approved_lock_that_cannot_be_read_counts_as_critical(self, team):
        team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
        team.propose(make_lock("loose", critical=False), by="emil")

        def missing(digest):
            raise InputError("gone", got=digest)

        assert admit(team, "loose", critical=False, lock_of=missing).outcome is Outcome.HOLD

    def test_past_decisions_keep_the_roles_of_their_time(self, team):
        entry = team.propose("good", by="emil")
        team.decide("good", by="mira", proposal=entry)
        team.revoke("mira")
        assert admit(team).outcome is Outcome.ALLOW


class TestP9:
    """Keys that are revoked or stolen."""

    def test_a_revoked_key_neither_approves_nor_proposes(self, team):
        entry = team.propose("good", by="emil")
        team.revoke("mira")
        team.decide("good", by="mira", proposal=entry)
        held = admit(team)
        assert held.outcome is Outcome.HOLD
        assert any("nobody who might sign at that entry" in reason for reason in held.reasons)
        team.revoke("emil")
        team.propose("later", by="emil")
        assert "nobody has proposed" in admit(team, "later").reasons[0]

    def test_a_revoked_key_that_claims_an_earlier_time_is_refused_by_its_index(self, team):
        entry = team.propose("good", by="emil")
        team.revoke("mira")
        team.decide("good", by="mira", proposal=entry, at="2026-11-20T09:31:00Z")
        assert admit(team).outcome is Outcome.HOLD

    def test_what_the_key_said_before_stays_said(self, team):
        entry = team.propose("good", by="emil")
        team.decide("good", by="mira", proposal=entry)
        team.revoke("mira")
        assert admit(team).outcome is Outcome.ALLOW


def test_p12_an_entry_by_nobodys_key_is_named_by_its_fingerprint_never_by_a_guess(team):
    """P12: a key that belongs to nobody is reported as a key, not as a person."""
    entry = team.propose("good", by="emil")
    team.decide("good", by="stranger", proposal=entry)
    key = team.ledger.entry(entry + 1).key_id
    assert any(f"by {key} does not count" in reason for reason in admit(team).reasons)


def test_ignoring_approvals_never_turns_hold_into_allow(team):
    team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
    team.add("sock", Role.MAINTAINER)
    team.decide("evil", by="sock", proposal=team.propose("evil", by="olga"))
    team.decide("more", by="olga", proposal=team.propose("more", by="emil"))
    entries = list(team.ledger.entries())
    votes = [entry.index for entry in entries if entry.fact.KIND == "lock-decided"]
    for content in ("good", "evil", "more"):
        whole = admit(team, content).outcome
        for mask in range(2 ** len(votes)):
            kept = [e for e in entries if e.index not in votes or mask >> votes.index(e.index) & 1]
            assert whole is Outcome.ALLOW or admit(team, content, entries=kept).outcome is Outcome.HOLD


ACTS = st.one_of(
    st.tuples(st.just("propose"), st.sampled_from(("evil", "good"))),
    st.tuples(st.just("owner"), st.sampled_from(("sock", "mira", "emil"))),
    st.tuples(st.just("maintainer"), st.sampled_from(("sock", "puppet", "mira", "rnira"))),
    st.tuples(st.just("engineer"), st.sampled_from(("sock", "muppet", "emil"))),
    st.tuples(st.just("trainee"), st.sampled_from(("pupil", "tara"))),
    st.tuples(st.just("robot"), st.sampled_from(("ci", "sock"))),
    st.tuples(st.just("revoke"), st.sampled_from(("mira", "emil", "sock", "olga"))),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    villain=st.sampled_from(("olga", "olga", "mira", "emil", "tara", "stranger")),
    acts=st.lists(st.tuples(st.integers(0, 3), ACTS), max_size=7),
)
def test_no_sequence_of_actions_by_one_person_reaches_allow(another_team, villain, acts):
    """
    Property: in a team that has approved a lock together, one person alone never gets another lock allowed.

    They hold their own key and the keys of every account they make. Whatever they propose, add and revoke, in any order
    and with any of these keys, and though each of the keys says yes at the end: the lock is held.
    """
    team = another_team()
    team.add("mira", Role.MAINTAINER)
    team.add("emil")
    team.add("tara", Role.TRAINEE, mentor="mira")
    team.decide("good", by="mira", proposal=team.propose("good", by="emil"))
    keys, proposals = [villain], []
    for turn, (number, (act, target)) in enumerate([*acts, (0, ("propose", "evil"))]):
        by = keys[number % len(keys)]
        if act == "propose":
            proposals.append((target, team.propose(target, by=by)))
        elif act == "revoke":
            team.revoke(target, by=by)
        else:
            keys.append(f"villain {turn}")
            person = team.people().known(target)
            role = person.role if person and number else Role.ENGINEER if act == "robot" else Role(act)
            mentor = (person.mentor if person and number else "sock") if role is Role.TRAINEE else None
            team.add(target, role, by=by, keys=keys[-1:], mentor=mentor, robot=act == "robot")
    for content, proposal in proposals:
        for key in keys:
            team.decide(content, by=key, proposal=proposal)
    assert admit(team, "evil").outcome is not Outcome.ALLOW


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(author=st.sampled_from(("mira", "emil", "tara", "olga")), approvers=st.permutations(("olga", "mira", "otto")))
def test_the_right_people_together_always_reach_allow(another_team, author, approvers):
    """The accept twin: whoever proposes, once every approver who is not the author has said yes, the lock is allowed."""
    team = another_team()
    team.add("otto", Role.OWNER)
    team.add("mira", Role.MAINTAINER)
    team.add("emil")
    team.add("tara", Role.TRAINEE, mentor="mira")
    entry = team.propose("good", by=author)
    for approver in approvers:
        if approver != author:
            team.decide("good", by=approver, proposal=entry)
    assert admit(team).outcome is Outcome.ALLOW


def test_a_review_says_from_which_lock_it_counts(team):
    first = team.propose("good", by="emil")
    team.decide("good", by="mira", proposal=first)
    team.propose("better", by="emil")
    entries = list(team.ledger.entries())
    docketed = review_all(History.of(entries), People.of(entries))
    assert docketed.of(make_lock("better").digest).base.entry == first
    assert docketed.approved.proposal.entry == first
