"""The curves of real trainings: what is carried from run to run, what is told, and what honest programs may do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import watching

from truerun.core.finding import Finding, Severity
from truerun.monitoring.reference import Reference

STEPS = 320
ONSET = 160


def reference_of(learned: dict[str, Any], *, same_lock: bool = True, same_program: bool = True) -> Reference:
    """What an earlier run learned, as the ledger gives it back."""
    return Reference(
        learned=json.loads(json.dumps(learned)), learned_from="run a (entry 7)", same_program=same_program, same_lock=same_lock
    )


def run(
    folder: Path,
    seed: int,
    reference: Reference | None = None,
    *,
    each: Callable[[int, Any, Any], object] = lambda *_: None,
    wrong: Callable[[int], float] = lambda _: 0.0,
    steps: int = STEPS,
) -> tuple[list[Finding], dict[str, Any]]:
    """Train a small network on made-up data; `wrong(step)` is the share of labels that are. Returns findings and what was learned."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    with watching(folder / str(seed), reference, every=1000) as observer:
        for step in range(1, steps + 1):
            x = torch.randn(128, 16)
            y = (x[:, :4] + 0.5 * torch.randn(128, 4)).argmax(1)
            y = torch.where(torch.rand(128) < wrong(step), torch.randint(0, 4, (128,)), y)
            loss = torch.nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            each(step, optimizer, observer)
    return list(observer.findings), dict(observer.effective.get("learned", {}))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What four healthy runs left, each handed to the next as the ledger does; none of them is told of."""
    torch.set_num_threads(1)
    learned: dict[str, Any] = {}
    for seed in range(4):
        findings, learned = run(tmp_path_factory.mktemp("runs"), seed, reference_of(learned))
        assert findings == []
    return learned


def test_labels_go_wrong_half_way(tmp_path: Path, healthy: dict[str, Any]) -> None:
    """From step 161 on one label in ten is drawn at random: no step stands out, the curve does, and the onset is named."""
    findings, learned = run(tmp_path, 100, reference_of(healthy), wrong=lambda step: 0.1 * (step > ONSET))
    (finding, *_) = [item for item in findings if item.subject.key is None]
    assert (finding.rule, finding.severity, finding.subject.name) == ("curve-drift", Severity.WARNING, "loss")
    assert finding.location.step is not None
    assert abs(finding.location.step - ONSET) <= 40
    assert "4 healthy runs up to run a (entry 7)" in finding.message
    assert len(learned["curves"]["curves"]["loss"]) == 4, "a run that drifted is no example to later ones"


def test_other_seed_is_no_drift(tmp_path: Path, healthy: dict[str, Any]) -> None:
    """The accept twin: another seed, no finding; its curve joins the healthy ones, and no more than six are kept."""
    learned = healthy
    for seed in (101, 102):
        findings, learned = run(tmp_path, seed, reference_of(learned))
        assert findings == []
    assert len(learned["curves"]["curves"]["loss"]) == 6
    _, learned = run(tmp_path, 103, reference_of(learned), steps=100)
    assert len(learned["curves"]["curves"]["loss"]) == 6
    assert len(json.dumps(learned)) < 10_000


def test_approved_change_is_a_note_and_the_new_normal(tmp_path: Path, healthy: dict[str, Any]) -> None:
    """The data was changed and approved, so the lock is another: a note at most, and later runs are compared with this one."""
    reference = reference_of(healthy, same_lock=False)
    findings, learned = run(tmp_path, 104, reference, wrong=lambda step: 0.3 * (step > ONSET))
    assert {(item.rule, item.severity) for item in findings} == {("curve-drift", Severity.NOTE)}
    assert len(learned["curves"]["curves"]["loss"]) == 1


def test_changed_program_is_not_compared(tmp_path: Path, healthy: dict[str, Any]) -> None:
    """Other code: nothing is said, and the curves begin anew."""
    reference = reference_of(healthy, same_lock=False, same_program=False)
    findings, learned = run(tmp_path, 105, reference, wrong=lambda _: 0.3, steps=100)
    assert findings == []
    assert len(learned["curves"]["curves"]["loss"]) == 1


def test_learning_rate_changed_by_code_is_named(tmp_path: Path, healthy: dict[str, Any]) -> None:
    """The code sets a learning rate that does harm: the curve changes, and the finding says what was recorded there."""

    def each(step: int, optimizer: Any, observer: Any) -> None:
        if step == ONSET:
            optimizer.param_groups[0]["lr"] = 0.3

    findings, _ = run(tmp_path, 106, reference_of(healthy), each=each)
    (finding,) = [item for item in findings if item.rule == "curve-drift" and item.subject.key is None]
    assert "It coincides with code.lr at step 161." in finding.message


def test_resumed_run_is_not_compared_step_by_step(tmp_path: Path, healthy: dict[str, Any]) -> None:
    """A run that begins with weights that earlier ones did not begin with is elsewhere on the curve: nothing is said."""
    torch.manual_seed(3)
    network = torch.nn.Linear(16, 4)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    with watching(tmp_path, reference_of(healthy), every=1000) as observer:
        network.load_state_dict(network.state_dict())
        for _ in range(200):
            loss = 0.01 * network(torch.randn(8, 16)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert observer.findings == ()
    assert observer.effective["learned"]["curves"] == {"curves": {"loss": healthy["curves"]["curves"]["loss"]}, "loaded": True}


def test_metrics_are_curves_too(tmp_path: Path) -> None:
    """An accuracy that the program reports drops half way; its reports of time and learning rate are left alone."""
    learned: dict[str, Any] = {}
    found: tuple[Finding, ...] = ()
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        network = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        with watching(tmp_path / str(seed), reference_of(learned), every=1000) as observer:
            line = next(iter(observer.processes), None)
            for step in range(1, 61):
                loss = network(torch.randn(8, 4, generator=generator)).square().mean() + 1
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                line = line or next(iter(observer.processes))
                noise = float(torch.randn(1, generator=generator))
                accuracy = 0.8 + 0.01 * noise - 0.04 * (seed == 4 and step > 30)
                values = {"val/accuracy": accuracy, "step_time": 1.0 + (seed == 4), "lr": 0.1 * (seed + 1)}
                frame = metrics_frame(step, values)
                observer.take(frame(line))
        found, learned = observer.findings, dict(observer.effective["learned"])
        assert seed == 4 or found == ()
    assert {item.subject.name for item in found} == {"val/accuracy"}
    assert set(learned["curves"]["curves"]) == {"loss", "val/accuracy"}


def metrics_frame(step: int, values: dict[str, float]) -> Callable[[Any], Any]:
    from truerun.adapters.probe_socket import Event
    from truerun.adapters.pytorch.frames import Frame

    return lambda line: Event(line, Frame({"kind": "metrics", "step": step, "values": values}, {}))


def test_what_an_earlier_run_left_may_be_damaged(tmp_path: Path) -> None:
    """Curves that are no curves count as not there, and the run goes on."""
    odd = {"curves": {"loss": [{"size": 3, "means": [1.0]}, {"means": "abc", "size": 1}, {}], "x": []}, "loaded": False}
    findings, learned = run(tmp_path, 107, reference_of({"curves": odd}), steps=20)
    assert findings == []
    assert len(learned["curves"]["curves"]["loss"]) == 1
