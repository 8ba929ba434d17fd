"""Rule changed-between-steps: parameters or state edited while no optimizer was at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import RULES, model, train, watching


def edit_after(step: int, edit: Any) -> Any:
    def each(now: int) -> None:
        if now == step:
            with torch.no_grad():
                edit()

    return each


@pytest.mark.parametrize("rule", ["SGD", "AdamW"])
def test_noise_between_steps_is_seen_at_the_next(tmp_path: Path, rule: str) -> None:
    """Tiny noise on every weight after step 7."""
    network = model()
    with watching(tmp_path) as observer:
        train(
            network,
            RULES[rule](network.parameters()),
            12,
            edit_after(7, lambda: [p.add_(torch.randn_like(p) * 1e-5) for p in network.parameters()]),
        )
    (finding,) = observer.findings
    assert (finding.rule, finding.location.step) == ("changed-between-steps", 8)


def test_one_layer_restored_after_each_step_names_it(tmp_path: Path) -> None:
    """One layer is put back after each step, so that it never learns."""
    network = model()
    kept = network[3].weight.detach().clone()
    with watching(tmp_path) as observer:
        train(network, RULES["Adam"](network.parameters()), 10, lambda _: network[3].weight.data.copy_(kept))
    (finding,) = observer.findings
    assert (finding.location.step, finding.subject.key) == (2, "3.weight")


def test_optimizer_state_edited(tmp_path: Path) -> None:
    """Second moments multiplied by four between two steps: the next updates are half as large, by the rule."""
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    with watching(tmp_path) as observer:
        train(network, optimizer, 12, edit_after(5, lambda: [s["exp_avg_sq"].mul_(4) for s in optimizer.state.values()]))
    assert [(f.rule, f.location.step) for f in observer.findings] == [("changed-between-steps", 6)]
    assert "exp_avg_sq" in observer.findings[0].message


def test_between_sampled_steps_a_few_coordinates_are_still_held(tmp_path: Path) -> None:
    """Where only every thousandth step is checked in full, noise on all weights is still seen at the next step."""
    network = model()
    with watching(tmp_path, every=1000, overhead=1.0) as observer:
        train(
            network,
            RULES["AdamW"](network.parameters()),
            60,
            edit_after(40, lambda: [p.add_(1e-4) for p in network.parameters()]),
        )
    assert [(f.rule, f.location.step) for f in observer.findings] == [("changed-between-steps", 41)]


def test_weight_clipping_may_be_declared(tmp_path: Path) -> None:
    """The accept twin: a method that clips weights after each step declares between_steps = "allowed"."""
    network = model()
    with watching(tmp_path, between_steps="allowed") as observer:
        train(
            network,
            RULES["SGD"](network.parameters()),
            10,
            lambda _: [p.data.clamp_(-0.05, 0.05) for p in network.parameters()],
        )
    assert observer.findings == ()


def test_reading_and_averaging_weights_is_nothing(tmp_path: Path) -> None:
    """The accept twin: checkpoints, averages kept beside the weights, evaluation, a change of zero."""
    network = model()
    averages: list[Any] = []

    def each(_: int) -> None:
        averages.append([p.detach().clone() for p in network.parameters()])
        network.eval()
        network(torch.ones(2, 16))
        network.train()
        network.state_dict()

    with watching(tmp_path) as observer:
        train(network, RULES["AdamW"](network.parameters()), 20, each)
    assert observer.findings == ()
