"""Ranks: what the agent needs to see whether data-parallel processes still hold the same model. Adds no collective.

At steps that all ranks share, each hands over a checksum of every tensor, or of a stretch of it (gradient before the step;
parameter and optimizer state after it), and a few values at coordinates that all ranks share. Steps and coordinates come from a secret that the
agent gives to all ranks for sixteen steps at a time. Buffers are not read: running statistics may differ between ranks.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import struct
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch import parallel
from truerun.adapters.pytorch.budget import CREDIT_SECONDS
from truerun.adapters.pytorch.program_digest import describe_program
from truerun.adapters.pytorch.sampling import draw_coordinates
from truerun.adapters.pytorch.sense import Sense
from truerun.adapters.pytorch.wrapping import Look

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe
    from truerun.adapters.pytorch.watched import Buffers, Watched

BLOCK_STEPS = 16
ASK_AHEAD = 4
FIRST_LOOKS = 2
FIRST_SECRET_SECONDS = 0.1
PICKED_TENSORS = PICKED_VALUES = 4
SHARE = 0.25
MAX_GAP = 256
NONE, ODD = -1.0, -2.0
STRETCH = 16_384
MASK = 0xFFFFFFFF
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_clock = time.perf_counter
# What a look costs is what it takes of the processor: on a busy machine the time on the wall is mostly others'.
_cost = time.thread_time


@dataclass(slots=True, eq=False)
class Followed:
    """One optimizer whose tensors other ranks hold too; `base` is its step at which counting began anew."""

    watched: Watched
    shared: list[int]
    pointers: frozenset[int]
    base: int
    secret: tuple[str, bytes, int] | None = None
    picks: list[int] = field(default_factory=list)
    indices: list[Any] = field(default_factory=list)
    due: bool = False
    mark: str = ""
    window: int = 0
    raw: tuple[str, bytes] | None = None
    before: Buffers = field(default_factory=dict)
    waiting: bool = False
    averaged: int = 0
    last: float | None = None
    step_seconds: float = 0.0
    look_seconds: float = 0.0
    began_seconds: float = 0.0


class Ranks(Sense):
    """Follows every optimizer of a process that torch.distributed has made one of several."""

    name = "ranks"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.wrappers = parallel.Wrappers()
        self.era = 0
        self.place: tuple[int, int] | None = None
        self.spent_seconds = 0.0
        self.started: float | None = None
        self.followed: dict[int, Followed] = {}
        self.optimizers: dict[int, tuple[Watched, weakref.ref[Any]]] = {}

    def install(self) -> None:
        """Look at what makes ranks hold the same, and at what puts the same into them."""
        if not torch.distributed.is_available():
            return
        from torch.distributed.algorithms.join import Join
        from torch.distributed.algorithms.model_averaging import averagers

        wrapper = torch.nn.parallel.DistributedDataParallel
        self.wrap(wrapper, "__init__", after=self._wrapped)
        self.wrap(wrapper, "register_comm_hook", after=lambda module, _, hook: self.wrappers.hooked(module, hook))
        self.wrap(Join, "__exit__", after=self._joined)
        self.wrap(averagers.PeriodicModelAverager, "average_parameters", after=self._averaged)
        self.wrap(torch.utils.data.DistributedSampler, "__iter__", before=self._sampled)
        for name in ("all_reduce", "broadcast"):
            self.probe.replace(torch.distributed, name, lambda original: _unless_compiled(original, self, self._collective))

    # What the program does.

    def _wrapped(self, module: Any, *_: Any, **__: Any) -> None:
        self.wrappers.add(module)
        self.probe.note("ranks_averaged")
        for watched, reference in list(self.optimizers.values()):
            optimizer = reference()
            if optimizer is not None:
                self.new_optimizer(watched, optimizer)

    def _joined(self, *_: Any, **__: Any) -> None:
        self.era += 1
        self.probe.note("ranks_averaged")
        for followed in self.followed.values():
            followed.base, followed.secret = followed.watched.steps, None
            self._ask_for(followed, self._key(1))
            self._plan(followed)

    def _averaged(self, *_: Any, **__: Any) -> None:
        self.probe.note("ranks_averaged")
        for followed in self.followed.values():
            followed.averaged += 1

    def _collective(self, tensor: Any, *_: Any, **__: Any) -> None:
        pointer = tensor.data_ptr() if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided else 0
        for followed in self.followed.values():
            if pointer in followed.pointers:
                self.probe.note("ranks_averaged")
                followed.averaged += 1

    def _sampled(self, sampler: Any) -> None:
        """An epoch begins: which part of the data this rank reads, and in what order."""
        place = parallel.place()
        if place is None or sampler.num_replicas != place[1] or getattr(sampler, "of_another_rank", False):
            return
        header = {"launch": parallel.launch(), "rank": place[0], "world": place[1], "local": _local_ranks(*place)}
        like = [len(sampler.dataset), bool(sampler.shuffle), bool(sampler.drop_last)]
        read = [int(sampler.rank), int(sampler.seed), int(sampler.epoch)]
        self.probe.channel.send({"kind": "sampler", **header, "like": like, "read": read})

    # The optimizers.

    def new_optimizer(self, watched: Watched, optimizer: Any) -> None:
        """Say which ranks hold which of its tensors, if there are other ranks."""
        self.optimizers[watched.number] = (watched, weakref.ref(optimizer))
        place = parallel.place()
        if place is None or place[1] < 2:
            return
        if self.place is None:
            self.place = place
            header = {"rank": place[0], "launch": parallel.launch(), "local": _local_ranks(*place)}
            self.probe.channel.send({"kind": "program", **header, **describe_program()})
        self._follow(watched, optimizer)

    def _follow(self, watched: Watched, optimizer: Any) -> None:
        assert self.place is not None
        rank, world = self.place
        copies = [self.wrappers.copies(tensor, world) for tensor in watched.tensors]
        distinct = list(dict.fromkeys(copies))
        self.probe.channel.send(
            {
                "kind": "parallel",
                "optimizer": watched.number,
                "rank": rank,
                "world": world,
                "local": _local_ranks(rank, world),
                "launch": parallel.launch(),
                "peers": parallel.peers(watched.tensors, copies),
                "copies": [[copy.ranks, copy.why] for copy in distinct],
                "of": [distinct.index(copy) for copy in copies],
                "hooks": self.wrappers.hooks(watched.tensors),
            }
        )
        shared = [i for i, copy in enumerate(copies) if len(copy.ranks) > 1 and parallel.local(watched.tensors[i]).numel()]
        known = self.followed.get(watched.number)
        if not shared:
            self.followed.pop(watched.number, None)
            return
        pointers = frozenset(parallel.local(tensor).data_ptr() for tensor in watched.tensors)
        if known is not None:
            known.shared, known.pointers, known.due = shared, pointers, False
            return
        followed = self.followed[watched.number] = Followed(watched, shared, pointers, watched.steps)
        self._ask_for(followed, self._key(1))
        self._plan(followed, FIRST_SECRET_SECONDS)

    # The secret: which of the next steps, and which values.

    def _key(self, step: int) -> str:
        return f"{parallel.launch()}|{self.era}|{step // BLOCK_STEPS}"

    def _ask_for(self, followed: Followed, key: str) -> None:
        gap = 1
        if self.probe.settings.every is not None:
            gap = self.probe.settings.every
        elif followed.step_seconds:
            gap = math.ceil(followed.look_seconds / (SHARE * self.probe.settings.overhead * followed.step_seconds + 1e-9))
        request = {"optimizer": followed.watched.number, "key": key, "gap": max(1, min(MAX_GAP, gap))}
        self.probe.channel.send({"kind": "ranks-ask", **request})

    def _plan(self, followed: Followed, wait_seconds: float = 0.0) -> None:
        """Decide whether the next step is one to look at, and where."""
        step = followed.watched.steps + 1 - followed.base
        key = self._key(step)
        if (step + ASK_AHEAD) % BLOCK_STEPS == 0:
            self._ask_for(followed, self._key(step + ASK_AHEAD))
        if followed.secret is None or followed.secret[0] != key:
            answer = self.probe.channel.receive("ranks-secret", followed.watched.number, wait_seconds)
            if answer is not None and answer.header["key"] == key:
                followed.secret = (key, bytes.fromhex(answer.header["secret"]), int(answer.header["gap"]))
            else:
                followed.due = False
                return
        _, secret, gap = followed.secret
        nonce = hashlib.blake2b(step.to_bytes(8, "big"), key=secret, digest_size=16).digest()
        followed.mark, followed.window = nonce[-4:].hex(), int.from_bytes(nonce[4:12], "big")
        # One look in each stretch of *gap* steps, somewhere in it, so that no stretch goes by without.
        stretch, within = divmod(step % BLOCK_STEPS, gap)
        drawn = hashlib.blake2b(b"when" + stretch.to_bytes(2, "big"), key=secret, digest_size=4).digest()
        followed.due = step <= FIRST_LOOKS or int.from_bytes(drawn, "big") % gap == within
        if followed.due:
            self._draw(followed, nonce)

    def _draw(self, followed: Followed, nonce: bytes) -> None:
        shared, tensors = followed.shared, followed.watched.tensors
        drawn = draw_coordinates(nonce + b"ranks", [len(shared)], [min(PICKED_TENSORS, len(shared))])[0]
        followed.picks = sorted({shared[i] for i in drawn})
        sizes = [parallel.local(tensors[i]).numel() for i in followed.picks]
        flat = draw_coordinates(nonce + b"values", sizes, [PICKED_VALUES] * len(sizes))
        followed.indices = [
            torch.tensor(at, device=parallel.local(tensors[i]).device) for i, at in zip(followed.picks, flat, strict=True)
        ]
        followed.raw = None

    # A look.

    def after_backward(self, tensors: Any) -> None:
        """Keep what the gradients are before anything is done to them; the last `backward` before the step counts."""
        for followed in self.followed.values():
            followed.waiting = self.wrappers.waiting(followed.watched.tensors[:1])
            if followed.due:
                followed.raw = self._values(followed, gradient=True)

    def before_step(self, watched: Watched, optimizer: Any) -> None:
        """Read parameters and gradients where this step is one to look at."""
        followed = self.followed.get(watched.number)
        if followed is None:
            return
        now = _clock()
        if followed.last is not None:
            took = now - followed.last
            followed.step_seconds = took if not followed.step_seconds else 0.9 * followed.step_seconds + 0.1 * took
        followed.last = now
        if watched.steps == 1:
            followed.waiting = self.wrappers.waiting(watched.tensors[:1])
        if not followed.due or not self._affords(now):
            followed.due = False
            return
        begun = _cost()
        gradients = [tensor.grad for tensor in watched.tensors]
        followed.before = {
            "p0": self._values(followed),
            "g": self._values(followed, gradient=True),
            "g.sum": _sums(gradients, watched.tensors, followed.shared, followed.window),
        }
        followed.began_seconds = _cost() - begun

    def _affords(self, now: float) -> bool:
        """A share of the budget is this sense's own: a look is worth nothing unless all ranks take it."""
        if self.started is None:
            self.started = now
        allowed = SHARE * (self.probe.settings.overhead * (now - self.started) + CREDIT_SECONDS)
        return self.spent_seconds < allowed or self.probe.budget.affords(now)

    def after_step(self, watched: Watched, optimizer: Any) -> None:
        """Hand the look over, and plan the next one."""
        followed = self.followed.get(watched.number)
        if followed is None:
            if watched.steps.bit_count() == 1 and self.place is None:
                self.new_optimizer(watched, optimizer)
            return
        if followed.due:
            self._hand_over(followed, optimizer)
        self._plan(followed)

    def _hand_over(self, followed: Followed, optimizer: Any) -> None:
        begun = _cost()
        watched, everything = followed.watched, followed.watched.tensors
        buffers = {
            **followed.before,
            "r": followed.raw or followed.before["g"],
            "p": self._values(followed),
            "p.sum": _sums(everything, everything, followed.shared, followed.window),
            "s.sum": _state_sums(optimizer, everything, followed.shared, followed.window),
        }
        header = {
            "kind": "ranks",
            "optimizer": watched.number,
            "step": self.probe.steps,
            "own_step": watched.steps,
            "era": self.era,
            "base": followed.base,
            "mark": followed.mark,
            "waiting": followed.waiting,
            "averaged": followed.averaged,
            "tensors": followed.shared,
            "picks": followed.picks,
        }
        self.probe.channel.send(header, buffers)
        followed.before, followed.raw, followed.due = {}, None, False
        took = followed.began_seconds + _cost() - begun
        self.spent_seconds += took
        # The first look warms up what later ones find warm.
        warm = watched.steps > followed.base + 1 and followed.look_seconds
        followed.look_seconds = took if not warm else 0.8 * followed.look_seconds + 0.2 * took

    @staticmethod
    def _values(followed: Followed, *, gradient: bool = False) -> tuple[str, bytes]:
        taken: list[float] = []
        for i, index in zip(followed.picks, followed.indices, strict=True):
            tensor = followed.watched.tensors[i]
            read = tensor.grad if gradient else tensor
            if read is None or tensor.is_complex() or not parallel.comparable(read, tensor):
                taken += [math.nan] * len(index)
            else:
                taken += torch.take(parallel.local(read).detach(), index).tolist()
        return packed(taken)


