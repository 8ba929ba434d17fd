"""For Hugging Face: `Trainer(callbacks=[TruerunCallback()])` watches the training and reports what the Trainer logs.

Under `truerun run` the Trainer needs no callback to be watched; this one adds its metrics and the model's own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from truerun.adapters.joining import Joined


class TruerunCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Begins a watch where there is none and ends it with the training. Changes nothing about the Trainer."""

    def __init__(self) -> None:
        self._joined = Joined()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Model and optimizer are there, no step was made."""
        self._joined.begin(kwargs.get("model"))

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Loss, learning rate, gradient norm, evaluation."""
        if state.is_world_process_zero:
            self._joined.report(logs or {})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the last step; not called when training failed, which the end of the process tells."""
        self._joined.end()
