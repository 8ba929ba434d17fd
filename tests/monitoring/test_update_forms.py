"""Forms that steps take in honest programs: half precision, sparse, scaled, compiled, several groups and optimizers, matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring import tampering
from tests.monitoring.loop import model, train, watching
from tests.monitoring.optimizers import IMPLEMENTATIONS, MARKED, PAIRS, RULES, TYPES, train_in

from truerun.adapters.pytorch import probe, reading
from truerun.core.finding import Finding

ONSET = 5
DEFECTIVE = [("SGD", "fused"), ("Adagrad", "fused")]
HALF = ["bfloat16", "float16"]


@pytest.fixture(autouse=True)
def _short_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "names_of", lambda tensors: [f"tensor {i}" for i in range(len(tensors))])


def mismatches(observer: Any) -> list[Finding]:
    return [finding for finding in observer.findings if finding.rule == "update-mismatch"]


@pytest.mark.parametrize("kind", ["single", "foreach", "fused"])
@pytest.mark.parametrize("attack", ["sign", "lr", "skip"])
def test_bfloat16_step_is_held_to_its_rounding(tmp_path: Path, kind: str, attack: str) -> None:
    """The learning rate one percent off, the sign reversed or the step left out, with bfloat16 parameters: seen at that step."""
    attacks = {"sign": tampering.flip_sign, "lr": tampering.scale_setting("lr", 1.01), "skip": tampering.skip}
    network = model().bfloat16()
    optimizer = RULES["Adam"](network.parameters(), **IMPLEMENTATIONS[kind])
    with watching(tmp_path, coordinates=1024) as observer, tampering.tampered(attacks[attack], ONSET):
        train_in("bfloat16", network, optimizer, ONSET + 1)
    assert mismatches(observer)[0].location.step == ONSET


@pytest.mark.parametrize(
    ("rule", "kind"), [pair for pair in MARKED if (str(pair.values[0]).split()[0], pair.values[1]) not in DEFECTIVE]
)
def test_clean_bfloat16_steps_raise_nothing(tmp_path: Path, rule: str, kind: str) -> None:
    """The accept twin, in every rule and implementation."""
    network = model().bfloat16()
    with watching(tmp_path) as observer:
        train_in("bfloat16", network, RULES[rule](network.parameters(), **IMPLEMENTATIONS[kind]), 15)
    assert observer.findings == ()
    assert observer.sampling["samples"] == 15


@pytest.mark.slow
@pytest.mark.parametrize("numbers", TYPES)
@pytest.mark.parametrize(("rule", "kind"), PAIRS)
def test_many_clean_steps_raise_nothing(tmp_path: Path, rule: str, kind: str, numbers: str) -> None:
    """The accept twin at length: 400 clean steps of every rule, implementation and type of number."""
    if numbers in HALF and (rule.split(maxsplit=1)[0], kind) in DEFECTIVE:
        pytest.skip("this kernel does not do what it documents")
    network = model().to(TYPES[numbers])
    with watching(tmp_path) as observer:
        train_in(numbers, network, RULES[rule](network.parameters(), **IMPLEMENTATIONS[kind]), 400)
    assert mismatches(observer) == []


def test_fused_sgd_in_half_precision_leaves_parameters_alone(tmp_path: Path) -> None:
    """A defect of torch 2.13: on the CPU, fused SGD does not write half-precision parameters back. Nothing is learned."""
    network = torch.nn.Linear(16, 8, bias=False).bfloat16()
    with watching(tmp_path) as observer:
        train_in("bfloat16", network, torch.optim.SGD(network.parameters(), lr=0.1, fused=True), 3)
    note, error = observer.findings
    assert note.rule == "update-unchecked"
    assert (error.evidence["term"], error.location.step) == ("not-applied", 1)
    assert "use fused=False" in (error.remedy or "")


def embeddings(make: Callable[[Any], Any], steps: int) -> None:
    """Rows occur several times in a batch, and most not at all."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(500, 8, sparse=True)
    optimizer = make(table.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        table(torch.randint(0, 40, (16, 5))).pow(2).sum().backward()
        optimizer.step()


SPARSE: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "SparseAdam": lambda p: torch.optim.SparseAdam(p, lr=0.01),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("rule", SPARSE)
def test_sparse_gradients(tmp_path: Path, rule: str) -> None:
    """Sign flipped in a step with sparse gradients: seen at once in the rows that were touched; the clean steps before are silent."""
    with watching(tmp_path) as observer, tampering.tampered(tampering.flip_sign, 20):
        embeddings(SPARSE[rule], 20)
    assert [finding.location.step for finding in observer.findings] == [20]
    assert observer.sampling["samples"] == 20


def scaled(optimizer: Any, network: Any, steps: int, overflow: int) -> None:
    """Mixed precision with float32 parameters; the gradients of step *overflow* are infinite."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=4)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        x = torch.randn(32, 16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(x), x[:, :5].argmax(1))
        scaler.scale(loss).backward()
        if step == overflow:
            network[0].weight.grad.fill_(torch.inf)
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("kind", ["single", "fused"])
def test_gradient_scaler(tmp_path: Path, kind: str) -> None:
    """A GradScaler that unscales before the step, or inside a fused one, and leaves out a step that overflowed: nothing to say."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), **IMPLEMENTATIONS[kind])
    with watching(tmp_path) as observer:
        scaled(optimizer, network, 12, overflow=7)
    assert observer.findings == ()
    assert observer.sampling["samples"] == (12 if kind == "fused" else 11)


def test_gradient_scaler_and_an_altered_fused_step(tmp_path: Path) -> None:
    """The attack: lr 0.1 % off in a fused step that also unscales."""
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    with watching(tmp_path) as observer, tampering.tampered(tampering.scale_setting("lr", 1.001), 9):
        scaled(optimizer, network, 9, overflow=7)
    (finding,) = observer.findings
    assert (finding.location.step, finding.evidence["term"]) == (9, "lr")


def test_groups_optimizers_and_parameters_that_come_and_go(tmp_path: Path) -> None:
    """The accept twin: two optimizers, groups of their own, a learning rate that is a tensor, frozen and added parameters."""
    network = model()
    groups = [{"params": network[0].parameters()}, {"params": network[2].parameters(), "lr": 1e-2, "weight_decay": 0}]
    first = torch.optim.AdamW(groups, lr=torch.tensor(1e-3))
    second = torch.optim.SGD(network[3].parameters(), lr=0.1, momentum=0.9)
    with watching(tmp_path) as observer:
        for step in range(24):
            first.zero_grad()
            second.zero_grad()
            if step in (8, 16):
                network[0].bias.requires_grad_(step == 16)
            if step == 12:
                second.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.5})
            x = torch.randn(32, 16)
            torch.nn.functional.cross_entropy(network(x), x[:, :5].argmax(1)).backward()
            first.step()
            second.step()
    assert observer.findings == ()
    assert observer.sampling["samples"] == 48


