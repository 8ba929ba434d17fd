"""Rule hyperparameter-drift: what the optimizer runs with against what was declared or approved, and changes on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import model, train, watching

from truerun.core.finding import Finding, Severity
from truerun.monitoring.hyperparameter_drift import HyperparameterWatch, same
from truerun.monitoring.reference import Reference

ADAMW = {"lr": 0.003, "weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
NONE: frozenset[str] = frozenset()


def declared(**values: Any) -> Reference:
    origins = {name: f"config.yaml optimizer.{name}" for name in values}
    return Reference(values=values, origins=origins, certain=frozenset(values))


def first(reference: Reference, *groups: dict[str, Any], notes: frozenset[str] = NONE) -> tuple[Finding, ...]:
    return HyperparameterWatch("AdamW", "torch.optim.adamw.AdamW", 0, reference).check(groups, 1, notes)


@pytest.mark.parametrize(
    ("name", "wanted"), [("lr", 0.03), ("weight_decay", 0.0), ("betas", [0.9, 0.99]), ("eps", 1e-6), ("optimizer", "SGD")]
)
def test_another_value_than_declared_at_step_1(name: str, wanted: Any) -> None:
    """The value was set by an environment variable or the command line; the file says otherwise."""
    (finding,) = first(declared(**{name: wanted}), ADAMW)
    assert (finding.rule, finding.severity, finding.subject.key) == ("hyperparameter-drift", Severity.ERROR, name)
    assert finding.location.step == 1
    assert name == "optimizer" or f"config.yaml optimizer.{name}" in finding.message


def test_as_declared() -> None:
    """The accept twin, with JSON's lists for tuples and text for names in any case."""
    assert first(declared(lr=0.003, betas=[0.9, 0.999], optimizer="adamw", weight_decay=0.01), ADAMW) == ()


def test_a_group_without_decay_is_usual() -> None:
    """The accept twin: one of several groups is as declared, biases have no decay."""
    assert first(declared(lr=0.003, weight_decay=0.01), ADAMW, {**ADAMW, "weight_decay": 0.0}) == ()


def test_a_warm_up_starts_from_the_declared_rate() -> None:
    """The accept twin: a torch scheduler has lowered lr before step 1; initial_lr is what was declared."""
    warm = {**ADAMW, "lr": 0.0003, "initial_lr": 0.003}
    assert first(declared(lr=0.003), warm, notes=frozenset({"scheduler"})) == ()
    assert first(declared(lr=0.003), warm) != (), "initial_lr alone proves nothing"


def test_a_guess_only_warns() -> None:
    """A reference that was only guessed from a key's name never makes an error."""
    (finding,) = first(Reference(values={"lr": 0.3}, origins={"lr": "config.yaml lr"}), ADAMW)
    assert finding.severity is Severity.WARNING


def later(old: dict[str, Any], new: dict[str, Any], reference: Reference, *notes: str) -> tuple[Finding, ...]:
    watch = HyperparameterWatch("AdamW", "torch.optim.adamw.AdamW", 0, reference)
    assert watch.check([old], 1, NONE) == ()
    return watch.check([new], 2, frozenset(notes))


@pytest.mark.parametrize(("name", "value"), [("weight_decay", 0.0), ("betas", (0.9, 0.99)), ("eps", 1e-6)])
def test_changed_in_the_live_optimizer(name: str, value: Any) -> None:
    """param_groups edited between two steps."""
    (finding,) = later(ADAMW, {**ADAMW, name: value}, Reference())
    assert (finding.severity, finding.subject.key, finding.location.step) == (Severity.ERROR, name, 2)


def test_learning_rate_changed_by_code() -> None:
    """An error where lr is declared or the approved run's lr stood still; a warning where nobody ever said."""
    changed = {**ADAMW, "lr": 0.0030003}
    assert later(ADAMW, changed, declared(lr=0.003))[0].severity is Severity.ERROR
    assert later(ADAMW, changed, Reference(values={"lr_changed_by": "scheduler"}))[0].severity is Severity.ERROR
    assert later(ADAMW, changed, Reference())[0].severity is Severity.WARNING
    assert later(ADAMW, changed, declared(lr=0.003, lr_changed_by="code")) == ()


@pytest.mark.parametrize("note", ["scheduler.lr", "load_state_dict"])
def test_learning_rate_changed_legally(note: str) -> None:
    """The accept twin: a torch scheduler, or a checkpoint that was loaded."""
    assert later(ADAMW, {**ADAMW, "lr": 0.001}, declared(lr=0.003), note) == ()


def test_a_scheduler_is_no_cover() -> None:
    """Betas changed while a scheduler moves lr, and lr changed by hand right before a scheduler scales it."""
    assert later(ADAMW, {**ADAMW, "lr": 0.001, "betas": (0.5, 0.9)}, declared(lr=0.003), "scheduler.lr")[0].subject.key == "betas"
    assert later(ADAMW, {**ADAMW, "lr": 0.01}, declared(lr=0.003), "code.lr", "scheduler.lr")[0].subject.key == "lr"


def test_live_optimizer(tmp_path: Path) -> None:
    """In a real loop: lr times 1.001 in param_groups after step 6 is seen at step 7."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)

    def each(step: int) -> None:
        if step == 6:
            optimizer.param_groups[0]["lr"] *= 1.001

    with watching(tmp_path, declared(lr=0.003)) as observer:
        train(network, optimizer, 10, each)
    (finding,) = observer.findings
    assert (finding.rule, finding.location.step, finding.subject.key) == ("hyperparameter-drift", 7, "lr")


def test_effective_values_are_what_step_1_used(tmp_path: Path) -> None:
    """The record of a run holds what it was seen to use."""
    network = model()
    torch.manual_seed(41)
    with watching(tmp_path) as observer:
        train(network, torch.optim.AdamW(network.parameters(), lr=0.003), 3)
    effective = observer.effective
    assert (effective["optimizer"], effective["lr"], effective["seed"]) == ("AdamW", 0.003, 41)
    assert effective["lr_changed_by"] == "nothing"


def test_same() -> None:
    """Numbers as numbers, lists element by element, text as it is."""
    assert same("1e-3", 0.001)
    assert same([0.9, 0.999], (0.9, 0.999))
    assert not same(0.003, 0.003003)
    assert not same([0.9], (0.9, 0.999))
    assert not same("cosine", 1)
