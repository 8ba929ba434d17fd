"""Rule gradient-drift: gradient sizes of single tensors against the approved run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.monitoring.loop import model, train, watching

from truerun.core.finding import Finding, Severity
from truerun.monitoring.gradient_drift import GradientSizes, check_sizes
from truerun.monitoring.reference import Reference

STEPS = 14


def run(folder: Path, reference: Reference | None = None, change: Callable[[Any], object] = lambda _: None) -> Any:
    network = model()
    change(network)
    with watching(folder, reference) as observer:
        train(network, torch.optim.SGD(network.parameters(), lr=0.05), STEPS)
    return observer


def findings(folder: Path, change: Callable[[Any], object], **how: Any) -> list[Finding]:
    learned = run(folder).effective["learned"]
    observer = run(folder, Reference(learned=learned, learned_from="run r1 (entry 9)", **how), change)
    return [finding for finding in observer.findings if finding.rule == "gradient-drift"]


def silence(network: Any) -> None:
    network[0].register_forward_hook(lambda _, __, out: out.detach())


def test_a_tensor_that_gets_no_gradient_any_more(tmp_path: Path) -> None:
    """A detach in front of the first layer: it had a gradient in the approved run, now it never has."""
    (finding,) = findings(tmp_path, silence, same_program=True)
    assert (finding.severity, finding.location.step) == (Severity.ERROR, 2)
    assert finding.evidence["tensors"] == ["0.weight", "0.bias"]
    (finding,) = findings(tmp_path, silence)
    assert finding.severity is Severity.WARNING


def test_same_run_again(tmp_path: Path) -> None:
    """The accept twin: nothing changed, or only the sizes of the first weights."""
    assert findings(tmp_path, lambda _: None, same_program=True) == []
    assert findings(tmp_path, lambda network: network[0].weight.data.mul_(2), same_program=True) == []


def test_a_tensor_with_a_hundredth_of_its_gradient(tmp_path: Path) -> None:
    """A hook leaves a thousandth of one tensor's gradient: a warning that names it."""
    shrink = lambda network: network[3].weight.register_hook(lambda gradient: gradient * 1e-3)  # noqa: E731
    (finding,) = findings(tmp_path, shrink, same_program=True)
    assert finding.severity is Severity.WARNING
    assert "3.weight (0.00" in finding.message


def test_two_hundred_pairs_of_noisy_runs() -> None:
    """The accept twin: sizes that vary by a factor of three from look to look, in two hundred runs, give nothing."""
    draw = random.Random(0)

    def sizes() -> GradientSizes:
        seen = GradientSizes("SGD", 0, tuple("abcd"))
        for step in range(1, 21):
            seen.add(step, tuple(base * draw.lognormvariate(0, 1) for base in (1.0, 0.1, 0.01, 1e-4)))
        return seen

    assert [found for _ in range(200) for found in check_sizes(sizes(), sizes().learned(), "r1")] == []


def test_a_frozen_tensor_that_is_released_later(tmp_path: Path) -> None:
    """The accept twin: what had no gradient up to some step of the approved run may have none up to that step again."""
    learned = run(tmp_path).effective["learned"]
    for tensor in learned["gradient"]["sizes"]["0"].values():
        tensor[3] = 1000
    observer = run(tmp_path, Reference(learned=learned, learned_from="run r1 (entry 9)", same_program=True), silence)
    assert not [finding for finding in observer.findings if finding.rule == "gradient-drift"]