@pytest.mark.parametrize("rule", ["NAdam", "RAdam", "RMSprop", "Adamax", "Adadelta", "ASGD", "Adagrad"])
def test_learning_rate_that_is_a_tensor(tmp_path: Path, rule: str) -> None:
    """The accept twin: torch then computes its scalars in float32."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, getattr(torch.optim, rule)(network.parameters(), lr=torch.tensor(0.01)), 8)
    assert observer.findings == ()


def compiled(steps: int, backend: str) -> list[float]:
    torch._dynamo.reset()
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    forward, step = torch.compile(network, backend=backend), torch.compile(optimizer.step, backend=backend)
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(32, 16, generator=generator)
        loss = torch.nn.functional.cross_entropy(forward(x), x[:, :5].argmax(1))
        loss.backward()
        step()
        losses.append(loss.item())
    return [*losses, float(network[0].weight.double().sum())]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled_model_and_step(tmp_path: Path, backend: str) -> None:
    """torch.compile does not tear the watch apart: every step is looked at, none is accused, losses and weights are the same."""
    with watching(tmp_path) as observer:
        watched = compiled(10, backend)
    assert observer.findings == ()
    assert observer.sampling["samples"] == 10
    assert watched == compiled(10, backend)


def matrices() -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = ((16, 64), (64, 96), (96, 5))
    return torch.nn.Sequential(*(torch.nn.Linear(*size, bias=False) for size in sizes))


MATRIX: dict[str, Callable[[Any], Any]] = {
    "Muon": lambda p: torch.optim.Muon(p, lr=0.02),
    "Muon rms": lambda p: torch.optim.Muon(p, lr=0.002, adjust_lr_fn="match_rms_adamw", nesterov=False),
    "Adafactor": lambda p: torch.optim.Adafactor(p, weight_decay=0.1),
    "Adafactor foreach": lambda p: torch.optim.Adafactor(p, lr=1e-3, weight_decay=0.1, foreach=True, maximize=True),
}
MATRIX_ATTACKS: dict[str, tampering.Attack] = {
    "sign": tampering.flip_sign,
    "lr": tampering.scale_setting("lr", 1.01),
    "weight-decay": tampering.set_setting("weight_decay", 0.0),
    "not-applied": tampering.skip,
    "momentum": tampering.scale_setting("momentum", 0.9),
}


@pytest.mark.parametrize("rule", MATRIX)
def test_matrix_rules_are_recomputed_whole(tmp_path: Path, rule: str) -> None:
    """Sign, lr one percent off, weight decay dropped, a step left out, another momentum: each at its step and by its name."""
    network = matrices()
    terms = [term for term in MATRIX_ATTACKS if term != "momentum" or rule.startswith("Muon")]
    at = {ONSET + 2 * number: term for number, term in enumerate(terms)}
    with watching(tmp_path) as observer, tampering.tampered_at({step: MATRIX_ATTACKS[term] for step, term in at.items()}):
        train(network, MATRIX[rule](network.parameters()), max(at) + 2)
    said = {
        finding.location.step: finding.evidence["term"]
        for finding in mismatches(observer)
        if finding.evidence["term"] != "counter"
    }
    assert said == at


def test_matrices_beyond_the_bound_are_said(tmp_path: Path) -> None:
    """A matrix that is too large to travel whole is looked at by coordinates only, and that is said once."""
    network = torch.nn.Linear(1024, 512, bias=False)
    optimizer = torch.optim.Muon(network.parameters())
    with watching(tmp_path) as observer:
        for _ in range(3):
            network(torch.ones(2, 1024)).pow(2).mean().backward()
            optimizer.step()
    found = [finding for finding in observer.findings if finding.rule == "update-unchecked"]
    assert ["not recomputed whole" in finding.message for finding in found] == [True]


def test_updates_by_hand_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain gradient descent without torch.optim: "could not tell", and no error."""
    # Optimizers of other tests may still live in this process; a program of its own has none.
    monkeypatch.setattr(probe, "_living_optimizers", lambda: 0)
    network = model()
    with watching(tmp_path) as observer:
        for _ in range(10):
            network(torch.ones(4, 16)).pow(2).mean().backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.sub_(0.1 * parameter.grad)
                    parameter.grad = None
    (finding,) = observer.findings
    assert (finding.rule, finding.severity.value) == ("update-unchecked", "note")
    assert "by hand" in finding.message
