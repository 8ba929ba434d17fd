"""From the probe's frames to what `monitoring/` judges: the same numbers as small arrays, exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from truerun.adapters.pytorch.frames import Frame
from truerun.core.errors import FormatError
from truerun.monitoring.observation import TYPES, Discontinuity, Numbers, OptimizerSeen, Sample
from truerun.monitoring.update_rules import RULES

MAX_NAME = 300
_TYPES = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8")}


def parse_optimizer(frame: Frame, rank: int) -> OptimizerSeen:
    """Read an `optimizer` frame; raises FormatError when its lists do not fit together."""
    header = frame.header
    sizes, counts = tuple(map(int, header["sizes"])), tuple(map(int, header["counts"]))
    types, names = tuple(map(str, header["types"])), tuple(str(name)[:MAX_NAME] for name in header["names"])
    shape = tuple(map(int, header["shape"]))
    whole = tuple(map(int, header.get("whole_sizes", sizes)))
    if not len(sizes) == len(counts) == len(types) == len(names) == sum(shape) or min((*counts, *shape, 0)) < 0:
        raise FormatError("an optimizer whose lists do not fit together", got=[len(sizes), len(counts), len(names), sum(shape)])
    obstacle = header["obstacle"]
    if obstacle is None and (header["rule"] not in RULES or any(kind not in TYPES for kind in types)):
        obstacle = "a rule or a type of number this version does not know"
    return OptimizerSeen(
        number=int(header["optimizer"]),
        rank=rank,
        kind=str(header["type"])[:MAX_NAME],
        rule=header["rule"],
        obstacle=obstacle,
        names=names,
        sizes=sizes,
        whole_sizes=whole,
        counts=counts,
        types=types,
        shape=shape,
        unsure=tuple(str(words)[:MAX_NAME] for words in header["unsure"]),
    )


def parse_sample(frame: Frame, seen: OptimizerSeen, step: int) -> Sample:
    """Read a `sample` frame of *seen*; raises FormatError when an array has another length than was asked for."""
    total = sum(seen.counts)
    values = {name: _numbers(buffer, total) for name, buffer in frame.buffers.items() if "/" not in name}
    counted = [np.array([np.nan if count is None else count for count in side], float) for side in frame.header["counters"]]
    how = tuple((str(name), bool(tensors)) for name, tensors in frame.header["how"])
    if any(len(side) != len(seen.sizes) for side in counted) or not len(frame.header["groups"]) == len(how) == len(seen.shape):
        raise FormatError("a sample that does not fit its optimizer", got=[len(side) for side in counted])
    return Sample(
        optimizer=seen,
        step=step,
        groups=tuple(frame.header["groups"]),
        before=_side(values, ".0"),
        after=_side(values, ".1"),
        gradient=values["g"],
        no_gradient=frozenset(map(int, frame.header["no_grad"])),
        fresh=frozenset(map(int, frame.header["fresh"])),
        counted_before=counted[0],
        counted_after=counted[1],
        how=how,
        scale=float(frame.header["scale"]),
        overflowed=bool(frame.header["overflowed"]),
        summands=values.get("summands"),
        reach=values.get("reach"),
        whole=tuple(_parse_whole(frame, seen, *item) for item in frame.header.get("whole", ())),
    )


def _parse_whole(frame: Frame, seen: OptimizerSeen, tensor: Any, shapes: Any) -> tuple[int, dict[str, Numbers]]:
    """One tensor that travels whole: its arrays are called `<tensor>/<name>`, and *shapes* says how to fold them."""
    if not 0 <= int(tensor) < len(seen.sizes):
        raise FormatError("a whole tensor that its optimizer does not have", got=tensor)
    arrays = {}
    for name, shape in shapes.items():
        size = math.prod(map(int, shape))
        arrays[str(name)] = _numbers(frame.buffers[f"{int(tensor)}/{name}"], size).reshape([int(n) for n in shape])
    return int(tensor), arrays


def parse_discontinuity(frame: Frame, seen: OptimizerSeen, step: int) -> Discontinuity:
    """Read a `discontinuity` frame of *seen*; raises FormatError when an array has another length than its header says."""
    tensors, counts = [int(tensor) for tensor in frame.header["tensors"]], [int(count) for count in frame.header["counts"]]
    if any(not 0 <= tensor < len(seen.sizes) for tensor in tensors):
        raise FormatError("a discontinuity of an unknown tensor", got=tensors[:8])
    tensor_of: Any = np.repeat(np.array(tensors, np.int64), counts)
    values = {name: _numbers(buffer, len(tensor_of)) for name, buffer in frame.buffers.items()}
    return Discontinuity(
        optimizer=seen,
        step=step,
        tensor_of=tensor_of,
        held=_side(values, ".1.held"),
        now=_side(values, ".1.now"),
        notes=frozenset(map(str, frame.header["notes"])),
    )


def _side(values: Mapping[str, Numbers], suffix: str) -> dict[str, Numbers]:
    return {name.removesuffix(suffix): array for name, array in values.items() if name.endswith(suffix)}


def _numbers(buffer: tuple[str, bytes], total: int) -> Any:
    kind, data = buffer
    array = np.frombuffer(data, _TYPES[kind])
    if len(array) != total:
        raise FormatError("a probe buffer of another length", got=len(array), expected=total)
    return array.astype(np.float64)
