"""What drops or normalises by its batch while no gradient is asked for: dropout at work in an evaluation.

Between the program's `with torch.no_grad()` (or `inference_mode`, `set_grad_enabled(False)`) and its end, the functions of
torch.nn.functional that have two modes are looked at; nowhere else, so that training, compiled code and exports meet torch's own.
Regions that torch itself opens do not count. Once torch.compile has compiled something, or TorchScript begins to, nothing is
wrapped any more. Names that were imported from torch.nn.functional are not seen.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from truerun.adapters.pytorch.sense import Sense

if TYPE_CHECKING:
    from truerun.adapters.pytorch.probe import Probe

DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
EARLY_REGIONS, MAX_NOTED, MAX_SITES, MAX_DEPTH = 32, 64, 16, 12
TORCH = ("torch.", "torch")


@dataclass(slots=True, eq=False)
class Site:
    """A line that drops or normalises as in training; `training` is the flag of the module it belongs to."""

    what: str
    path: str
    line: int
    module: Any
    training: bool
    name: str = ""
    calls: int = 0


class Evaluating(Sense):
    """Frames of kind `evaluated`: what was at work in passes without gradients since the last `backward`, and how many these were."""

    name = "evaluating"

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.functional: Any = importlib.import_module("torch.nn.functional")
        self.thread = threading.get_ident()
        self.depth = self.regions = self.noted = 0
        self.quiet = 0
        self.told_quiet = self.closed = False
        self.taken: list[Callable[[], None]] = []
        self.sites: dict[tuple[str, int, int], Site] = {}

    def install(self) -> None:
        """Look at where gradients are switched off and on again."""
        for kind in (torch.no_grad, torch.inference_mode, torch.set_grad_enabled):
            self.wrap(kind, "__enter__", after=self._enters)
            self.wrap(kind, "__exit__", before=self._leaves)
        self.wrap(importlib.import_module("torch.jit.frontend"), "parse_def", before=self._close_for_good)

    # A region without gradients.

    def _enters(self, *_: Any) -> None:
        if threading.get_ident() != self.thread or not self.probe.steps:
            return
        if self.depth or (not torch.is_grad_enabled() and self._is_wanted() and _opened_by_program()):
            self.depth += 1
            if self.depth == 1:
                self._open()

    def _leaves(self, *_: Any) -> None:
        if self.depth and threading.get_ident() == self.thread:
            self.depth -= 1
            if not self.depth:
                self._close()
                self._name()

    def _is_wanted(self) -> bool:
        if self.closed or _has_compiled():
            return False
        return self.regions < EARLY_REGIONS or self.probe.budget.affords(time.perf_counter())

    def _open(self) -> None:
        self.regions += 1
        self.noted = 0
        for name in (*DROPOUTS, "batch_norm", "scaled_dot_product_attention"):
            original = getattr(self.functional, name, None)
            if original is not None:
                self.taken.append(_replace(self.functional, name, self._noting(name, original)))

    def _close(self) -> None:
        while self.taken:
            self.taken.pop()()

    def _close_for_good(self, *_: Any, **__: Any) -> None:
        self.closed = True
        self.depth = 0
        self._close()
        self._name()

    def _noting(self, name: str, original: Any) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling() and self.noted < MAX_NOTED * MAX_SITES:
                self.tell(self._note, (name, args, kwargs), {})
            if self.off:  # a fault of ours: nobody will close the region
                self._close()
            return original(*args, **kwargs)

        function.__prepare_scriptable__ = lambda: original  # type: ignore[attr-defined]
        return function

    def _note(self, name: str, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled() or threading.get_ident() != self.thread:
            return
        self.noted += 1
        if not _is_at_work(name, args, kwargs):
            self.quiet += 1
            return
        found = _where()
        if found is None:
            return
        path, line, module = found
        site = self.sites.get((path, line, id(module)))
        if site is None and len(self.sites) < MAX_NOTED:
            site = self.sites[path, line, id(module)] = Site(name, path, line, module, bool(module.training))
        if site is not None:
            site.calls += 1

    # What comes of it.

    def before_backward(self, tensors: Any) -> None:
        """Training goes on: what ran without gradients since the last time belongs together."""
        if self.sites or (self.quiet and not self.told_quiet):
            self._tell()

    def goodbye(self) -> None:
        """Nothing more comes."""
        self._close()
        self._name()
        if self.sites or (self.quiet and not self.told_quiet):
            self._tell()

    def _tell(self) -> None:
        active = [[site.name, site.what, site.path[-300:], site.line, site.training, site.calls] for site in self.sites.values()]
        quiet, self.sites, self.quiet = self.quiet, {}, 0
        self.told_quiet = self.told_quiet or quiet > 0
        self.probe.channel.send({"kind": "evaluated", "step": self.probe.steps, "active": active[:MAX_SITES]})

    def _name(self) -> None:
        """Give the modules of the last region their names, and forget those that no optimizer's model holds."""
        fresh = [key for key, site in self.sites.items() if site.module is not None]
        if not fresh:
            return
        models = [model for watched in self.probe.watched.values() if (model := watched.model()) is not None]
        names = {id(module): name for model in models for name, module in nn.Module.named_modules(model)}
        for key in fresh:
            site = self.sites[key]
            name, site.module = names.get(id(site.module)), None
            if name is None:
                del self.sites[key]
            else:
                site.name = name[:200]


