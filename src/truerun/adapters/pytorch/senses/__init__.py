"""What the probe looks at besides the update: one file, one sense. `make_senses` is all that the probe knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from truerun.adapters.pytorch.sense import Sense
from truerun.adapters.pytorch.senses.batches import Batches
from truerun.adapters.pytorch.senses.clearing import Clearing
from truerun.adapters.pytorch.senses.clipping import Clipping
from truerun.adapters.pytorch.senses.collating import Collating
from truerun.adapters.pytorch.senses.duplicate_batches import DuplicateBatches
from truerun.adapters.pytorch.senses.evaluating import Evaluating
from truerun.adapters.pytorch.senses.gradient import GradientSense
from truerun.adapters.pytorch.senses.initialising import Initialising
from truerun.adapters.pytorch.senses.loading import LoadingSense
from truerun.adapters.pytorch.senses.modes import Modes
from truerun.adapters.pytorch.senses.ranks import Ranks
from truerun.adapters.pytorch.senses.scaling import Scaling
from truerun.adapters.pytorch.senses.spectral import Spectral
from truerun.adapters.pytorch.senses.timing import TimingSense
from truerun.adapters.pytorch.senses.training_set import TrainingSet
from truerun.adapters.pytorch.senses.workers import Workers

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

SENSES: tuple[type[Sense], ...] = (
    Batches,
    Workers,
    Collating,
    Clearing,
    Clipping,
    Evaluating,
    Initialising,
    Modes,
    Scaling,
    TrainingSet,
    TimingSense,
    GradientSense,
    Ranks,
    Spectral,
    DuplicateBatches,
    LoadingSense,
)


def make_senses(probe: Probe) -> tuple[Sense, ...]:
    """One of each for *probe*, in the order in which they are asked."""
    return tuple(sense(probe) for sense in SENSES)