def _local_ranks(rank: int, world: int) -> list[int]:
    """[first, number] of the ranks that run on this machine, as far as the launcher says."""
    count, own = os.environ.get("LOCAL_WORLD_SIZE", ""), os.environ.get("LOCAL_RANK", "")
    return [rank - int(own), int(count)] if count.isdigit() and own.isdigit() else [0, world]


def _sums(read: list[Any], tensors: list[Any], which: list[int], window: int) -> tuple[str, bytes]:
    """
    For each tensor of *which* the sum of its bits as integers, modulo 2**32; NONE where there is none, ODD where it has no bits here.

    Of a tensor of more than STRETCH elements one stretch is read, which *window* (of 2**64) chooses; in time all are.
    """
    usable = [i for i in which if read[i] is not None and parallel.comparable(read[i], tensors[i])]
    sums = dict(zip(usable, checksums([parallel.local(read[i]) for i in usable], window), strict=True))
    return packed([float(sums.get(i, NONE if read[i] is None else ODD)) for i in which])


def _state_sums(optimizer: Any, tensors: list[Any], which: list[int], window: int) -> tuple[str, bytes]:
    """The same over the tensors of the optimizer's state; its counters, of one element, are left out."""
    held: list[Any] = []
    owner: list[int] = []
    for i in which:
        for _, value in sorted((optimizer.state.get(tensors[i]) or {}).items(), key=lambda item: str(item[0])):
            here = parallel.local(value)
            if isinstance(here, torch.Tensor) and here.numel() > 1 and here.layout == torch.strided:
                held.append(here)
                owner.append(i)
    total: dict[int, int] = {}
    for i, part in zip(owner, checksums(held, window), strict=True):
        total[i] = (31 * total.get(i, 0) + part) & MASK
    return packed([float(total.get(i, NONE)) for i in which])


