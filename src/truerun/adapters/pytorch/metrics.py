"""Metrics that a training script reports: through `truerun.log` or TensorBoard's SummaryWriter. Records them, nothing else."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from truerun.adapters.pytorch.channel import Channel
from truerun.adapters.pytorch.settings import SOCKET

MAX_NAME = 200
_channel: Channel | None = None


def log_metrics(metrics: Mapping[str, Any]) -> None:
    """Hand *metrics* (name → number) to the agent; does nothing without one, never raises because of a value."""
    values = {str(name)[:MAX_NAME]: number for name, value in metrics.items() if (number := _number(value)) is not None}
    path = os.environ.get(SOCKET)
    if not values or not path:
        return
    probe = _current_probe()
    step = probe.steps if probe is not None else 0
    frame = {"kind": "metrics", "step": step, "values": values}
    channel = probe.channel if probe is not None else _own_channel(path)
    if channel.open(_hello()):
        channel.send(frame)


def watch_writer(writer: type[Any]) -> None:
    """Let `SummaryWriter.add_scalar` report the scalar as a metric too; the event files stay as they are."""
    original = writer.add_scalar

    @functools.wraps(original)
    def add_scalar(self: Any, tag: Any, scalar_value: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, tag, scalar_value, *args, **kwargs)
        log_metrics({tag: scalar_value})
        return result

    writer.add_scalar = add_scalar


def _number(value: Any) -> float | None:
    try:
        # A tensor with a gradient would make torch warn, on the program's standard error.
        return float(value.detach() if hasattr(value, "detach") else value)
    except Exception:  # whatever a foreign __float__ raises, it is not a number
        return None


def _current_probe() -> Any:
    import sys

    module = sys.modules.get("truerun.adapters.pytorch.probe")  # not imported here: it needs torch
    return module.current() if module is not None else None


def _hello() -> dict[str, Any]:
    return {"kind": "hello", "pid": os.getpid(), "rank": os.environ.get("RANK"), "torch": None}


def _own_channel(path: str) -> Channel:
    global _channel  # noqa: PLW0603 (one process, one line)
    if _channel is None:
        _channel = Channel(path)
    return _channel
