"""Rule clipping-not-applied: the limit on gradients that the gradients do not keep."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import RULES, model, watching

from truerun.apps.observing import Observer
from truerun.core.finding import Severity
from truerun.monitoring.reference import Reference

clip = importlib.import_module("torch.nn.utils.clip_grad")
DECLARED = Reference(values={"clip_norm": 0.5}, origins={"clip_norm": "truerun.toml [training] clip_norm"})
LEARNED = Reference(
    learned={"clipping": {"0": {"what": "norm", "limit": 0.5, "share": 1.0}}}, learned_from="run 7 (entry 3)", same_program=True
)
Part = Callable[[Any, int], object]


def nothing(network: Any, step: int) -> None:
    pass


def properly(network: Any, step: int) -> None:
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)


def run(
    folder: Path,
    before: Part = nothing,
    *,
    after: Part = nothing,
    steps: int = 16,
    reference: Reference | None = None,
) -> Observer:
    """Train with *before* between backward and step and *after* behind the step; the gradients' norm is about 25."""
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    with watching(folder, reference) as observer:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            x = 10 * torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
            (10 * network(x).pow(2).mean()).backward()
            before(network, step)
            optimizer.step()
            after(network, step)
    return observer


def said(observer: Observer) -> list[tuple[str, object, int | None, Severity]]:
    return [
        (f.rule, f.evidence["term"], f.location.step, f.severity) for f in observer.findings if f.rule == "clipping-not-applied"
    ]


@contextlib.contextmanager
def replaced(name: str, function: Any) -> Iterator[None]:
    original = getattr(clip, name)
    setattr(clip, name, function)
    try:
        yield
    finally:
        setattr(clip, name, original)


def test_declared_and_not_done(tmp_path: Path) -> None:
    """[training] clip_norm = 0.5, and the loop has no clipping at all: said at the first step, with the norm."""
    observer = run(tmp_path, reference=DECLARED)
    assert said(observer) == [("clipping-not-applied", "clip_norm", 1, Severity.ERROR)]
    assert observer.findings[0].evidence["observed"] > 1
    assert "truerun.toml [training] clip_norm" in observer.findings[0].message


def test_declared_and_done_on_one_layer_only(tmp_path: Path) -> None:
    """Only the first layer is clipped: the declared norm of the whole is exceeded at the first step."""
    observer = run(tmp_path, lambda network, _: torch.nn.utils.clip_grad_norm_(network[0].parameters(), 0.5), reference=DECLARED)
    assert said(observer)[0] == ("clipping-not-applied", "clip_norm", 1, Severity.ERROR)
    assert "2 of 6 tensors were clipped" in observer.findings[0].message


def test_a_call_without_effect(tmp_path: Path) -> None:
    """An edited torch computes the norm and forgets to scale: caught at the first step, nothing declared."""
    with replaced("_clip_grads_with_norm_", lambda *_, **__: None):
        observer = run(tmp_path, properly)
    assert said(observer) == [("clipping-not-applied", "call", 1, Severity.ERROR)]


def test_gradients_scaled_back_after_clipping(tmp_path: Path) -> None:
    """Something multiplies the clipped gradients by ten: a warning, because noise may be the method."""

    def tampered(network: Any, step: int) -> None:
        properly(network, step)
        for tensor in network.parameters():
            tensor.grad.mul_(10)

    assert said(run(tmp_path, tampered)) == [("clipping-not-applied", "call", 1, Severity.WARNING)]


def test_clipping_after_the_step(tmp_path: Path) -> None:
    """The two lines were exchanged: what is clipped has been used already."""
    observer = run(tmp_path, after=properly)
    assert said(observer) == [("clipping-not-applied", "late", 4, Severity.ERROR)]


def test_clipping_stops_on_the_way(tmp_path: Path) -> None:
    """From step 12 on nothing is clipped any more."""
    observer = run(tmp_path, lambda network, step: properly(network, step) if step < 12 else None, steps=20)
    assert said(observer) == [("clipping-not-applied", "stopped", 14, Severity.WARNING)]


def test_scaled_gradients_are_clipped(tmp_path: Path) -> None:
    """Clipping before unscale_(): the limit is 65536 times smaller than it says."""
    observer = amp(tmp_path, unscale=False)
    assert said(observer) == [("clipping-not-applied", "scaled", 3, Severity.ERROR)]


def test_unscaled_gradients_are_clipped(tmp_path: Path) -> None:
    """The accept twin, with unscale_() before it."""
    assert amp(tmp_path, unscale=True).findings == ()


