"""Rule load-mismatch: a resumed run begins with what it loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import RULES, model, train, watching

EDITS: dict[str, Callable[[Any, Any], object]] = {
    "parameters": lambda network, _: [p.data.add_(1e-3) for p in network.parameters()],
    "state exp_avg": lambda _, optimizer: [state["exp_avg"].zero_() for state in optimizer.state.values()],
    "state step": lambda _, optimizer: [state["step"].zero_() for state in optimizer.state.values()],
}


def checkpoint() -> tuple[Any, Any]:
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    train(network, optimizer, 5)
    return copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict())


def resume(folder: Path, edit: Callable[[Any, Any], object], *, with_optimizer: bool = True, **monitoring: Any) -> Any:
    weights, state = checkpoint()
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    with watching(folder, **monitoring) as observer:
        network.load_state_dict(weights)
        if with_optimizer:
            optimizer.load_state_dict(state)
        edit(network, optimizer)
        train(network, optimizer, 3)
    return observer


@pytest.mark.parametrize("what", EDITS)
def test_edit_after_loading_is_seen_at_the_first_step(tmp_path: Path, what: str) -> None:
    """Weights, a moment or the step counter changed after the checkpoint was loaded and before training goes on."""
    (finding,) = resume(tmp_path, EDITS[what]).findings
    assert (finding.rule, finding.location.step) == ("load-mismatch", 1)
    assert what in finding.message


def test_resume_raises_nothing(tmp_path: Path) -> None:
    """The accept twin."""
    assert resume(tmp_path, lambda *_: None).findings == ()


def test_pretrained_weights_may_be_changed(tmp_path: Path) -> None:
    """The accept twin: fine-tuning loads weights alone and gives the network a new head."""
    observer = resume(tmp_path, lambda network, _: torch.nn.init.zeros_(network[3].weight), with_optimizer=False)
    assert observer.findings == ()


def test_method_that_writes_to_parameters_declares_it(tmp_path: Path) -> None:
    """The accept twin: between_steps = "allowed" covers what is done after loading."""
    assert resume(tmp_path, EDITS["parameters"], between_steps="allowed").findings == ()


def test_rollback_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """The accept twin: weights are exchanged for an evaluation and put back, and a bad epoch is undone from a checkpoint."""
    network = model()
    optimizer = RULES["AdamW"](network.parameters())
    kept: dict[str, Any] = {}

    def each(step: int) -> None:
        if step == 4:
            kept.update(weights=copy.deepcopy(network.state_dict()), state=copy.deepcopy(optimizer.state_dict()))
        if step == 6:
            current = copy.deepcopy(network.state_dict())
            network.load_state_dict(kept["weights"])
            network.load_state_dict(current)
        if step == 8:
            network.load_state_dict(kept["weights"])
            optimizer.load_state_dict(kept["state"])

    with watching(tmp_path) as observer:
        train(network, optimizer, 10, each)
    assert observer.findings == ()
