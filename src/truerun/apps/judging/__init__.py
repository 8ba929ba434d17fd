"""What the agent judges besides the update: one file, one judge. `make_judges` is all that the observer knows of them."""

from __future__ import annotations

from truerun.apps.judging.batches import BatchesJudge
from truerun.apps.judging.clearing import Clearing
from truerun.apps.judging.clipping import Clipping
from truerun.apps.judging.curves import CurvesJudge
from truerun.apps.judging.evaluating import Evaluating
from truerun.apps.judging.gradient import GradientJudge
from truerun.apps.judging.initialising import Initialising
from truerun.apps.judging.judge import Judge
from truerun.apps.judging.loading import LoadingJudge
from truerun.apps.judging.modes import Modes
from truerun.apps.judging.ranks import RanksJudge
from truerun.apps.judging.scaling import Scaling
from truerun.apps.judging.spectral import Spectral
from truerun.apps.judging.timing import TimingJudge
from truerun.apps.judging.training_set import TrainingSet
from truerun.apps.watched_run import WatchRequest

JUDGES: tuple[type[Judge], ...] = (
    BatchesJudge,
    Clearing,
    Clipping,
    Evaluating,
    Initialising,
    Modes,
    Scaling,
    TrainingSet,
    TimingJudge,
    CurvesJudge,
    GradientJudge,
    RanksJudge,
    Spectral,
    LoadingJudge,
)


def make_judges(request: WatchRequest) -> tuple[Judge, ...]:
    """One of each for the run of *request*."""
    return tuple(judge(request) for judge in JUDGES)
