"""A training loop in this very process, watched by the real probe and judged by the real checks, without a socket between."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from truerun.adapters.probe_socket import Event, Line
from truerun.adapters.pytorch.frames import Frame, parse_frames, render_frame
from truerun.adapters.pytorch.probe import Probe
from truerun.adapters.pytorch.settings import Settings
from truerun.apps.observing import Observer
from truerun.apps.run_files import RunFiles
from truerun.apps.watched_run import DeclaredData, WatchRequest
from truerun.core.declaration import MonitoringSection
from truerun.monitoring.reference import Reference


class Loop:
    """Stands where the socket is: what the probe sends is rendered, parsed and judged at once."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.line = Line(None, os.getpid())  # type: ignore[arg-type]
        self.dropped = 0
        self.kinds: list[str] = []

    def open(self, hello: dict[str, Any]) -> bool:
        return True

    def send(self, header: dict[str, Any], buffers: dict[str, tuple[str, bytes]] | None = None) -> None:
        (frame,), rest = parse_frames(render_frame(header, buffers))
        assert rest == b""
        self.kinds.append(frame.header["kind"])
        self.observer.take(Event(self.line, frame))

    def receive(self, kind: str, optimizer: int, wait_seconds: float = 0.0) -> Frame | None:
        return None

    def flush(self, wait_seconds: float) -> None:
        pass


@contextlib.contextmanager
def watching(
    folder: Path, reference: Reference | None = None, data: tuple[DeclaredData, ...] = (), **monitoring: Any
) -> Iterator[Observer]:
    """While active, every optimizer step in this process is watched; afterwards the observer holds what was found."""
    section = MonitoringSection(**{"every": 1, **monitoring})
    request = WatchRequest(
        command=("python",),
        cwd=folder,
        folder=folder,
        monitoring=section,
        reference=reference or Reference(),
        data=data,
        keep_records=True,
    )
    observer = Observer(request, RunFiles(folder))
    settings = Settings(
        overhead=section.overhead, every=section.every, coordinates=section.coordinates, declared=request.reference.values
    )
    probe = Probe(settings, Loop(observer))  # type: ignore[arg-type]
    probe.install()
    try:
        yield observer
        probe.goodbye()
    finally:
        probe.uninstall()
        observer.files.close()
    assert not probe.off, observer.findings


RULES: dict[str, Callable[..., Any]] = {
    "SGD": lambda parameters, **kw: torch.optim.SGD(parameters, lr=0.05, weight_decay=1e-2, **kw),
    "SGD momentum": lambda parameters, **kw: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-2, **kw),
    "SGD nesterov": lambda parameters, **kw: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, **kw),
    "Adam": lambda parameters, **kw: torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-2, **kw),
    "Adam amsgrad": lambda parameters, **kw: torch.optim.Adam(parameters, lr=1e-3, amsgrad=True, **kw),
    "AdamW": lambda parameters, **kw: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-1, **kw),
}
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def model() -> Any:
    """A small network with tensors of very different sizes."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 48), torch.nn.ReLU(), torch.nn.LayerNorm(48), torch.nn.Linear(48, 5))


def train(network: Any, optimizer: Any, steps: int, each: Callable[[int], object] | None = None) -> list[float]:
    """Train on made-up data; `each(step)` runs after every step. Returns the losses."""
    generator = torch.Generator().manual_seed(1)
    losses = []
    for step in range(1, steps + 1):
        x = torch.randn(32, 16, generator=generator)
        loss = torch.nn.functional.cross_entropy(network(x), x[:, :5].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if each is not None:
            each(step)
    return losses