def checksums(tensors: list[Any], window: int) -> list[int]:
    """The sum of the bits of each of *tensors*, or of the stretch of it that *window* chooses."""
    sums = [_sum(tensor.detach(), window) for tensor in tensors]
    together = len({(total.device, total.dtype) for total in sums}) == 1
    return [int(total) & MASK for total in (torch.stack(sums).tolist() if together else sums)]


def _sum(tensor: Any, window: int) -> Any:
    elements, size = tensor.numel(), tensor.element_size()
    if elements > STRETCH and tensor.is_contiguous():
        start = (window * -(-elements // STRETCH) >> 64) * STRETCH
        tensor = tensor.view(-1).narrow(0, min(start, elements - STRETCH), STRETCH)
    if tensor.is_complex():
        tensor, size = torch.view_as_real(tensor), size // 2
    return tensor.view(BITS[size]).sum(dtype=torch.int64 if size == 8 else torch.int32)


def packed(numbers: list[float]) -> tuple[str, bytes]:
    """A buffer of *numbers*."""
    return "f8", struct.pack(f"<{len(numbers)}d", *numbers)


def _unless_compiled(original: Callable[..., Any], sense: Ranks, look: Look) -> Callable[..., Any]:
    """*original* with a call of *look* after it; torch.compile sees *original* alone."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        result = original(*args, **kwargs)
        sense.tell(look, args, kwargs)
        return result

    return wrapper
