"""What the sense of the training set handed over, as values for the rules frozen-trains and not-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import WatchRequest
from truerun.monitoring.frozen_trains import check_frozen, check_patterns
from truerun.monitoring.not_training import check_training
from truerun.monitoring.training_set import Expected, ParametersSeen, learned, plain_name


@dataclass(slots=True, eq=False)
class Model:
    """The names and sizes that one optimizer's frames speak of, and what was seen last."""

    sizes: Mapping[str, int]
    seen: ParametersSeen | None = None


class TrainingSet(Judge):
    """Keeps the names; what rank 0 showed after eight steps or more is learned."""

    name = "training-set"
    kinds = frozenset({"trained"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.models: dict[tuple[int, int], Model] = {}

    def take(self, known: Process, frame: Frame) -> Findings:
        """The state of all parameters of one optimizer's model."""
        header = frame.header
        place = (known.pid, int(header["optimizer"]))
        if "names" in header:
            names = [plain_name(str(name)) for name in header["names"]]
            self.models[place] = Model(dict(zip(names, map(int, header["sizes"]), strict=True)))
        model = self.models[place]
        step, rank = known.place(int(header["step"]))
        model.seen = seen = ParametersSeen(
            step=step,
            own_step=int(header["own_step"]),
            rank=rank,
            kind=known.optimizers[place[1]].seen.kind,
            sizes=model.sizes,
            state=dict(zip(model.sizes, map(int, header["state"]), strict=True)),
        )
        expected = self._expected(place[1])
        return check_frozen(seen, expected) + check_training(seen, expected)

    def ended(self, known: Process) -> Findings:
        """Declared names that no model of the process has."""
        models = [model.seen for (pid, _), model in self.models.items() if pid == known.pid and model.seen is not None]
        return check_patterns(models, _patterns(self.request.reference.values.get("frozen")))

    def _expected(self, number: int) -> Expected:
        reference = self.request.reference
        return Expected(
            frozen=_patterns(reference.values.get("frozen")),
            trained=_patterns(reference.values.get("trained")),
            earlier=reference.learned.get(self.name, {}).get(str(number)),
            origin=reference.learned_from,
            same_program=reference.same_program,
        )

    def learned(self) -> Mapping[str, Any]:
        """What trained, of each optimizer of the first process."""
        first = next(iter(self.models), (0, 0))[0]
        shown = {str(number): model.seen for (pid, number), model in self.models.items() if pid == first}
        return {number: learned(seen) for number, seen in shown.items() if seen is not None and seen.settled}


def _patterns(declared: Any) -> Sequence[str]:
    """One pattern or a list of them."""
    if isinstance(declared, str):
        return (declared,)
    return tuple(map(str, declared)) if isinstance(declared, list | tuple) else ()
