"""Where a program spends its time, from samples of its stack that were taken outside of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What a stack goes through in each phase: a function's name and the end of its file's name. Innermost match wins.
PHASE_FRAMES = (
    ("data", "__next__", "torch/utils/data/dataloader.py"),
    ("optimizer", "wrapper", "torch/optim/optimizer.py"),
    ("backward", "backward", "torch/autograd/__init__.py"),
    ("backward", "_engine_run_backward", "torch/autograd/graph.py"),
    ("forward", "_call_impl", "torch/nn/modules/module.py"),
)
_SLEEP_CALL = re.compile(r"sleep\s*\(")
MIN_SAMPLES = 3
MOST = 0.5
MIN_STEPPING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One function call on a stack. `text` is the line's source, empty where it could not be read."""

    path: str
    line: int
    name: str
    text: str = ""

    @property
    def shown(self) -> str:
        """As people read it: train.py:41 in main."""
        return f"{_short(self.path)}:{self.line} in {self.name}"

    @property
    def sleeps(self) -> bool:
        """Whether the line calls something that is named for sleeping."""
        return _SLEEP_CALL.search(self.text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where the stepping thread was, by samples of its stack: the innermost `frame`, and the innermost one outside of the
    standard library and installed packages (`caller`, None when that is the same). `samples` were taken there of `total`.
    """

    frame: Frame
    caller: Frame | None
    phase: str
    samples: int
    total: int

    @property
    def share(self) -> float:
        """Share of the samples."""
        return self.samples / self.total

    @property
    def shown(self) -> str:
        """In words: torch/optim/optimizer.py:515 in wrapper, called from train.py:41 in main."""
        return self.frame.shown + (f", called from {self.caller.shown}" if self.caller is not None else "")

    @property
    def is_torch(self) -> bool:
        """Whether it is a file of torch, other than those that wait for other processes by design."""
        path = self.frame.path
        waits = ("torch/distributed/", "torch/multiprocessing/", "torch/utils/data/", "torch/_inductor/")
        return "site-packages/torch/" in path and not any(part in path for part in waits)


Stacks = Mapping[tuple[Frame, ...], int]


def find_named_sleep(stacks: Stacks) -> Place | None:
    """The line with most samples among those that are named for sleeping. *stacks* count samples by stack, outermost first."""
    named = [place for place in _places(stacks) if place.frame.sleeps and place.samples >= MIN_SAMPLES]
    return max(named, key=lambda place: place.samples, default=None)


def find_wait(still: Stacks) -> Place | None:
    """The line at which most of the samples that found the thread off the processor and out of its queue (*still*) were taken."""
    place = find_still(still)
    return place if place is not None and place.samples >= MIN_SAMPLES and place.share >= MOST else None


def find_still(stacks: Stacks) -> Place | None:
    """The line with most samples: where a thread is that does nothing else."""
    return max(_places(stacks), key=lambda place: place.samples, default=None)


def find_step(stacks: Stacks) -> Frame | None:
    """The frame that called an optimizer's step, when samples (not a single one) show that step being taken."""
    found = {stack: count for stack, count in stacks.items() if _phase(stack) == "optimizer"}
    if sum(found.values()) < MIN_STEPPING:
        return None
    stack = max(found, key=lambda item: found[item])
    return next((frame for frame in reversed(stack) if not is_library(frame.path)), stack[-1])


def _places(stacks: Stacks) -> list[Place]:
    total = sum(stacks.values())
    counted: dict[tuple[str, int], list[tuple[tuple[Frame, ...], int]]] = {}
    for stack, count in stacks.items():
        if stack:
            counted.setdefault((stack[-1].path, stack[-1].line), []).append((stack, count))
    found = []
    for stacked in counted.values():
        stack = max(stacked, key=lambda item: item[1])[0]
        own = next((frame for frame in reversed(stack) if not is_library(frame.path)), None)
        found.append(
            Place(
                frame=stack[-1],
                caller=own if own is not stack[-1] else None,
                phase=_phase(stack),
                samples=sum(count for _, count in stacked),
                total=total,
            )
        )
    return found


def is_library(path: str) -> bool:
    """Whether a file belongs to the standard library, an installed package or the probe."""
    return (
        "site-packages/" in path
        or "truerun/adapters/pytorch/" in path
        or "dist-packages/" in path
        or "/lib/python3" in path
        or path.startswith("<frozen")
    )


def _phase(stack: Sequence[Frame]) -> str:
    for frame in reversed(stack):
        for phase, name, end in PHASE_FRAMES:
            if frame.name.rpartition(".")[2] == name and frame.path.endswith(end):
                return phase
    return "other"


def _short(path: str) -> str:
    """A path from its package or its last folder on."""
    for mark in ("site-packages/", "dist-packages/"):
        if mark in path:
            return path.rpartition(mark)[2]
    return path.rpartition("/")[2]
