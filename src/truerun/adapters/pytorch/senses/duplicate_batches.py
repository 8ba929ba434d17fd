"""The duplicate-batch audit: now and then two ranks get the same batch, and what they make of it is handed over.

The one part of the probe that acts, and only where `[monitoring] duplicate_batches` asks for it: of k batches about one is
given to two ranks, in place of the second one's own. Which, and to whom, is drawn in secret. Works where a DataLoader takes
its batches from a DistributedSampler over all ranks. Reads the gradients before they are averaged.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from truerun.adapters.pytorch import parallel
from truerun.adapters.pytorch.sampling import draw_coordinates
from truerun.adapters.pytorch.sense import Sense
from truerun.adapters.pytorch.senses.ranks import Followed, Ranks, checksums, packed

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

NUMBER = -1
SECRET_SECONDS = 0.1
VALUES = 2


class Audit:
    """One batch that two ranks have: what it holds, and what this rank made of it."""

    def __init__(self, header: dict[str, Any], nonce: bytes) -> None:
        self.header = header
        self.nonce = nonce
        self.window = int.from_bytes(nonce[8:16], "big")
        self.handles: list[Any] = []
        self.gradients: dict[tuple[int, int], tuple[int, list[float]]] = {}
        self.parameters: dict[int, list[int]] = {}
        self.generators: list[Any] = []


class DuplicateBatches(Sense):
    """Gives batches to two ranks and reads the gradients that both compute. Off unless asked for."""

    name = "duplicate_batches"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.one_in = int(probe.settings.duplicate_batches)
        self.epochs: dict[tuple[Any, ...], int] = {}
        self.planned: dict[int, dict[int, Audit]] = {}
        self.twins: dict[int, dict[int, Any]] = {}
        self.audit: Audit | None = None

    def install(self) -> None:
        """Stand between the batch sampler and its loader."""
        if self.one_in < 1 or not torch.distributed.is_available():
            return
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self.probe.replace(torch.utils.data.BatchSampler, "__iter__", self._between)
        self.wrap_result(_BaseDataLoaderIter, "__next__", self._delivered)

    def _between(self, original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def batches(sampler: Any) -> Iterator[Any]:
            plan: dict[int, tuple[int, Audit]] = {}
            self.tell(self._plan, (sampler, plan), {})
            others = {first: original(theirs) for first, theirs in self.twins.pop(id(plan), {}).items()}
            for number, batch in enumerate(original(sampler)):
                given = batch
                for first, their_batches in others.items():
                    theirs = next(their_batches, batch)
                    if number in plan and plan[number][0] == first:
                        given = theirs
                if number in plan:
                    plan[number][1].header["rows"] = hashlib.blake2b(repr(given).encode(), digest_size=12).hexdigest()
                yield given

        return batches

    def _plan(self, sampler: Any, plan: dict[int, tuple[int, Audit]]) -> None:
        """Fill *plan* with the batches of this epoch that this rank shares: whose they are, and the audit."""
        place, source = parallel.place(), sampler.sampler
        kinds = torch.utils.data.BatchSampler, torch.utils.data.DistributedSampler
        if place is None or (type(sampler), type(source)) != kinds:
            return
        rank, world = place
        if (source.rank, source.num_replicas) != place or not self.probe.channel.open(self.probe.hello()):
            return
        like = (len(source.dataset), sampler.batch_size, source.seed, source.epoch)
        epoch = self.epochs[like] = self.epochs.get(like, -1) + 1
        key = f"batches|{parallel.launch()}|{like}|{epoch}"
        self.probe.channel.send({"kind": "ranks-ask", "optimizer": NUMBER, "key": key, "gap": self.one_in})
        answer = self.probe.channel.receive("ranks-secret", NUMBER, SECRET_SECONDS)
        if answer is None or answer.header["key"] != key:
            return
        for number in range(len(sampler)):
            nonce = hashlib.blake2b(f"{number}".encode(), key=bytes.fromhex(answer.header["secret"]), digest_size=32).digest()
            first = nonce[4] % world
            second = (first + 1 + nonce[5] % (world - 1)) % world
            if int.from_bytes(nonce[:4], "big") % self.one_in == 0 and rank in (first, second):
                header = {"key": f"{key}|{number}", "pair": [first, second], "rank": rank, "launch": parallel.launch()}
                plan[number] = first, Audit(header, nonce)
        self.twins[id(plan)] = {first: _seen_by(sampler, first) for first, _ in plan.values()}
        self.planned[id(sampler)] = {number: audit for number, (_, audit) in plan.items()}

    def _delivered(self, batch: Any, iterator: Any) -> None:
        audit = self.planned.get(id(iterator._index_sampler), {}).pop(iterator._num_yielded - 1, None)  # noqa: SLF001
        if audit is None or "rows" not in audit.header:
            return
        self._let_go()
        self.audit = audit
        tensors = list(_tensors(batch))
        audit.header["inputs"] = checksums(tensors, audit.window)
        audit.generators = _generators()
        for number, followed in self._followed():
            audit.parameters[number] = checksums(
                [parallel.local(followed.watched.tensors[i]) for i in followed.shared], audit.window
            )
            for i in followed.shared:
                tensor = followed.watched.tensors[i]
                if tensor.requires_grad:
                    audit.handles.append(tensor.register_hook(self._hook(number, i)))

    def _hook(self, number: int, tensor: int) -> Callable[[Any], None]:
        def hook(gradient: Any) -> None:
            self.tell(self._saw, (number, tensor, gradient), {})

        return hook

    def _saw(self, number: int, tensor: int, gradient: Any) -> None:
        held = parallel.local(gradient)
        if self.audit is None or held.layout != torch.strided or held.is_complex():
            return
        (at,) = draw_coordinates(self.audit.nonce + tensor.to_bytes(4, "big"), [held.numel()], [VALUES])
        values = torch.take(held.detach(), torch.tensor(at, device=held.device)).tolist()
        (total,) = checksums([held], self.audit.window)
        self.audit.gradients[number, tensor] = total, values

    def after_backward(self, tensors: Any) -> None:
        """Hand over what this rank made of the batch."""
        audit = self.audit
        if audit is None or not audit.gradients:
            return
        random = any(not torch.equal(one, other) for one, other in zip(audit.generators, _generators(), strict=False))
        for number, followed in self._followed():
            if number not in audit.parameters:
                continue
            seen = [audit.gradients.get((number, i), (-1, [0.0] * VALUES)) for i in followed.shared]
            header = {"kind": "duplicate", "optimizer": number, "step": self.probe.steps + 1, "random": random, **audit.header}
            buffers = {
                "l.sum": packed([float(total) for total, _ in seen]),
                "l": packed([value for _, values in seen for value in values]),
                "p.sum": packed([float(total) for total in audit.parameters[number]]),
            }
            self.probe.channel.send({**header, "tensors": followed.shared}, buffers)
        self._let_go()

    def _let_go(self) -> None:
        if self.audit is not None:
            for handle in self.audit.handles:
                handle.remove()
        self.audit = None

    def _followed(self) -> list[tuple[int, Followed]]:
        return [item for sense in self.probe.senses if isinstance(sense, Ranks) for item in sense.followed.items()]


def _seen_by(sampler: Any, rank: int) -> Any:
    """The batches that *rank* gets, from the same sampler."""
    source = copy.copy(sampler.sampler)
    source.rank, source.of_another_rank = rank, True
    return torch.utils.data.BatchSampler(source, sampler.batch_size, sampler.drop_last)


def _tensors(batch: Any) -> Iterator[Any]:
    if isinstance(batch, torch.Tensor):
        if batch.layout == torch.strided:
            yield batch.contiguous()
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from _tensors(value)


def _generators() -> list[Any]:
    """States of torch's generators, to see whether random numbers are drawn in between."""
    states = [torch.get_rng_state()]
    return states + ([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])
