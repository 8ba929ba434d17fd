"""Every rule of torch.optim that is attested, in every implementation: what an edited torch does is seen at that very step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring import tampering
from tests.monitoring.loop import model, train, watching
from tests.monitoring.optimizers import IMPLEMENTATIONS, MARKED, RULES

from truerun.adapters.pytorch import reading
from truerun.apps import observing
from truerun.core.finding import Finding
from truerun.monitoring.observation import Sample
from truerun.monitoring.update_mismatch import check_update

ONSET = 9
ATTACKS: dict[str, tampering.Attack] = {
    "sign": tampering.flip_sign,
    "lr x0.5": tampering.scale_setting("lr", 0.5),
    "lr x1.01": tampering.scale_setting("lr", 1.01),
    "lr x1.001": tampering.scale_setting("lr", 1.001),
    "weight-decay": tampering.set_setting("weight_decay", 0.0),
    "beta2": tampering.set_setting("beta2", 0.99),
    "eps": tampering.set_setting("eps", 1e-6),
    "not-applied": tampering.skip,
    "frozen": tampering.freeze_third,
    "stale state": tampering.stale_state,
    "gradient noise 1 %": tampering.noisy_gradient,
    "noise 1e-5": tampering.add_noise(1e-5),
    "noise 1e-5 on one tensor": tampering.add_noise(1e-5, tensor=2),
    "4 % of weights edited": tampering.edit_weights(0.04),
}
TERMS = {"sign": "sign", "lr x0.5": "lr", "lr x1.01": "lr", "weight-decay": "weight-decay", "not-applied": "not-applied"}


def attacks_on(optimizer: Any) -> dict[str, tampering.Attack]:
    """The attacks that make a difference to this rule."""
    group = optimizer.param_groups[0]
    stateless = isinstance(optimizer, torch.optim.SGD) and not group["momentum"]
    without = {
        "beta2": "betas" not in group,
        # Adamax adds eps only where a gradient is as good as zero.
        "eps": "eps" not in group or group["eps"] == 1e-6 or isinstance(optimizer, torch.optim.Adamax),
        "stale state": stateless,
    }
    return {name: attack for name, attack in ATTACKS.items() if not without.get(name, False)}


def watch_each(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    training: tuple[Any, Any],
    attacks: Mapping[int, tampering.Attack],
    steps: int,
) -> tuple[dict[int, tuple[Finding, ...]], tuple[Finding, ...]]:
    """Findings about each step by itself, and those of the run as a whole."""
    found: dict[int, tuple[Finding, ...]] = {}

    def check(sample: Sample) -> tuple[Finding, ...]:
        found[sample.step] = check_update(sample)
        return found[sample.step]

    monkeypatch.setattr(observing, "check_update", check)
    monkeypatch.setattr(reading, "names_of", lambda tensors: [f"tensor {i}" for i in range(len(tensors))])
    with watching(folder) as observer, tampering.tampered_at(attacks):
        train(*training, steps)
    assert len(found) == steps
    return found, observer.findings


@pytest.mark.parametrize(("rule", "kind"), MARKED)
def test_each_attack_is_seen_at_its_step_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rule: str, kind: str
) -> None:
    """
    Fourteen ways in which an edited torch departs from a rule, one at a time with clean steps between them.

    Each is an error at the tampered step, the common ones by name; the clean steps before, between and after raise nothing.
    """
    network = model()
    optimizer = RULES[rule](network.parameters(), **IMPLEMENTATIONS[kind])
    names = attacks_on(optimizer)
    at = {ONSET + 2 * number: name for number, name in enumerate(names)}
    steps = max(at) + 2
    found, _ = watch_each(
        monkeypatch, tmp_path, (network, optimizer), {step: ATTACKS[name] for step, name in at.items()}, steps=steps
    )
    assert {step for step, findings in found.items() if findings} == set(at), {
        step: (at.get(step), [finding.message for finding in findings])
        for step, findings in found.items()
        if bool(findings) != (step in at)
    }
    said = {name: found[step][0].evidence["term"] for step, name in at.items()}
    assert {name: said[name] for name in TERMS if said[name] != TERMS[name]} == {}
    assert said["frozen"] == "frozen"
