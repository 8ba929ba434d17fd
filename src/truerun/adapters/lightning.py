"""For Lightning: a callback that watches `Trainer.fit` and reports what is logged.

It comes by itself through the entry point `lightning.pytorch.callbacks_factory`, under `truerun run` or with TRUERUN_WATCH=1,
and can be given: `Trainer(callbacks=[TruerunCallback()])`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback

from truerun.adapters.joining import Joined


class TruerunCallback(Callback):  # type: ignore[misc]  # lightning is not typed here
    """Begins a watch where there is none and ends it with the fit. Changes nothing about the Trainer."""

    def __init__(self) -> None:
        self._joined = Joined()
        self._reported: dict[str, float] = {}

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """The optimizers are there, no step was made."""
        if self._acts(trainer):
            self._joined.begin(pl_module)

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """When Lightning itself writes logs, so that no value is fetched from a device that was not fetched anyway."""
        if self._acts(trainer) and trainer.global_step % max(1, trainer.log_every_n_steps) == 0:
            self._report(trainer.logged_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Means of the epoch; a validation within it has been reported before."""
        if self._acts(trainer):
            self._report(trainer.callback_metrics)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Metrics of the validation, except of the rehearsal before training."""
        if self._acts(trainer) and trainer.training and not trainer.sanity_checking:
            self._report(trainer.callback_metrics)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Training failed."""
        self._joined.end(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The fit is over."""
        if stage == "fit":
            self._joined.end()

    def _report(self, metrics: Mapping[str, Any]) -> None:
        """What is new: Lightning keeps the last value of a metric until there is another, and shows it again and again."""
        values = {name: float(value) for name, value in metrics.items()}
        self._joined.report({name: value for name, value in values.items() if self._reported.get(name) != value})
        self._reported = {**self._reported, **values}

    def _acts(self, trainer: Any) -> bool:
        """Of several, given and brought by the entry point, only the first does anything."""
        return trainer.is_global_zero and next(one for one in trainer.callbacks if isinstance(one, TruerunCallback)) is self
