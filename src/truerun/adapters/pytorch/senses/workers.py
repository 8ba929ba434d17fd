"""Workers: the state of every random number generator with which a loader's worker processes begin, and after their first batch.

Runs inside the workers, which are forks of the watched process or start a probe of their own, and speaks on a line of their own.
Only digests of states leave. Looks at Python's, NumPy's and torch's global generator and at generators that the data set
holds; cannot see those that are hidden deeper, nor workers of other libraries.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import _utils, dataloader

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

MAX_ATTRIBUTES = 200


class Workers(Sense):
    """Two frames for each worker process: the states when it has been set up, and those after its first batch."""

    name = "workers"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.begun = 0  # the process in which a worker has begun and not yet made a batch

    def install(self) -> None:
        """Look where a worker makes its fetcher (after `worker_init_fn`) and where that makes batches."""
        self.wrap_result(dataloader._DatasetKind, "create_fetcher", self._begin)  # noqa: SLF001 (there is no public place)
        for kind in (_utils.fetch._MapDatasetFetcher, _utils.fetch._IterableDatasetFetcher):  # noqa: SLF001 (as above)
            self.probe.replace(kind, "fetch", self._fetching)

    def _fetching(self, original: Callable[..., Any]) -> Any:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            batch = original(*args, **kwargs)
            if self.begun > 0:  # only between a worker's beginning and its first batch is there anything to see
                self.tell(self._fetched, (), {})
            return batch

        return wrapper

    def _begin(self, *_: Any, **__: Any) -> None:
        info = _utils.worker.get_worker_info()
        # Persistent workers make a new fetcher for each pass and go on with their generators.
        if info is None or self.begun == -os.getpid():
            return
        self.begun = os.getpid()
        if self.probe.channel.open({**self.probe.hello(), "worker": info.id}):
            self._tell(info, first=True)

    def _fetched(self) -> None:
        if self.begun == os.getpid():
            self.begun = -self.begun
            self._tell(_utils.worker.get_worker_info(), first=False)

    def _tell(self, info: Any, *, first: bool) -> None:
        # torch seeds worker k with one seed of the loader's plus k.
        place = {"parent": os.getppid(), "base": str(info.seed - info.id), "worker": info.id, "workers": info.num_workers}
        self.probe.channel.send({"kind": "worker", **place, "first": first, "states": states(info.dataset)})


def states(dataset: Any) -> dict[str, str]:
    """A digest of the state of each generator, by name; reading one does not change it."""
    found = {"Python": _digest(random.getstate()), "torch": _digest(torch.get_rng_state().numpy().tobytes())}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        found["NumPy"] = _numpy_state(numpy.mtrand._rand)  # noqa: SLF001 (what numpy.random's functions draw from)
    for name, value in list(getattr(dataset, "__dict__", {}).items())[:MAX_ATTRIBUTES]:
        if type(value) is random.Random:
            found[f"{name} of the data set"] = _digest(value.getstate())
        elif type(value) is torch.Generator and value.device.type == "cpu":
            found[f"{name} of the data set"] = _digest(value.get_state().numpy().tobytes())
        elif numpy is not None and type(value) in (numpy.Generator, numpy.RandomState):
            found[f"{name} of the data set"] = _numpy_state(value)
    return found


def _numpy_state(generator: Any) -> str:
    bits = getattr(generator, "bit_generator", None) or generator._bit_generator  # noqa: SLF001 (RandomState has no other)
    state = bits.state
    return _digest(repr({key: _plain(value) for key, value in sorted(state.items())}))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in sorted(value.items())}
    return value.tobytes() if hasattr(value, "tobytes") else value


def _digest(state: Any) -> str:
    return hashlib.blake2b(state if isinstance(state, bytes) else repr(state).encode(), digest_size=12).hexdigest()