def amp(folder: Path, *, unscale: bool) -> Observer:
    network = model()
    optimizer = RULES["SGD"](network.parameters())
    scaler = torch.amp.GradScaler("cpu")
    with watching(folder) as observer:
        for _ in range(8):
            optimizer.zero_grad()
            scaler.scale(network(torch.randn(8, 16)).pow(2).mean()).backward()
            if unscale:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
    return observer


def test_not_as_in_the_approved_run(tmp_path: Path) -> None:
    """The approved run clipped everything to 0.5: none, another limit and one layer are told apart from it."""
    assert said(run(tmp_path, reference=LEARNED)) == [("clipping-not-applied", "earlier", 3, Severity.WARNING)]
    other = run(tmp_path / "a", lambda n, _: torch.nn.utils.clip_grad_norm_(n.parameters(), 5.0), reference=LEARNED)
    assert "with 5 on 100% of the tensors; in run 7 (entry 3) it was" in other.findings[0].message
    part = run(tmp_path / "b", lambda n, _: torch.nn.utils.clip_grad_norm_(n[0].parameters(), 0.5), reference=LEARNED)
    assert "on 33% of the tensors" in part.findings[0].message


def by_group(network: Any, step: int) -> None:
    for layer in (network[0], network[2], network[3]):
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.5)


TWINS: dict[str, tuple[Part, Reference | None]] = {
    "clipped, nothing declared": (properly, None),
    "clipped as declared": (properly, DECLARED),
    "clipped as learned": (properly, LEARNED),
    "each layer by itself": (by_group, DECLARED),
    "values": (lambda n, _: torch.nn.utils.clip_grad_value_(n.parameters(), 0.01), Reference(values={"clip_value": 0.01})),
    "another norm": (lambda n, _: torch.nn.utils.clip_grad_norm_(n.parameters(), 0.5, norm_type=1.0), None),
    "infinity norm": (lambda n, _: torch.nn.utils.clip_grad_norm_(n.parameters(), 0.5, norm_type=float("inf")), None),
    "not at all": (nothing, None),
    "one layer, as it always was": (lambda n, _: torch.nn.utils.clip_grad_norm_(n[0].parameters(), 0.5), None),
    "now and then": (lambda n, step: properly(n, step) if step % 3 == 0 else None, None),
    "list": (lambda n, _: torch.nn.utils.clip_grad_norm_(list(n.parameters()), 0.5), None),
}


@pytest.mark.parametrize("twin", TWINS)
def test_honest_clipping(tmp_path: Path, twin: str) -> None:
    """The accept twins: what is clipped keeps its limit, by whatever norm, declared or learned or neither."""
    act, reference = TWINS[twin]
    assert run(tmp_path, act, reference=reference).findings == ()


def test_every_micro_batch_is_clipped(tmp_path: Path) -> None:
    """The accept twin: clipping after each of four micro-batches; the last one counts."""
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    with watching(tmp_path) as observer:
        for batch in range(1, 41):
            (10 * network(torch.randn(8, 16)).pow(2).mean()).backward()
            properly(network, batch)
            if batch % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    assert observer.findings == ()


def test_two_networks_are_clipped_in_turns(tmp_path: Path) -> None:
    """The accept twin: one backward for both, then each is clipped and stepped; and each with its own backward."""
    parts = [torch.nn.Linear(16, 4), torch.nn.Linear(16, 4)]
    optimizers = [RULES["Adam"](part.parameters()) for part in parts]
    with watching(tmp_path) as observer:
        for step in range(24):
            x = torch.randn(8, 16)
            if step % 2:
                (parts[0](x).pow(2).mean() + parts[1](x).pow(2).mean()).backward()
            for part, optimizer in zip(parts, optimizers, strict=True):
                if not step % 2:
                    part(x).pow(2).mean().backward()
                torch.nn.utils.clip_grad_norm_(part.parameters(), 0.01)
                optimizer.step()
                optimizer.zero_grad()
    assert observer.findings == ()


def test_bfloat16(tmp_path: Path) -> None:
    """The accept twin in half precision: the coefficient is rounded, and so is each gradient."""
    network = model().to(torch.bfloat16)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    with watching(tmp_path, Reference(values={"clip_norm": 0.5})) as observer:
        for step in range(8):
            optimizer.zero_grad()
            (100 * network(torch.randn(8, 16).bfloat16()).pow(2).mean()).backward()
            properly(network, step)
            optimizer.step()
    assert {finding.rule for finding in observer.findings} <= {"update-unchecked"}


def test_what_is_learned(tmp_path: Path) -> None:
    """A run that clips all its steps alike hands its limit on; one that does not hands on nothing."""
    assert run(tmp_path, properly).effective["learned"]["clipping"] == {"0": {"what": "norm", "limit": 0.5, "share": 1.0}}
    assert "clipping" not in run(tmp_path / "none").effective.get("learned", {})
