"""Rule update-mismatch: what an altered step() leaves, for every rule and implementation, and long clean runs beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.monitoring import tampering
from tests.monitoring.loop import IMPLEMENTATIONS, RULES, model, train, watching

from truerun.core.finding import Finding
from truerun.monitoring.update_rules import Situation, expect_update, read_hyperparameters

ONSET = 9
EVERYWHERE = {
    "sign": tampering.flip_sign,
    "gradient-scale": tampering.scale_gradient(1.1),
    "lr": tampering.scale_setting("lr", 1.001),
    "not-applied": tampering.skip,
    "frozen": tampering.freeze_third,
}
PAIRS = [(rule, kind) for rule in RULES for kind in IMPLEMENTATIONS]
FEW = [("SGD", "single"), ("SGD momentum", "foreach"), ("Adam amsgrad", "single"), ("AdamW", "fused")]


def tamper(folder: Path, rule: str, kind: str, attack: tampering.Attack, steps: int = ONSET + 3) -> tuple[Finding, ...]:
    network = model()
    with watching(folder) as observer, tampering.tampered(attack, ONSET):
        train(network, RULES[rule](network.parameters(), **IMPLEMENTATIONS[kind]), steps)
    return tuple(finding for finding in observer.findings if finding.rule == "update-mismatch")


@pytest.mark.parametrize("term", EVERYWHERE)
@pytest.mark.parametrize(("rule", "kind"), FEW)
def test_altered_step_is_seen_and_named_at_once(tmp_path: Path, rule: str, kind: str, term: str) -> None:
    """The attack: an edited PyTorch does something else with the gradient from step 9 on."""
    first = tamper(tmp_path, rule, kind, EVERYWHERE[term])[0]
    assert first.location.step == ONSET
    # Adam's first moments forget a factor only slowly, and SGD without momentum cannot tell lr from the gradient's scale.
    assert first.evidence["term"] in ({term, "lr"} if term == "gradient-scale" else {term})


@pytest.mark.parametrize(("rule", "kind"), FEW)
def test_clean_steps_raise_nothing(tmp_path: Path, rule: str, kind: str) -> None:
    """The accept twin: 120 clean steps, every one of them checked, no finding of any kind."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, RULES[rule](network.parameters(), **IMPLEMENTATIONS[kind]), 120)
    assert observer.findings == ()
    assert observer.sampling["samples"] == 120


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "kind"), PAIRS)
def test_many_clean_steps_raise_nothing(tmp_path: Path, rule: str, kind: str) -> None:
    """The accept twin at length: 3,000 clean steps of each pair."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, RULES[rule](network.parameters(), **IMPLEMENTATIONS[kind]), 3000)
    assert observer.findings == ()


def test_weight_decay_dropped_inside_step(tmp_path: Path) -> None:
    """Weight decay set to zero inside the step while param_groups still show it."""
    finding = tamper(tmp_path, "AdamW", "single", tampering.set_setting("weight_decay", 0.0))[0]
    assert (finding.location.step, finding.evidence["term"]) == (ONSET, "weight-decay")
    assert "weight decay 0.1 was not applied" in finding.message


@pytest.mark.parametrize(("setting", "value"), [("beta1", 0.8), ("beta2", 0.99), ("eps", 1e-5)])
@pytest.mark.parametrize("rule", ["Adam", "AdamW"])
def test_moment_settings_changed_inside_step(tmp_path: Path, rule: str, setting: str, value: float) -> None:
    """Betas or eps replaced inside the step: the term and the value that was used are in the evidence."""
    finding = tamper(tmp_path, rule, "single", tampering.set_setting(setting, value))[0]
    assert (finding.location.step, finding.evidence["term"]) == (ONSET, setting)
    assert finding.evidence["observed"] == pytest.approx(value, rel=0.02)


def test_momentum_changed_inside_step(tmp_path: Path) -> None:
    """Momentum 0.8 where 0.9 is set."""
    finding = tamper(tmp_path, "SGD momentum", "foreach", tampering.set_setting("momentum", 0.8))[0]
    assert (finding.evidence["term"], finding.evidence["observed"]) == ("momentum", pytest.approx(0.8, rel=1e-4))


def test_noise_on_one_tensor_names_the_tensor(tmp_path: Path) -> None:
    """Noise added to one tensor inside the step: its name is the finding's key."""
    finding = tamper(tmp_path, "AdamW", "fused", tampering.edit_weights(1.0, tensor=2))[0]
    assert (finding.location.step, finding.subject.key) == (ONSET, "2.weight")


def test_gradient_noise_of_one_percent(tmp_path: Path) -> None:
    """One percent noise on the gradient inside the step."""
    assert tamper(tmp_path, "Adam", "foreach", tampering.noisy_gradient)[0].location.step == ONSET


