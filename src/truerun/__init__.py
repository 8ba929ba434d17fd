"""Truerun tells a training team whether a run is what it claims to be, and if not, which change made it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from truerun.core.version import __version__

if TYPE_CHECKING:
    import os

    from truerun.adapters.watching import Watch

__all__ = ["__version__", "log", "watch"]


def log(**metrics: float) -> None:
    """
    Report metrics from a training script: `truerun.log(val_accuracy=0.97)`.

    Costs a few microseconds, never blocks, never raises because of what is watched or not; where nobody
    watches (`truerun run`, `truerun.watch`), it does nothing.
    """
    from truerun.adapters.pytorch.metrics import log_metrics

    log_metrics(metrics)


def watch(
    model: Any = None,
    optimizer: Any = None,
    loader: Any = None,
    *,
    run_id: str | None = None,
    against: str | None = None,
    config: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Watch:
    """
    Watch the training in this process, where `truerun run` did not start it: `with truerun.watch(model, optimizer):`.

    Every optimizer step from here on is checked by a process of its own, until the block ends, `close()` is called or
    this process ends. Findings go to standard error as they come, and to the `findings` of what this returns. Inside a
    project (the nearest `truerun.toml`, or *config*) the run is recorded in observe mode; elsewhere nothing is. *model*
    (or several) gives the parameters their names; *optimizer* and *loader* are looked at before anything starts. *run_id*,
    *against* and *key* are those of `truerun run`, under which this has nothing left to do and returns at once.

    Raises UsageError for arguments that are not what they should be, for a second watch in the same process and for a
    `truerun.toml` that cannot be read; TruerunError where the agent does not start. Never raises afterwards.
    """
    from truerun.adapters.watching import watch as begin

    return begin(model, optimizer, loader, run_id=run_id, against=against, config=config, key=key)
