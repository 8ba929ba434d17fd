"""For Accelerate: `Accelerator(log_with=TruerunTracker())` watches from `init_trackers` to `end_training` and takes what is logged.

`accelerator.init_trackers(…)` is where a tracker begins; call it before the first step, as for any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.tracking import GeneralTracker

from truerun.adapters.joining import Joined
from truerun.adapters.watching import Watch


class TruerunTracker(GeneralTracker):  # type: ignore[misc]  # accelerate is not typed here
    """Begins a watch where there is none. *model* gives the parameters their names; without one they are guessed."""

    name = "truerun"
    requires_logging_directory = False

    def __init__(self, model: Any = None) -> None:
        super().__init__()
        self._model = model
        self._joined = Joined()

    @property
    def tracker(self) -> Watch | None:
        """The watch, None where somebody else watches."""
        return self._joined.watch

    def start(self) -> None:
        """The processes know of each other."""
        self._joined.begin(self._model)

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Configuration is locked from its files, not taken from what the program says of itself."""

    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Pass metrics on; the step is the one the optimizer has taken, not the one that is claimed."""
        self._joined.report(values)

    def finish(self) -> None:
        """Training is over."""
        self._joined.end()
