"""What the ledger tells, folded: proposals, decisions, runs and the line of locks between two."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.material import ANA, AT, BEN, EVA, LOCK, created, decided, make_ledger, proposed

from truerun.core.attribution import Attribution, AttributionVerdict
from truerun.core.digest import digest_bytes
from truerun.core.errors import UsageError
from truerun.core.fact import RecoveryApplied, RunFinished, RunObserved, RunStarted, TraceFinished
from truerun.core.run import Mode, Overhead, Verdict
from truerun.ledger.entry import Entry
from truerun.ledger.history import History
from truerun.ledger.merkle import EMPTY_ROOT
from truerun.ledger.signing import Ed25519Signer
from truerun.ledger.tree_head import TreeHead

RUN_KEY = Ed25519Signer.from_seed(b"\x0a" * 32)


def locks(count):
    return [digest_bytes(b"lock %d" % number) for number in range(count)]


def fold(*facts):
    """A history of (signer, fact) pairs, or facts by Ana."""
    seen = TreeHead(origin="o", size=0, root=EMPTY_ROOT)
    pairs = [pair if isinstance(pair, tuple) else (ANA, pair) for pair in facts]
    return History.of(
        Entry(index=index, key=signer.public_key, fact=fact, envelope=b"", seen=seen)
        for index, (signer, fact) in enumerate(pairs)
    )


def started(run="r-abc", lock=LOCK):
    return RunStarted(
        run=run, lock=lock, mode=Mode.OBSERVE, command=("x",), run_key=RUN_KEY.public_key, decision=None, findings=(), at=AT
    )


def observed(run="r-abc", first=1):
    return RunObserved(run=run, rank=0, first_step=first, last_step=first + 9, records=LOCK, records_size=1, findings=(), at=AT)


def finished(run="r-abc", verdict=Verdict.PASS):
    return RunFinished(run=run, verdict=verdict, command_exit=0, steps=20, seconds=1.5, metrics={}, overhead=Overhead(), at=AT)


def test_a_real_ledger_is_folded():
    history = History.of(make_ledger().entries())
    assert history.created.fact == created()
    assert history.created.index == 0
    proposal = history.proposal(LOCK)
    assert (proposal.index, proposal.key, proposal.fact) == (4, EVA.public_key, proposed())
    assert [record.key for record in history.decisions_on(LOCK)] == [BEN.public_key]
    assert history.latest_proposal() == proposal
    assert history.all_proposals() == (proposal,)
    assert history.proposal(digest_bytes(b"other")) is None


def test_nothing_recorded_is_a_history_too():
    history = History.of([])
    assert history.created is None
    assert history.latest_proposal() is None
    assert history.all_proposals() == ()
    assert history.chain(LOCK, LOCK) == ()
    assert history.chain(digest_bytes(b"other"), LOCK) is None


def test_a_run_is_what_its_own_key_and_its_starter_signed():
    """Somebody else's word about a run, or a second start under the same id, does not count; it is kept as a stray."""
    history = fold(
        started(),
        (RUN_KEY, observed()),
        (BEN, observed(first=11)),
        (RUN_KEY, observed(first=11)),
        (BEN, finished(verdict=Verdict.FAIL)),
        (RUN_KEY, finished()),
        (RUN_KEY, finished(verdict=Verdict.FAIL)),
        (BEN, started()),
        (RUN_KEY, observed("never-started")),
        (ANA, started("r-abd")),
    )
    run = history.run("r-abc")
    assert [record.index for record in run.observed] == [1, 3]
    assert run.finished.index == 5
    assert run.finished.fact.verdict is Verdict.PASS
    assert run.last_index == 5
    assert [record.index for record in history.strays] == [2, 4, 6, 7, 8]
    assert history.runs["r-abd"].finished is None
    assert history.runs["r-abd"].last_index == 9


def test_runs_and_locks_are_found_by_a_prefix_that_only_one_has():
    history = fold(started("r-abc"), started("r-abd"), started("r-a"), proposed())
    assert history.run("r-abc").id == "r-abc"
    assert history.run("r-a").id == "r-a"
    assert history.lock(LOCK.value[:8]) == LOCK == history.lock(LOCK.render())
    for wrong in ("r-ab", "x", ""):
        with pytest.raises(UsageError):
            history.run(wrong)
    with pytest.raises(UsageError):
        history.lock("zz")
    with pytest.raises(UsageError):
        history.lock("")


def test_the_chain_between_two_locks_is_every_proposal_on_the_way():
    a, b, c, d = locks(4)
    history = fold(proposed(a), proposed(b, a), proposed(c, b), proposed(d, b))
    assert [record.fact.lock for record in history.chain(a, c)] == [b, c]
    assert [record.index for record in history.chain(a, d)] == [1, 3]
    assert history.chain(c, d) is None
    assert history.chain(d, a) is None
    assert history.chain(b, b) == ()


def test_a_change_that_was_taken_back_and_made_again_is_followed_the_newest_way():
    a, b, c = locks(3)
    history = fold(proposed(a), proposed(b, a), proposed(a, b), proposed(c, a), proposed(c, c))
    assert [record.index for record in history.chain(a, c)] == [3]
    assert [record.index for record in history.chain(b, c)] == [2, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14))
def test_every_chain_is_linked_and_in_order(pairs):
    names = locks(6)
    history = fold(*(proposed(names[child], names[parent]) for child, parent in pairs))
    for start in names:
        for end in names:
            chain = history.chain(start, end)
            if chain:
                assert chain[0].fact.parent == start
                assert chain[-1].fact.lock == end
                for before, after in itertools.pairwise(chain):
                    assert before.fact.lock == after.fact.parent
                    assert before.index < after.index


def test_traces_and_recoveries_and_decisions_keep_their_order():
    attribution = Attribution(verdict=AttributionVerdict.CANNOT_TELL, run="r", against="q")
    trace = TraceFinished(attribution=attribution, seconds=1, at=AT)
    recovery = RecoveryApplied(run="r", lock=LOCK, removed=(), at=AT)
    history = fold(trace, recovery, decided(), trace)
    assert [record.index for record in history.traces] == [0, 3]
    assert [record.index for record in history.recoveries] == [1]
    assert [record.index for record in history.decisions] == [2]
