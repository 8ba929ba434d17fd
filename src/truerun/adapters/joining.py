"""What the callbacks for training frameworks have in common: begin to watch if nobody does, pass metrics on, let go again.

Of several ranks that `truerun run` did not start only the first is watched: agents that know nothing of each other compare nothing.
A callback must not end a training: what `truerun.watch` refuses is said on standard error, and training goes on unwatched.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from truerun.adapters.pytorch.metrics import log_metrics
from truerun.adapters.watching import Watch, watch
from truerun.core.errors import TruerunError


class Joined:
    """One training that a framework runs. `watch` is open from `begin` to `end`, unless somebody else watches already."""

    def __init__(self) -> None:
        self.watch: Watch | None = None

    def begin(self, model: Any) -> None:
        """Training is about to begin; *model* gives the parameters their names."""
        from truerun.adapters.pytorch import probe, reading

        if probe.current() is not None:  # truerun run, or a watch around all of this
            if model is not None:
                reading.name_after(model)
            return
        if os.environ.get("RANK", "0") != "0":
            return
        if os.environ.get("WORLD_SIZE", "1") != "1":
            _say("only rank 0 is watched; truerun run -- torchrun … watches and compares them all")
        try:
            self.watch = watch(model)
        except (TruerunError, OSError) as error:
            _say(f"training goes on unwatched: {error}")

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Pass on what the framework logs; what is not a number is left out."""
        log_metrics(metrics)

    def end(self, error: BaseException | None = None) -> None:
        """Training has ended, with *error* or without."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.__exit__(type(error) if error is not None else None, error, None)


def _say(what: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a program may have closed its standard error
        sys.stderr.write(f"truerun: {what}\n")
