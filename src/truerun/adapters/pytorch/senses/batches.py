"""Batches: which indices each data loader gave, in which order, with which labels, and what its sampler was to give.

Labels are read on some batches that nobody can foresee, and once more where the loss takes them: where the two do not agree
both travel.

Looks at torch's loader iterators from inside of their class; loaders, samplers, data sets and what they yield stay the objects
they are, and nothing is drawn from the program's generators. Loaders of other libraries that do not iterate through torch's
are not seen; of iterable data sets there are no indices to see.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import _utils, dataloader

from truerun.adapters.pytorch.batch_labels import differing_field, label_keys, labels_at, targets_of
from truerun.adapters.pytorch.sampler_order import expected_order, name_of, plan_of, root_of
from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

MAX_LOADERS = 64
FLUSH_BATCHES, FLUSH_INDICES, FLUSH_SECONDS = 32, 32_768, 0.25
SHOWN = 8
CHECKED_BATCHES = 64
# Bursts of four that begin at one batch in twelve make one batch in four. A loss may take a batch that is not the newest.
BURST, BURSTS_OF_256, WINDOW = 4, 21, 3
COMPARED_OF_256 = 64
DEFAULT_COLLATE = _utils.collate.default_collate
NO_LABEL = array("d", [float("nan")])


class Pass:
    """One iteration over a loader, from `iter` to its end or to where the program left it."""

    def __init__(self, iterator: Any, number: int, loader: int) -> None:
        self.iterator = weakref.ref(iterator)
        self.number = number
        self.loader = loader
        self.started = self.mixed = False
        self.pending: deque[array[float] | None] = deque()
        self.expected: bytes | None = None
        self.keys: list[Any] | None = None
        self.position = 0
        self.differs: dict[str, Any] | None = None
        self.clear()

    def clear(self) -> None:
        """Nothing is waiting to be handed over."""
        self.indices, self.labels, self.counts, self.backwards = array("d"), array("d"), array("d"), array("d")
        self.since = time.perf_counter()

    def add(self, indices: array[float], labels: array[float] | None, backwards: int) -> None:
        """A batch of *indices* was given; `labels` stays in step with `indices`, NaN where there are none."""
        size = len(indices)
        if self.expected is not None and self.differs is None:
            want = self.expected[8 * self.position : 8 * (self.position + size)]
            if indices.tobytes() != want:
                self.differs = _departure(self.position, array("d", want), indices)
        self.position += size
        if labels is not None:
            self.labels.extend(NO_LABEL * (len(self.indices) - len(self.labels)))
            self.labels.extend(labels)
        self.indices.extend(indices)
        self.counts.append(size)
        self.backwards.append(backwards)

    @property
    def due(self) -> bool:
        """Whether enough has come together for a frame."""
        enough = len(self.counts) >= FLUSH_BATCHES or len(self.indices) >= FLUSH_INDICES
        return enough or time.perf_counter() - self.since > FLUSH_SECONDS


@dataclass(frozen=True, slots=True)
class Read:
    """A batch whose fields that may be labels were read."""

    loader: int
    indices: array[float]
    fields: list[array[float]]


class Batches(Sense):
    """Hands over a frame for each kind of loader, for each pass over one, and the indices of its batches."""

    name = "batches"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.passes: dict[int, Pass] = {}  # by the id of their iterator
        self.loaders: dict[tuple[Any, ...], int] = {}
        self.window: deque[Read | None] = deque(maxlen=WINDOW)  # the newest batches, None for one that was not read
        self.read: dict[int, int] = {}  # by loader: batches whose labels could have been read
        self.roots: dict[int, weakref.ref[Any]] = {}  # by loader: the data set that was spoken of last
        self.begun = 0
        self.burst = 0

    def install(self) -> None:
        """Look at every iterator of every torch loader."""
        kind = dataloader._BaseDataLoaderIter  # noqa: SLF001 (there is no public place that sees indices)
        self.wrap(kind, "__init__", after=self._begin)
        self.wrap(kind, "_reset", after=self._begin_again)
        self.probe.replace(kind, "_next_index", self._indexing)
        self.probe.replace(kind, "__next__", self._yielding)

    def goodbye(self) -> None:
        """Hand over what is left; passes still open were left by the program."""
        for key in list(self.passes):
            self._close(key, "left")

    def before_backward(self, tensors: Any) -> None:
        """Compare the labels in the loss with those of the newest batches, where all of these were read."""
        window = [one for one in self.window if one is not None]
        if len(window) < len(self.window) or not any(one.fields for one in window):
            return
        for targets in targets_of(tensors):
            alike = [(_agreement(labels, targets), one, labels) for one in window for labels in one.fields]
            most, one, labels = max(alike, key=lambda pair: pair[0])
            if most >= len(targets) / 2:  # else other labels altogether: made from something else
                if most < len(targets):
                    self._hand_over_targets(one, labels, targets)
                return

    def _hand_over_targets(self, one: Read, labels: array[float], targets: array[float]) -> None:
        frame = {
            "kind": "targets",
            "loader": one.loader,
            "step": self.probe.steps + 1,
            "first_field": labels is one.fields[0],
        }
        columns = {"indices": one.indices, "labels": labels, "targets": targets}
        self.probe.channel.send(frame, {name: ("f8", column.tobytes()) for name, column in columns.items()})

    # The wrappers.

    def _indexing(self, original: Callable[..., Any]) -> Any:
        @functools.wraps(original)
        def wrapper(iterator: Any) -> Any:
            given = self.passes.get(id(iterator))
            if given is not None and not given.started:
                self.tell(self._foresee, (given, iterator), {})
            index = original(iterator)
            if given is not None:
                self.tell(self._issued, (given, index), {})
            return index

        return wrapper

    def _yielding(self, original: Callable[..., Any]) -> Any:
        @functools.wraps(original)
        def wrapper(iterator: Any) -> Any:
            try:
                data = original(iterator)
            except StopIteration:
                self.tell(self._finished, (iterator,), {})
                raise
            except Exception:
                self.tell(self._failed, (iterator,), {})
                raise
            self.tell(self._yielded, (iterator, data), {})
            return data

        return wrapper

    # What they see.

    def _begin(self, iterator: Any, loader: Any, *_: Any, **__: Any) -> None:
        # Loaders inside of a worker process are the data set's own business.
        if _utils.worker.get_worker_info() is not None:
            return
        for key, old in list(self.passes.items()):
            if old.iterator() is None or key == id(iterator):
                self._close(key, "left")
        number = self._introduce(loader)
        if number is None:
            return
        self.passes[id(iterator)] = Pass(iterator, self.begun, number)
        self.begun += 1

    def _begin_again(self, iterator: Any, loader: Any = None, first_iter: bool = False) -> None:
        if loader is not None and not first_iter:
            self._begin(iterator, loader)

    def _introduce(self, loader: Any) -> int | None:
        """The number of this kind of loader; its frame goes first. None where there are too many kinds, or no indices."""
        indexed = loader._dataset_kind == dataloader._DatasetKind.Map  # noqa: SLF001 (a DataPipe's kind is known to no one else)
        sampler = loader._index_sampler  # noqa: SLF001 (what the iterator itself takes)
        about = {
            "dataset": name_of(type(loader.dataset)),
            "batch_sampler": name_of(type(sampler)),
            "sampler": name_of(type(loader.sampler)),
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last is True,
            "workers": loader.num_workers,
            "indexed": indexed,
        }
        key = tuple(about.values())
        if key not in self.loaders:
            if len(self.loaders) >= MAX_LOADERS or not self.probe.channel.open(self.probe.hello()):
                return None
            self.loaders[key] = len(self.loaders)
            self.probe.channel.send({"kind": "loader", "loader": self.loaders[key], "step": self.probe.steps, **about})
        return self.loaders[key] if indexed else None

    def _foresee(self, given: Pass, iterator: Any) -> None:
        """The first indices are about to be drawn: what they are to be, and what the pass is to cover."""
        given.started = True
        plan = plan_of(iterator._index_sampler, iterator._dataset)  # noqa: SLF001 (the iterator's own)
        if self.probe.budget.affords(time.perf_counter()):
            order = expected_order(iterator._index_sampler)  # noqa: SLF001 (the iterator's own)
            given.expected = order.double().numpy().tobytes() if order is not None else None
        # Without an order among batches, what came is known at the end only.
        given.mixed = iterator._num_workers > 0 and getattr(iterator, "_in_order", True) is False  # noqa: SLF001 (as above)
        about = {name: getattr(plan, name) for name in type(plan).__slots__}
        head = {"kind": "pass", "loader": given.loader, "pass": given.number, "step": self.probe.steps}
        self.probe.channel.send({**head, **about, "base": str(iterator._base_seed)})  # noqa: SLF001 (as above)
        self._hand_over_root(given.loader, iterator._dataset)  # noqa: SLF001 (as above)

    def _hand_over_root(self, loader: int, dataset: Any) -> None:
        """Which items of which whole the data set's items are, unless that was said of this very object."""
        known = self.roots.get(loader)
        if known is not None and known() is dataset:
            return
        with contextlib.suppress(TypeError):  # of an object without weak references it is said each time
            self.roots[loader] = weakref.ref(dataset)
        items, rows = root_of(dataset)
        part = {"rows": ("f8", array("d", rows).tobytes())} if rows is not None else None
        self.probe.channel.send({"kind": "root", "loader": loader, "items": items}, part)

    def _issued(self, given: Pass, index: Any) -> None:
        given.pending.append(_numbers(index))

    def _yielded(self, iterator: Any, data: Any) -> None:
        given = self.passes.get(id(iterator))
        if given is None or not given.pending:
            return
        indices = given.pending.popleft()
        if indices is None:  # keys that are no numbers: there is nothing to count
            self._close(id(iterator), "unreadable")
            return
        labels = self._labels(given, data, indices)
        if labels is not None and iterator._collate_fn is DEFAULT_COLLATE:  # noqa: SLF001 (as above)
            self._compare_item(given, iterator._dataset, data, indices)  # noqa: SLF001 (as above)
        given.add(indices, labels, self.probe.total_backwards)
        if given.due:
            self._hand_over(given, None)

    def _labels(self, given: Pass, data: Any, indices: array[float]) -> array[float] | None:
        """The labels of a batch when it is its turn; all that may be labels is kept for the loss."""
        size = len(indices)
        self.window.append(None)
        # Batches that come out of order cannot be matched with their indices.
        if given.mixed or not self._is_due(given.loader):
            return None
        if given.keys is None:
            given.keys = label_keys(data, size)
        fields = [field for key in given.keys if (field := labels_at(data, key, size)) is not None]
        self.window[-1] = Read(given.loader, indices, fields)
        return fields[0] if fields else None

    def _compare_item(self, given: Pass, dataset: Any, data: Any, indices: array[float]) -> None:
        """Hold one item of the batch against the data set's tensors, where it is nothing but tensors and collate stacks them."""
        draw = os.urandom(8)
        place = int.from_bytes(draw[1:], "big") % max(1, len(indices))
        if draw[0] >= COMPARED_OF_256 or not indices:
            return
        field = differing_field(dataset, int(indices[place]), data, place)
        if field is not None:
            where = {"loader": given.loader, "pass": given.number, "step": self.probe.steps + 1}
            self.probe.channel.send({"kind": "item", **where, "index": int(indices[place]), "field": field})

    def _is_due(self, loader: int) -> bool:
        """Whether the labels of this batch are read: of the first ones all, then of a few in a row, which nobody can foresee."""
        self.read[loader] = self.read.get(loader, 0) + 1
        if self.read[loader] > CHECKED_BATCHES and self.burst == 0 and os.urandom(1)[0] < BURSTS_OF_256:
            self.burst = BURST
        due = self.read[loader] <= CHECKED_BATCHES or self.burst > 0
        self.burst = max(0, self.burst - 1)
        return due and self.probe.budget.affords(time.perf_counter())

    def _finished(self, iterator: Any) -> None:
        given = self.passes.get(id(iterator))
        if given is not None:
            self._close(id(iterator), "complete" if given.started else "left")

    def _failed(self, iterator: Any) -> None:
        if id(iterator) in self.passes:
            self._close(id(iterator), "failed")

    def _close(self, key: int, how: str) -> None:
        self._hand_over(self.passes.pop(key), how)

    def _hand_over(self, given: Pass, end: str | None) -> None:
        columns = {
            "indices": given.indices,
            "labels": given.labels + NO_LABEL * (len(given.indices) - len(given.labels)) if given.labels else given.labels,
            "counts": given.counts,
            "backwards": given.backwards,
        }
        frame = {
            "kind": "batches",
            "loader": given.loader,
            "pass": given.number,
            "end": end,
            "foreseen": given.expected is not None,
            "differs": given.differs,
            "mixed": given.mixed,
            # A batch just given is for the step to come.
            "step": self.probe.steps + (end is None),
            "backwards_now": self.probe.total_backwards,
        }
        self.probe.channel.send(frame, {name: ("f8", column.tobytes()) for name, column in columns.items()})
        given.clear()


def _departure(position: int, want: array[float], came: array[float]) -> dict[str, Any]:
    """Where and how the batch that *came* at *position* of a pass is not what was to come."""
    at = next((k for k, (a, b) in enumerate(zip(came, want, strict=False)) if a != b), min(len(came), len(want)))
    expected, given = ([int(one) for one in some[at : at + SHOWN]] for some in (want, came))
    return {"at": position + at, "expected": expected, "given": given}


def _agreement(labels: array[float], targets: array[float]) -> int:
    if len(labels) != len(targets):
        return 0
    return len(labels) if labels.tobytes() == targets.tobytes() else sum(map(float.__eq__, labels, targets))


def _numbers(index: Any) -> array[float] | None:
    """A batch's indices as numbers; None where they are something else."""
    try:
        return array("d", index if hasattr(index, "__len__") else [index])
    except TypeError:
        return None
