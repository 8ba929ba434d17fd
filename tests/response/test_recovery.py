"""What goes back and what stays: exactly the convicted changes and what cannot stand without them."""

from __future__ import annotations

import pytest

from truerun.attribution.candidates import Candidate, Lever
from truerun.core.attribution import Attribution, AttributionVerdict, Suspect
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.digest import digest_bytes
from truerun.core.errors import UsageError
from truerun.response.recovery import plan_recovery

DIGEST = digest_bytes(b"")


def candidate(position: int, name: str, *, lever: Lever = Lever.FILE, needs: frozenset[int] = frozenset()) -> Candidate:
    kind = ChangeKind.DATA if lever is Lever.ROWS else ChangeKind.ENVIRONMENT if lever is Lever.CANNOT else ChangeKind.CODE
    action = Action.ROWS_ADDED if lever is Lever.ROWS else Action.MODIFIED
    change = Change(kind=kind, action=action, name=name, before=position, after={"count": position, "rows": ""})
    return Candidate(position=position, change=change, entry=10 + position, before=DIGEST, after=DIGEST, lever=lever, needs=needs)


def traced(*suspects: tuple[Candidate, float], verdict: AttributionVerdict = AttributionVerdict.ATTRIBUTED) -> Attribution:
    return Attribution(
        verdict=verdict,
        run="bad",
        against="good",
        suspects=tuple(Suspect(change=c.change, probability=p, lock_entry=c.entry) for c, p in suspects),
    )


def test_the_convicted_go_and_the_rest_stays() -> None:
    code, rows, key = candidate(0, "a.py"), candidate(1, "train", lever=Lever.ROWS), candidate(2, "b.py")
    plan = plan_recovery(traced((code, 0.04), (rows, 0.98), (key, 0.01)), [code, rows, key])
    assert plan.removed == (rows.change,)
    assert plan.quarantined == (rows.change,)
    assert plan.keep == {0, 2}
    assert plan.along == ()


def test_what_builds_on_a_convicted_change_goes_along_and_is_named() -> None:
    first = candidate(0, "a.py")
    second = candidate(1, "a.py", needs=frozenset({0}))
    third = candidate(2, "a.py", needs=frozenset({1}))
    other = candidate(3, "b.py")
    plan = plan_recovery(traced((first, 0.99)), [first, second, third, other])
    assert plan.along == (second.change, third.change)
    assert plan.keep == {3}


def test_the_same_change_in_another_lock_stays() -> None:
    """Two people made the same edit at different times; only the entry that was convicted goes."""
    convicted = candidate(0, "a.py")
    twin = Candidate(
        position=1, change=convicted.change, entry=99, before=DIGEST, after=DIGEST, lever=Lever.FILE, needs=frozenset()
    )
    plan = plan_recovery(traced((convicted, 0.95)), [convicted, twin])
    assert plan.keep == {1}


def test_nothing_singled_out_is_nothing_to_take_back() -> None:
    one = candidate(0, "a.py")
    with pytest.raises(UsageError, match="singled no change out"):
        plan_recovery(traced((one, 0.5), verdict=AttributionVerdict.CANNOT_TELL), [one])


def test_a_package_is_beyond_the_reach_of_files() -> None:
    package = candidate(0, "torch", lever=Lever.CANNOT)
    with pytest.raises(UsageError, match="no file can take back"):
        plan_recovery(traced((package, 0.95)), [package])
