"""What the probe looks at besides the update: one file, one sense. `make_senses` is all that the probe knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from truerun.adapters.pytorch.sense import Sense
from truerun.adapters.pytorch.senses.loading import LoadingSense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

SENSES: tuple[type[Sense], ...] = (LoadingSense,)


def make_senses(probe: Probe) -> tuple[Sense, ...]:
    """One of each for *probe*, in the order in which they are asked."""
    return tuple(sense(probe) for sense in SENSES)
