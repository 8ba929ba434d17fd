"""Rule initialised-again: initial values over what was learned, or over one another."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from tests.monitoring.loop import RULES, model, train, watching

from truerun.core.finding import Severity

init = torch.nn.init


def scaled(module: torch.nn.Module) -> None:
    """As a library once did: for each module that apply() visits, every parameter below it."""
    for name, tensor in module.named_parameters():
        if name.endswith("weight") and tensor.dim() == 2:
            init.normal_(tensor.data, std=0.02)


def own(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear):
        init.normal_(module.weight, std=0.02)
        init.zeros_(module.bias)


def nested(depth: int) -> torch.nn.Module:
    network: torch.nn.Module = torch.nn.Linear(16, 5)
    for _ in range(depth):
        network = torch.nn.Sequential(network)
    return network


def test_a_layer_is_reset_while_it_trains(tmp_path: Path) -> None:
    """Step 6 finds the last layer with new initial values: its name, and that the optimizer goes on with it."""
    network = model()
    with watching(tmp_path) as observer:
        train(
            network, RULES["AdamW"](network.parameters()), 10, lambda step: network[3].reset_parameters() if step == 5 else None
        )
    finding = next(f for f in observer.findings if f.rule == "initialised-again")
    assert (finding.location.step, finding.severity, finding.evidence["tensors"]) == (6, Severity.ERROR, ["3.weight", "3.bias"])


def test_reset_through_data(tmp_path: Path) -> None:
    """The same through .data, which torch does not count as a write to the parameter."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, RULES["SGD"](network.parameters()), 4, lambda _: init.xavier_uniform_(network[0].weight.data))
    finding = next(f for f in observer.findings if f.rule == "initialised-again")
    assert (finding.location.step, finding.subject.key) == (2, "0.weight")


def test_every_parent_initialises(tmp_path: Path) -> None:
    """apply() with a function that reaches into all descendants: once for each parent."""
    with watching(tmp_path) as observer:
        network = nested(5)
        network.apply(scaled)
        train(network, RULES["SGD"](network.parameters()), 3)
    (finding,) = observer.findings
    assert (finding.rule, finding.severity) == ("initialised-again", Severity.WARNING)
    assert finding.evidence["counts"] == {"0.0.0.0.0.weight": 7}


def test_each_module_its_own(tmp_path: Path) -> None:
    """The accept twin: the module's initial values, and the project's on top of them."""
    with watching(tmp_path) as observer:
        network = nested(5)
        network.apply(own)
        train(network, RULES["SGD"](network.parameters()), 3)
    assert observer.findings == ()


def test_folds(tmp_path: Path) -> None:
    """The accept twin: five folds reset the model, or build another, and begin with a new optimizer."""
    network = model()
    with watching(tmp_path) as observer:
        for _ in range(5):
            network.apply(lambda module: module.reset_parameters() if hasattr(module, "reset_parameters") else None)
            train(network, RULES["AdamW"](network.parameters()), 3)
            other = model()
            train(other, RULES["AdamW"](other.parameters()), 3)
    assert observer.findings == ()


def test_many_models_before_one_is_trained(tmp_path: Path) -> None:
    """The accept twin: a search builds models and drops them, so that memory is used again; and one is copied."""
    with watching(tmp_path) as observer:
        for _ in range(12):
            network = copy.deepcopy(model())
        train(network, RULES["SGD"](network.parameters()), 3)
        for _ in range(3):
            model()
        train(network, RULES["SGD"](network.parameters()), 3)
    assert observer.findings == ()


def test_declared_edits_between_steps(tmp_path: Path) -> None:
    """The accept twin: a method that resets layers says so."""
    network = model()
    with watching(tmp_path, between_steps="allowed") as observer:
        train(
            network, RULES["AdamW"](network.parameters()), 10, lambda step: network[3].reset_parameters() if step == 5 else None
        )
    assert observer.findings == ()
