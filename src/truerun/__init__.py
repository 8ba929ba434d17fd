"""Truerun tells a training team whether a run is what it claims to be, and if not, which change made it so."""

from __future__ import annotations

from truerun.core.version import __version__

__all__ = ["__version__", "log"]


def log(**metrics: float) -> None:
    """
    Report metrics from a training script: `truerun.log(val_accuracy=0.97)`.

    Costs a few microseconds, never blocks, never raises because of what is watched or not; without `truerun run`
    around it, it does nothing.
    """
    from truerun.adapters.pytorch.metrics import log_metrics

    log_metrics(metrics)
