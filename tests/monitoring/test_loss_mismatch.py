"""Rule loss-mismatch: the loss that backward is called on, against a declaration and against the approved run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import watching
from torch import nn
from torch.nn import functional

from truerun.core.finding import Finding, Severity
from truerun.monitoring.loss_mismatch import FORMULAS
from truerun.monitoring.reference import Reference

LossOf = Callable[[Any, Any], Any]
DECLARED = Reference(values={"loss": "cross_entropy"})


def train(loss_of: LossOf, *, accumulate: int = 1, steps: int = 4) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for batch in range(steps * accumulate):
        x = torch.randn(16, 12)
        loss = loss_of(network(x), x[:, :5].argmax(1))
        (loss / accumulate if accumulate > 1 else loss).backward()
        if batch % accumulate == accumulate - 1:
            optimizer.step()
            optimizer.zero_grad()


def found(folder: Path, reference: Reference, loss_of: LossOf, **how: Any) -> list[Finding]:
    with watching(folder, reference) as observer:
        train(loss_of, **how)
    assert observer.effective["learned"]["gradient"]["losses"]
    assert {finding.rule for finding in observer.findings} <= {"loss-mismatch"}
    return list(observer.findings)


def plain(out: Any, y: Any) -> Any:
    return functional.cross_entropy(out, y)


ATTACKS: dict[str, tuple[LossOf, str]] = {
    "label smoothing": (lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.1), "label_smoothing=0.1"),
    "scaled": (lambda out, y: 0.5 * plain(out, y), "0.5 times"),
    "reversed": (lambda out, y: -plain(out, y), "-1 times"),
    "a hundredth more": (lambda out, y: 1.01 * plain(out, y), "1.01 times"),
    "something added": (lambda out, y: plain(out, y) + 1e-2 * out.square().mean(), "cross_entropy of the same outputs"),
    "summed": (lambda out, y: functional.cross_entropy(out, y, reduction="sum"), "16 times"),
    "half of the batch": (lambda out, y: plain(out[:8], y[:8]), "50% of the rows"),
    "another loss": (lambda out, y: functional.mse_loss(out, functional.one_hot(y, 5).float()), "mse_loss was computed"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_not_the_declared_loss(tmp_path: Path, attack: str) -> None:
    """Cross entropy is declared and something else is trained on: the first look says what."""
    loss_of, words = ATTACKS[attack]
    (finding,) = found(tmp_path, DECLARED, loss_of)
    assert finding.location.step == 2
    assert words in finding.message
    assert finding.severity is (Severity.WARNING if attack == "half of the batch" else Severity.ERROR)


def test_loss_function_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's cross_entropy itself was replaced by one that is off by a tenth: recomputing it does not use torch."""
    original = functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", lambda *args, **kwargs: 0.9 * original(*args, **kwargs))
    (finding,) = found(tmp_path, DECLARED, nn.CrossEntropyLoss())
    assert "0.9 times" in finding.message


@pytest.mark.parametrize("how", ["function", "module", "accumulation", "mixed precision", "ignored"])
def test_the_declared_loss(tmp_path: Path, how: str) -> None:
    """The accept twins: as a function, as a module, divided over four batches, in half precision and scaled, with targets left out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def ignoring(out: Any, y: Any) -> Any:
        return functional.cross_entropy(out, torch.where(y == 1, -100, y))

    losses: dict[str, LossOf] = {
        "module": nn.CrossEntropyLoss(),
        "mixed precision": lambda out, y: scaler.scale(plain(out.bfloat16(), y)),
        "ignored": ignoring,
    }
    assert found(tmp_path, DECLARED, losses.get(how, plain), accumulate=4 if how == "accumulation" else 1) == []


def test_declared_smoothing(tmp_path: Path) -> None:
    """Label smoothing that is declared has to be there."""
    reference = Reference(values={"loss": "cross_entropy", "label_smoothing": 0.1})
    assert found(tmp_path, reference, ATTACKS["label smoothing"][0]) == []
    (finding,) = found(tmp_path, reference, plain)
    assert finding.rule == "loss-mismatch"


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack != "something added"])
def test_not_the_loss_of_the_approved_run(tmp_path: Path, attack: str) -> None:
    """Nothing is declared: the loss function, its options, the share of rows and the factor are those of the approved run."""
    with watching(tmp_path) as observer:
        train(plain)
    known = {"learned": observer.effective["learned"], "learned_from": "run r1 (entry 9)"}
    assert found(tmp_path, Reference(**known, same_program=True), plain) == []
    (error,) = found(tmp_path, Reference(**known, same_program=True), ATTACKS[attack][0])
    assert error.severity is Severity.ERROR
    assert "run r1 (entry 9)" in error.message
    (warning,) = found(tmp_path, Reference(**known), ATTACKS[attack][0])
    assert warning.severity is Severity.WARNING


SHAPES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "cross_entropy": (torch.randn(7, 5), torch.randint(5, (7,)), {"label_smoothing": 0.2}),
    "cross_entropy in space": (torch.randn(3, 5, 4), torch.randint(5, (3, 4)), {}),
    "cross_entropy of probabilities": (torch.randn(7, 5), torch.rand(7, 5), {"label_smoothing": 0.1}),
    "nll_loss": (torch.randn(7, 5).log_softmax(1), torch.randint(5, (7,)), {}),
    "mse_loss": (torch.randn(7, 2), torch.randn(7, 2), {}),
    "l1_loss": (torch.randn(7, 2), torch.randn(7, 2), {}),
    "smooth_l1_loss": (torch.randn(7, 2), torch.randn(7, 2), {"beta": 0.3}),
    "huber_loss": (torch.randn(7, 2), torch.randn(7, 2), {"delta": 0.3}),
    "binary_cross_entropy": (torch.rand(7, 2), torch.rand(7, 2), {}),
    "binary_cross_entropy_with_logits": (torch.randn(7, 2), torch.rand(7, 2), {}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_formulas_are_those_of_torch(name: str) -> None:
    """Each formula gives what torch's function gives."""
    put, target, options = SHAPES[name]
    function = name.split(maxsplit=1)[0]
    expected = getattr(functional, function)(put, target, **options).item()
    assert FORMULAS[function](put.double().numpy(), target.double().numpy(), options) == pytest.approx(expected, rel=1e-5)
