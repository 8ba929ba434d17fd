"""Every fact in one plain line."""

import pytest
from tests.ledger.material import AT, LOCK, added, created, decided, proposed, revoked
from tests.ledger.test_history import finished, observed, started

from truerun.core.attribution import Attribution, AttributionVerdict, Suspect
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.fact import FACTS, LockProposed, RecoveryApplied, TraceFinished
from truerun.ledger.describe import describe_fact

CHANGES = tuple(
    Change(kind=ChangeKind.CONFIG, action=Action.MODIFIED, name="config.yaml", key=f"key{number}", before=1, after=2)
    for number in range(3)
)
ATTRIBUTION = Attribution(
    verdict=AttributionVerdict.ATTRIBUTED, run="r2", against="r1", suspects=(Suspect(change=CHANGES[0], probability=0.97),)
)
LINES = [
    (created(), "created the ledger of digits"),
    (added("ana"), "added ana (Ana) as owner"),
    (revoked(1), "revoked person-1: left"),
    (
        LockProposed(lock=LOCK, changes=CHANGES, at=AT, note="two\nlines"),
        f"proposed lock {LOCK.short}: config.yaml key0 1 -> 2; config.yaml key1 1 -> 2; 1 more — two lines",
    ),
    (proposed(), f"proposed lock {LOCK.short}: no changes"),
    (decided(), f"approved lock {LOCK.short} (proposed in entry 4) — looks right"),
    (started(), f"started run r-abc with lock {LOCK.short} to observe"),
    (observed(), "observed r-abc, rank 0, steps 1 to 10"),
    (finished(), "finished r-abc: pass after 20 steps in 2 s"),
    (TraceFinished(attribution=ATTRIBUTION, seconds=1, at=AT), "traced r2: attributed: config.yaml key0 1 -> 2 (0.97)"),
    (
        RecoveryApplied(run="r2", lock=LOCK, removed=CHANGES[:1], at=AT),
        f"recovered from r2 with lock {LOCK.short}, without: config.yaml key0 1 -> 2",
    ),
]


@pytest.mark.parametrize(("fact", "line"), LINES, ids=lambda value: getattr(value, "KIND", None))
def test_each_fact_reads_as_one_line(fact, line):
    assert describe_fact(fact) == line


def test_every_kind_of_fact_has_a_line():
    assert {fact.KIND for fact, _ in LINES} == set(FACTS)
