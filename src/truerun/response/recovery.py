"""What to go back to: the newest inputs without the changes that an attribution convicted, and what else goes with them.

Pure: decides what is left out and why; `apps/recovering.py` rebuilds and writes it. A later edit that does not apply without a
convicted one goes too, and is named: nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from truerun.attribution.candidates import Candidate, Subset
from truerun.core.attribution import Attribution, AttributionVerdict, Suspect
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.errors import UsageError

CONVICTED = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """
    `keep` are the positions of the changes that stay. `removed` are the convicted changes, `along` later changes that do not
    apply without them, `unreachable` convicted changes that files cannot undo (an installed package). `quarantined` are the
    rows-added changes among `removed`.
    """

    keep: Subset
    removed: tuple[Change, ...]
    along: tuple[Change, ...] = ()
    unreachable: tuple[Change, ...] = ()

    @property
    def quarantined(self) -> tuple[Change, ...]:
        """The removed changes whose rows are set aside."""
        return tuple(item for item in self.removed if item.kind is ChangeKind.DATA and item.action is Action.ROWS_ADDED)


def plan_recovery(attribution: Attribution, candidates: Sequence[Candidate]) -> RecoveryPlan:
    """
    Which of *candidates*, the changes from the reference to the newest lock, stay and which go.

    Raises UsageError when the attribution singled nothing out, or when its changes are not among the candidates any more.
    """
    convicted = [suspect for suspect in attribution.suspects if suspect.probability >= CONVICTED]
    if attribution.verdict is not AttributionVerdict.ATTRIBUTED or not convicted:
        raise UsageError(
            f"the trace of {attribution.run} singled no change out, so there is nothing to take back",
            got=attribution.verdict.value,
            next_step=f"truerun trace {attribution.run} with a larger --budget, or go back to an approved lock by hand",
        )
    gone = {item.position for item in candidates if any(_is_same(suspect, item) for suspect in convicted)}
    chosen = [item for item in candidates if item.position in gone]
    if not any(item.applies for item in chosen):
        titles = "; ".join(suspect.change.title() for suspect in convicted)
        raise UsageError(
            "no file can take back what was convicted",
            got=titles,
            next_step="use what the reference used: its command, its packages",
        )
    along = _dependents(candidates, gone)
    return RecoveryPlan(
        keep=frozenset(item.position for item in candidates if item.applies and item.position not in gone | along),
        removed=tuple(item.change for item in chosen if item.applies),
        along=tuple(item.change for item in candidates if item.position in along),
        unreachable=tuple(item.change for item in chosen if not item.applies),
    )


def _is_same(suspect: Suspect, item: Candidate) -> bool:
    """A change that was in no lock when it was traced may have been locked since."""
    return item.change.id == suspect.change.id and suspect.lock_entry in (None, item.entry)


def _dependents(candidates: Sequence[Candidate], gone: set[int]) -> set[int]:
    """Positions that need something in *gone*, directly or through others."""
    along: set[int] = set()
    for item in candidates:  # in order of history, so that one pass is enough
        if item.position not in gone and item.needs & (gone | along):
            along.add(item.position)
    return along