def _replace(owner: Any, name: str, ours: Any) -> Callable[[], None]:
    original = getattr(owner, name)
    setattr(owner, name, ours)

    def undo() -> None:
        if getattr(owner, name) is ours:
            setattr(owner, name, original)

    return undo


def _is_at_work(name: str, args: Any, kwargs: Any) -> bool:
    """Whether the call drops something, or normalises by its batch."""

    def given(position: int, key: str, default: Any) -> Any:
        return args[position] if len(args) > position else kwargs.get(key, default)

    if name == "batch_norm":
        return bool(given(5, "training", False)) and given(1, "running_mean", None) is not None
    if name == "scaled_dot_product_attention":
        return float(given(4, "dropout_p", 0.0)) > 0
    default = name in ("dropout", "dropout1d", "dropout2d", "dropout3d")
    return bool(given(2, "training", default)) and float(given(1, "p", 0.5)) > 0


def _where() -> tuple[str, int, Any] | None:
    """The nearest module at work, and the nearest line that is not torch's; None outside of any module."""
    frame: Any = sys._getframe()  # noqa: SLF001 (there is no other way to see a caller)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("truerun."):
        frame = frame.f_back
    module, place = None, None
    for _ in range(MAX_DEPTH):
        if frame is None or (module is not None and place is not None):
            break
        own = frame.f_globals.get("__name__", "").startswith("torch.")
        if not own and place is None:
            place = (frame.f_code.co_filename, frame.f_lineno)
        if module is None and frame.f_code.co_varnames[:1] == ("self",):
            candidate = frame.f_locals.get("self")
            module = candidate if isinstance(candidate, nn.Module) else None
        frame = frame.f_back
    return (*place, module) if place is not None and module is not None else None


def _opened_by_program() -> bool:
    """Whether the region is one of the program's own: not of torch, nor of a function of torch that is decorated so."""
    frame: Any = sys._getframe()  # noqa: SLF001 (as above)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("truerun."):
        frame = frame.f_back
    if frame is None:
        return False
    if frame.f_globals.get("__name__") == "torch.utils._contextlib":
        return not str(getattr(frame.f_locals.get("func"), "__module__", "")).startswith(TORCH)
    return not frame.f_globals.get("__name__", "").startswith("torch.")


def _has_compiled() -> bool:
    dynamo = sys.modules.get("torch._dynamo.utils")
    return bool(dynamo is not None and dynamo.counters["frames"])
