"""Rule scaler-skips: a scaler that throws the work away."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.monitoring.loop import model, watching

from truerun.apps.observing import Observer
from truerun.core.finding import Severity
from truerun.monitoring.scaler_skips import ScalerSeen, check_scaler


def run(folder: Path, steps: int, *, broken: range, update: bool = True, fused: bool = False, start: float = 65536.0) -> Observer:
    """Train with a scaler; in the steps of *broken* the loss is divided by zero."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=start)
    with watching(folder) as observer:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss = network(torch.randn(8, 16)).pow(2).mean()
            scaler.scale(loss / 0 if step in broken else loss).backward()
            scaler.step(optimizer)
            if update:
                scaler.update()
            else:
                scaler._per_optimizer_states.clear()
    return observer


def test_every_step_left_out(tmp_path: Path) -> None:
    """Every loss overflows: an error at the tenth call, when the scale is down to 128."""
    found = [f for f in run(tmp_path, 14, broken=range(1, 15)).findings if f.rule == "scaler-skips"]
    assert [(f.severity, f.evidence["scale"], f.evidence["in_a_row"]) for f in found] == [(Severity.ERROR, 128.0, 10)]


def test_a_scale_that_does_not_come_down(tmp_path: Path) -> None:
    """update() has no effect: the scale stays where it is and everything is left out."""
    found = [f for f in run(tmp_path, 14, broken=range(3, 15), update=False).findings if f.rule == "scaler-skips"]
    assert [(f.severity, f.location.step) for f in found] == [(Severity.ERROR, 2)]
    assert "stays at 65536" in found[0].message


def test_a_fused_step_that_looks_itself(tmp_path: Path) -> None:
    """A fused optimizer is called every time and does nothing: the scaler's own flag says so."""
    rules = {f.rule for f in run(tmp_path, 12, broken=range(1, 13), fused=True).findings}
    assert "scaler-skips" in rules


def test_a_scaler_that_settles(tmp_path: Path) -> None:
    """The accept twin: the first four steps overflow, and one later on."""
    rules = {f.rule for f in run(tmp_path, 30, broken=range(1, 5)).findings}
    assert "scaler-skips" not in rules


def test_a_high_start() -> None:
    """The accept twin: a scale that begins at 2 to the 32 has a long way to go, and is on it."""
    on_the_way = {"step": 0, "rank": 0, "calls": 20, "skipped": 20, "in_a_row": 20, "first_scale": 2.0**32, "ended": False}
    assert check_scaler(ScalerSeen(scale=2.0**12, **on_the_way)) == ()
    assert check_scaler(ScalerSeen(scale=2.0**3, **on_the_way))


def test_half_of_all_at_the_end() -> None:
    """Half of the steps were left out, never many in a row: a warning at the end; one in ten is silent."""
    at_the_end = {"step": 50, "rank": 0, "calls": 100, "in_a_row": 0, "scale": 8.0, "first_scale": 16.0, "ended": True}
    assert check_scaler(ScalerSeen(skipped=50, **at_the_end))[0].severity is Severity.WARNING
    assert check_scaler(ScalerSeen(skipped=10, **at_the_end)) == ()
