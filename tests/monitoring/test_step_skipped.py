"""Rule step-skipped: gradients that nobody used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from tests.monitoring.loop import RULES, model, watching

from truerun.core.finding import Severity
from truerun.monitoring.step_skipped import StepPattern, check_never_stepped

NONE: frozenset[str] = frozenset()


def loop(network: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: int, steps: Callable[[int], bool]) -> None:
    for batch in range(1, batches + 1):
        loss = network(torch.ones(4, 16) * batch).pow(2).mean()
        loss.backward()
        if steps(batch):
            optimizer.step()
            optimizer.zero_grad()


def test_every_tenth_step_skipped(tmp_path: Path) -> None:
    """The loop leaves out step() at every tenth batch: the step after it says so."""
    network = model()
    with watching(tmp_path) as observer:
        loop(network, RULES["AdamW"](network.parameters()), 25, lambda batch: batch % 10 != 0)
    (finding,) = observer.findings
    assert (finding.rule, finding.location.step, finding.evidence["times"]) == ("step-skipped", 10, 2)


def test_step_no_longer_called(tmp_path: Path) -> None:
    """From batch 21 on step() is not called any more, losses go on: a warning soon, an error at the end."""
    network = model()
    with watching(tmp_path) as observer:
        loop(network, RULES["AdamW"](network.parameters()), 60, lambda batch: batch <= 20)
    assert [(f.severity, f.location.step) for f in observer.findings] == [(Severity.WARNING, 21), (Severity.ERROR, 21)]


def test_optimizer_of_a_copy(tmp_path: Path) -> None:
    """The optimizer holds the parameters of a copy: it steps and nothing is learned."""
    network = model()
    with watching(tmp_path) as observer:
        loop(network, RULES["Adam"](copy.deepcopy(network).parameters()), 10, lambda _: True)
    (finding,) = observer.findings
    assert (finding.rule, finding.location.step) == ("step-skipped", 1)


def test_gradient_accumulation(tmp_path: Path) -> None:
    """The accept twin: four batches a step, and an epoch that ends with fewer."""
    network = model()
    with watching(tmp_path) as observer:
        loop(network, RULES["AdamW"](network.parameters()), 90, lambda batch: batch % 4 == 0 or batch % 30 == 0)
    assert observer.findings == ()


def test_two_optimizers_take_turns(tmp_path: Path) -> None:
    """The accept twin: a generator and a discriminator, one backward before one's step and two before the other's."""
    made, judge = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)
    first, second = RULES["Adam"](made.parameters()), RULES["SGD momentum"](judge.parameters())
    with watching(tmp_path) as observer:
        for _ in range(20):
            second.zero_grad()
            judge(torch.randn(4, 8)).mean().backward()
            (-judge(made(torch.randn(4, 4)).detach()).mean()).backward()
            second.step()
            first.zero_grad()
            judge(made(torch.randn(4, 4))).mean().backward()
            first.step()
    assert observer.findings == ()
    assert observer.steps == 40


def test_a_pattern_is_learned_before_it_is_judged() -> None:
    """The accept twin: irregular numbers of backward calls are no habit, so nothing is said."""
    pattern = StepPattern("AdamW", 0)
    assert not any(pattern.check(backwards, step, NONE) for step, backwards in enumerate([1, 2, 4, 1, 3, 2, 6, 2, 1, 4]))


def test_a_scaler_may_skip() -> None:
    """The accept twin: torch.amp.GradScaler leaves out a step whose gradients overflowed."""
    pattern = StepPattern("SGD", 0)
    for step in range(1, 20):
        assert pattern.check(1, step, frozenset({"grad_scaler"})) == ()
    assert pattern.check(2, 20, frozenset({"grad_scaler"})) == ()
    assert pattern.check(2, 21, NONE) != ()


def test_declared_accumulation_counts_from_the_first_step() -> None:
    """With a declared accumulation of 2 the fourth call before step 1 is already one too many."""
    assert StepPattern("SGD", 0, accumulation=2).check(4, 1, NONE)[0].evidence["skipped"] == 1
    assert StepPattern("SGD", 0, accumulation=2).check(2, 1, NONE) == ()


def test_never_stepped() -> None:
    """backward() without end and an optimizer that nobody calls; without an optimizer it is a hand-made update."""
    assert check_never_stepped(200, 1, 0, ended=False)
    assert check_never_stepped(3, 1, 0, ended=True)
    assert check_never_stepped(200, 0, 0, ended=True) == ()
    assert check_never_stepped(60, 1, 0, ended=False) == ()
