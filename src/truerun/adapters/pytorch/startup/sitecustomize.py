"""Loads Truerun's probe into a training process once that process imports torch; changes nothing else.

Python's `site` module imports this file because `truerun run` puts its folder at the front of PYTHONPATH. It takes its own
folder off `sys.path`, waits for `torch`, and hands over to a `sitecustomize` that was there before. Whatever goes wrong
here is the watcher's trouble, never the program's. Works in interpreters that do not have Truerun installed: `truerun`
alone is then found in TRUERUN_SOURCE, last of all. Standard library only, no import at start-up.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


def _silently(function: Callable[..., Any], *arguments: Any) -> None:
    try:  # noqa: SIM105 (no import at start-up)
        function(*arguments)
    except Exception:  # noqa: S110 (a fault of the watcher must never reach the program)
        pass


class _Source:
    """Finds the package `truerun` in one folder and nothing else there, so that no other import can change its meaning."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "truerun":
            return None
        import importlib.machinery

        return importlib.machinery.PathFinder.find_spec(name, [self.folder])


class _Loader:
    """The module's own loader, with one call after the module has run for the first time."""

    def __init__(self, loader: Any, name: str, actions: dict[str, Any]) -> None:
        self._loader = loader
        self._name = name
        self._actions = actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        spec = getattr(module, "__spec__", None)
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        after = self._actions.pop(self._name, None)
        if after is not None:
            _silently(after, module)


class _AfterImport:
    """Calls a function once after a module was imported; otherwise every import goes its usual way."""

    def __init__(self, actions: dict[str, Any]) -> None:
        self.actions = actions

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.actions:
            return None
        for finder in list(sys.meta_path):
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, name, self.actions)  # type: ignore[assignment]
                return spec
        return None


def _start_probe(_: Any) -> None:
    from truerun.adapters.pytorch.probe import start

    start()


def _watch_tensorboard(module: Any) -> None:
    from truerun.adapters.pytorch.metrics import watch_writer

    watch_writer(module.SummaryWriter)


def _prepare() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    if os.environ.get("TRUERUN_SOCKET"):
        source = os.environ.get("TRUERUN_SOURCE")
        if source:
            sys.meta_path.append(_Source(source))
        actions = {"torch": _start_probe, "torch.utils.tensorboard": _watch_tensorboard}
        sys.meta_path.insert(0, _AfterImport(actions))


def _chain() -> None:
    """Run the `sitecustomize` that would have run without us; its errors are its own and go where they always went."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_silently(_prepare)
_chain()
