"""What the agent tells the probe through the environment, and nothing the program could trip over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SOCKET = "TRUERUN_SOCKET"
SOURCE = "TRUERUN_SOURCE"
PROBE = "TRUERUN_PROBE"
STOP_AFTER = "TRUERUN_STOP_AFTER"
REPLAY_KEY = "TRUERUN_REPLAY_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    How to watch.

    `every` forces the distance between full checks (1 = each step), else `overhead` (a share of the run time) decides;
    `coordinates` is how many are looked at in one check; of `duplicate_batches` batches about one is given to two ranks (0 = none). `stop_after` ends the process with exit code 0 right after that
    optimizer step. With a `replay_key` every step gets a fingerprint over loss, gradients and parameters. `declared` is
    what `[training]` says, by name, for the senses that look for it.
    """

    overhead: float = 0.02
    every: int | None = None
    coordinates: int = 256
    duplicate_batches: int = 0
    stop_after: int | None = None
    replay_key: str | None = None
    declared: Mapping[str, Any] = field(default_factory=dict)


def render_settings(settings: Settings) -> dict[str, str]:
    """Environment variables for *settings*. Law: parse_settings(render_settings(s)) == s."""
    shown: dict[str, Any] = {"overhead": settings.overhead, "every": settings.every, "coordinates": settings.coordinates}
    if settings.duplicate_batches:
        shown["duplicate_batches"] = settings.duplicate_batches
    if settings.declared:
        shown["declared"] = dict(settings.declared)
    variables = {PROBE: json.dumps(shown)}
    if settings.stop_after is not None:
        variables[STOP_AFTER] = str(settings.stop_after)
    if settings.replay_key is not None:
        variables[REPLAY_KEY] = settings.replay_key
    return variables


def parse_settings(variables: Mapping[str, str] = os.environ) -> Settings:
    """Read what render_settings wrote; raises ValueError, which ends the watching and not the program."""
    shown = json.loads(variables.get(PROBE, "{}"))
    stop_after = variables.get(STOP_AFTER)
    return Settings(**shown, stop_after=int(stop_after) if stop_after else None, replay_key=variables.get(REPLAY_KEY) or None)
