"""What the agent judges besides the update: one file, one judge. `make_judges` is all that the observer knows of them."""

from __future__ import annotations

from truerun.apps.judging.judge import Judge
from truerun.apps.judging.loading import LoadingJudge
from truerun.apps.watched_run import WatchRequest

JUDGES: tuple[type[Judge], ...] = (LoadingJudge,)


def make_judges(request: WatchRequest) -> tuple[Judge, ...]:
    """One of each for the run of *request*."""
    return tuple(judge(request) for judge in JUDGES)