def test_sparse_edit_is_found_by_chance_soon(tmp_path: Path) -> None:
    """0.1 % of the weights edited at each step: seen with probability 1 - 0.999^256 = 23 % a step, so within 60 all but surely."""
    found = tamper(tmp_path, "AdamW", "single", tampering.edit_weights(0.001), steps=ONSET + 60)
    assert found
    assert (found[0].location.step or 0) >= ONSET


def test_gradients_clipped_before_the_step(tmp_path: Path) -> None:
    """The accept twin: clipping, scaling and noise before step() are the program's own business."""
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    optimizer.register_step_post_hook(lambda *_: None)
    original = optimizer.zero_grad
    with watching(tmp_path) as observer:
        for step in range(30):
            original()
            torch.nn.functional.cross_entropy(network(torch.ones(4, 16)), torch.tensor([0, 1, 2, step % 5])).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
            optimizer.step()
    assert observer.findings == ()


def test_frozen_parameters_and_groups(tmp_path: Path) -> None:
    """The accept twin: frozen layers, a group without weight decay, a scheduler, unused parameters, float64."""
    network = model().double()
    network[0].bias.requires_grad_(requires_grad=False)
    unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    groups = [{"params": [network[0].weight, network[0].bias, unused]}, {"params": network[2:].parameters(), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=40)
    with watching(tmp_path) as observer:
        for step in range(30):
            optimizer.zero_grad()
            loss = network(torch.full((4, 16), float(step), dtype=torch.float64)).pow(2).mean()
            loss.backward()
            optimizer.step()
            schedule.step()
        # torch's schedulers are only noted where the probe has wrapped them, as it does in a real run
    assert {finding.rule for finding in observer.findings} <= {"hyperparameter-drift"}


def test_a_step_that_overflows_is_not_a_mismatch(tmp_path: Path) -> None:
    """The accept twin: an exploding loss makes infinities and NaN by the rule itself; metric-not-finite says so."""
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e30)
    with watching(tmp_path) as observer:
        train(network, optimizer, 8)
    assert {finding.rule for finding in observer.findings} == {"metric-not-finite"}


@pytest.mark.parametrize("rule", ["SGD momentum", "Adam", "AdamW"])
def test_rules_agree_with_torch_in_float64(rule: str) -> None:
    """The pure rules give what torch gives, to a few units in the last place."""
    torch.manual_seed(3)
    parameter = torch.nn.Parameter(torch.randn(50, dtype=torch.float64))
    optimizer = RULES[rule]([parameter])
    state: dict[str, np.ndarray] = {}
    for count in range(1, 6):
        parameter.grad = torch.randn(50, dtype=torch.float64)
        before = parameter.detach().numpy().copy()
        old = {name: value.copy() for name, value in state.items()}
        optimizer.step()
        state = {k: v.numpy().copy() for k, v in optimizer.state[parameter].items() if k != "step" and v is not None}
        here = Situation(
            p=before,
            gradient=parameter.grad.numpy(),
            before=old,
            after=state,
            count=np.full(50, float(count)),
            fresh=np.full(50, count == 1),
            type="float64",
        )
        name = rule.partition(" ")[0]
        expected = expect_update(name, read_hyperparameters(name, optimizer.param_groups[0]), here)
        after = {"p": parameter.detach().numpy(), **state}
        for part, value in expected.values.items():
            assert np.all(value.holds(after[part])), part


def train_with_closure(network: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int, *, by_name: bool) -> None:
    """As Lightning trains: gradients are made inside the step."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(32, 16, generator=generator)

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(x), x[:, :5].argmax(1))
            loss.backward()
            return loss

        result = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
        assert result is not None


@pytest.mark.parametrize("by_name", [True, False])
def test_step_with_a_closure_is_attested(tmp_path: Path, by_name: bool) -> None:
    """The sign flipped inside a step whose gradients are made there too: seen at the first such step."""
    network = model()
    with watching(tmp_path) as observer, tampering.tampered(tampering.flip_sign, ONSET):
        train_with_closure(network, RULES["AdamW"](network.parameters()), ONSET + 2, by_name=by_name)
    first = next(finding for finding in observer.findings if finding.rule == "update-mismatch")
    assert (first.location.step, first.evidence["term"]) == (ONSET, "sign")


@pytest.mark.parametrize("by_name", [True, False])
def test_clean_steps_with_a_closure_raise_nothing(tmp_path: Path, by_name: bool) -> None:
    """The accept twin: every step checked, nothing found, nothing left unsaid."""
    network = model()
    with watching(tmp_path) as observer:
        train_with_closure(network, RULES["SGD momentum"](network.parameters()), 40, by_name=by_name)
    assert observer.findings == ()
    assert observer.sampling["samples"] == 40
