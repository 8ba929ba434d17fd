"""Which parameters of a model trained, as it was seen, and what a later run is compared with. The rules are beside it.

`frozen-trains` and `not-training` judge the two directions; both need names without what wrappers put in front of them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ASKS, HELD, GIVEN, MOVED = 1, 2, 4, 8
SETTLED_STEPS = 8
NAMED = 6
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersSeen:
    """
    The parameters of one optimizer's model after `own_step` of its steps, by name: elements, and state.

    A state is a sum of ASKS (for a gradient), HELD (by an optimizer), GIVEN (a gradient, ever), MOVED (since the first step).
    """

    step: int
    own_step: int
    rank: int
    kind: str
    sizes: Mapping[str, int]
    state: Mapping[str, int]

    @property
    def settled(self) -> bool:
        """Whether so many steps have been seen that what has not happened will not."""
        return self.own_step >= SETTLED_STEPS

    def trains(self, name: str) -> bool:
        """Whether *name* moved, or has everything that it takes."""
        state = self.state[name]
        return bool(state & MOVED) or state & (ASKS | HELD | GIVEN) == ASKS | HELD | GIVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is expected of a parameter: `frozen` and `trained` patterns that were declared, else what the run `origin` showed."""

    frozen: Sequence[str] = ()
    trained: Sequence[str] = ()
    earlier: Mapping[str, Any] | None = None
    origin: str = ""
    same_program: bool = False

    def trained_then(self, seen: ParametersSeen) -> Mapping[str, bool] | None:
        """Whether each parameter trained in the earlier run; None where there is none, or its model had other parameters."""
        earlier = self.earlier
        if not earlier or earlier["names"] != _digest(seen.sizes):
            return None
        listed = set(earlier["which"])
        return {name: (name in listed) == bool(earlier["trains"]) for name in seen.sizes}


def plain_name(name: str) -> str:
    """*name* without what DDP, FSDP or torch.compile put in front of it or into it."""
    return _WRAPPERS.sub("", name)


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those of *names* that one of *patterns* (with `*`, which matches dots too) names."""
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def listed(names: Sequence[str]) -> str:
    """*names* for a sentence."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def learned(seen: ParametersSeen) -> dict[str, Any]:
    """What trained, for a later run: the shorter of the two lists, with a digest of all names."""
    trains = [name for name in seen.sizes if seen.trains(name)]
    still = [name for name in seen.sizes if not seen.trains(name)]
    shorter = min(trains, still, key=len)
    return {"names": _digest(seen.sizes), "trains": shorter is trains, "which": shorter}


def _digest(names: Mapping[str, int]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=16).hexdigest()
