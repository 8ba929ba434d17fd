"""Rule gradient-mismatch: a gradient altered on its way from the loss to the optimizer; and methods that only look like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring import honest_gradients
from tests.monitoring.loop import RULES, watching
from torch import nn
from torch.nn import functional

from truerun.core.finding import Finding, Severity
from truerun.monitoring.reference import Reference

STEPS = 3


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))


class Convolutions(nn.Module):
    """ReLU, max pooling, batch normalisation that keeps count, dropout that draws."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(6 * 4, 5)

    def forward(self, x: Any) -> Any:
        x = functional.max_pool2d(functional.relu(self.norm(self.first(x.view(-1, 1, 3, 4)))), (2, 1), padding=(1, 0))
        return self.last(self.drop(x.flatten(1)[:, :24]))


class Transformer(nn.Module):
    """Embeddings, attention, layer normalisation, dropout, and an output matrix that is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Any) -> Any:
        return self.head(self.block(self.words(x.abs().mul(7).long().clamp_max(19)))).mean(1)[:, :5]


class Recurrent(nn.Module):
    """An LSTM, which torch cannot differentiate forward on every device."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(3, 16, 2, batch_first=True, dropout=0.2), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.cells(x.view(-1, 4, 3))[0][:, -1])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dense": dense,
    "convolutions": Convolutions,
    "transformer": Transformer,
    "recurrent": Recurrent,
}

MOST = ["dense", "transformer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("convolutions", "recurrent"))]


def batches(steps: int = STEPS) -> Any:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 12, generator=generator)
        yield x, x[:, :5].argmax(1)


Between = Callable[[list[nn.Parameter]], object]


def train(network: nn.Module, before: Between | None = None, *, optimizer: Any = None) -> list[float]:
    """Train; *before*(parameters) runs between the backward pass and the step."""
    optimizer = optimizer or RULES["AdamW"](network.parameters())
    parameters, losses = list(network.parameters()), []
    for x, y in batches():
        loss = functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        if before is not None:
            before(parameters)
        optimizer.step()
        losses.append(loss.item())
    return losses


def found(folder: Path, work: Callable[[], object], reference: Reference | None = None) -> list[Finding]:
    """Do *work*, watched at each step: what this rule says of it."""
    torch.manual_seed(0)
    with watching(folder, reference) as observer:
        work()
    assert observer.effective.get("learned", {}).get("gradient", {}).get("looks"), observer.findings
    return [finding for finding in observer.findings if finding.rule == "gradient-mismatch"]


class Halving(torch.autograd.Function):
    """Passes its input on and half of its gradient back."""

    @staticmethod
    def forward(_: Any, x: Any) -> Any:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        return gradients[0] * 0.5


def halve_in_place(tensor: Any) -> None:
    tensor.grad.mul_(0.5)


def noisy(gradient: Any) -> Any:
    generator = torch.Generator().manual_seed(int(gradient.numel()))
    size = 0.1 * gradient.norm() / gradient.numel() ** 0.5
    return gradient + size * torch.randn(gradient.shape, generator=generator)


ALTERED: dict[str, Callable[[Any], Any]] = {
    "sign flipped": lambda gradient: -gradient,
    "halved": lambda gradient: gradient * 0.5,
    "a tenth less": lambda gradient: gradient * 0.9,
    "a hundredth more": lambda gradient: gradient * 1.01,
    "noise": noisy,
}


@pytest.mark.parametrize("network", MOST)
@pytest.mark.parametrize("how", ALTERED)
def test_hooks_on_all_parameters(tmp_path: Path, network: str, how: str) -> None:
    """A hook alters every gradient as it arrives: the first look says by how much, and where the hook was written."""

    def work() -> None:
        made = NETWORKS[network]()
        for parameter in made.parameters():
            parameter.register_hook(ALTERED[how])
        train(made)

    (finding,) = found(tmp_path, work)
    assert finding.location.step == 2
    assert finding.severity is Severity.WARNING
    assert f"{Path(__file__).name}:" in finding.message
    expected = {"sign flipped": -1, "halved": 0.5, "a tenth less": 0.9, "a hundredth more": 1.01}.get(how)
    if expected is not None:
        assert finding.evidence["ratio"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("network", MOST)
@pytest.mark.parametrize("factor", [-1.0, 0.0], ids=["flipped", "zeroed"])
def test_hook_on_one_tensor(tmp_path: Path, network: str, factor: float) -> None:
    """One tensor among many, flipped or set to zero: it is named."""
    name = {"dense": "2.weight", "convolutions": "norm.weight", "transformer": "block.linear1.weight"}.get(network, "head.weight")

    def work() -> None:
        made = NETWORKS[network]()
        dict(made.named_parameters())[name].register_hook(lambda gradient: gradient * factor)
        train(made)

    (finding, *_) = found(tmp_path, work)
    assert finding.subject.key == name
    assert finding.evidence["ratio"] == pytest.approx(factor, rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_clean(tmp_path: Path, network: str) -> None:
    """The accept twin: the networks as they are, and with torch's own clipping."""
    clip = [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_]

    def work() -> None:
        train(NETWORKS[network]())
        train(NETWORKS[network](), lambda parameters: clip[0](parameters, 0.1))
        train(NETWORKS[network](), lambda parameters: clip[1](parameters, 1e-3))

    assert found(tmp_path, work) == []


@pytest.mark.parametrize("network", NETWORKS)
def test_looking_changes_nothing(tmp_path: Path, network: str) -> None:
    """Losses, weights, buffers, attributes and all random numbers are bit for bit those of a run without."""

    def state(watched: bool) -> Any:
        torch.manual_seed(3)
        made = NETWORKS[network]()
        if watched:
            with watching(tmp_path):
                losses = train(made)
        else:
            losses = train(made)
        numbers = [value.clone() for value in made.state_dict().values()]
        attributes = [sorted(vars(part)) for part in made.modules()]
        return losses, numbers, attributes, torch.rand(3)

    alone, seen = state(False), state(True)
    assert seen[0] == alone[0]
    assert seen[2] == alone[2]
    assert all(torch.equal(a, b) for a, b in zip([*seen[1], seen[3]], [*alone[1], alone[3]], strict=True))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("where", ["function", "value", "module", "all modules", "accumulated"])
def test_other_ways_to_alter_a_backward_pass(tmp_path: Path, where: str) -> None:
    """An autograd function in the forward pass, hooks on a value inside it, on a module, on all modules, after accumulation."""
    handles: list[Any] = []

    class Altered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(12, 16), nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            x = self.one(x).tanh()
            if where == "function":
                x = Halving.apply(x)
            elif where == "value" and x.requires_grad:
                x.register_hook(lambda gradient: gradient * 0.5)
            return self.two(x)

    def work() -> None:
        made = Altered()
        if where == "module":
            made.two.register_full_backward_hook(lambda _, gradients, __: (gradients[0] * 0.5,))
        elif where == "all modules":
            halve = nn.modules.module.register_module_full_backward_pre_hook
            handles.append(halve(lambda module, gradients: (gradients[0] * (0.5 if module is made.one else 1),)))
        elif where == "accumulated":
            made.one.weight.register_post_accumulate_grad_hook(halve_in_place)
        train(made)

    try:
        (finding, *_) = found(tmp_path, work)
    finally:
        for handle in handles:
            handle.remove()
    assert "one." in str(finding.evidence["tensors"])
    assert finding.location.step == 2


def test_torch_itself_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that runs the backward pass is replaced, with no hook in sight: an error, because nothing explains it."""
    original = torch.autograd.graph._engine_run_backward

    def work() -> None:
        made = dense()

        def altered(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            for parameter in made.parameters():
                parameter.grad.neg_()
            return result

        monkeypatch.setattr(torch.autograd, "_engine_run_backward", altered)
        train(made)

    (finding,) = found(tmp_path, work)
    assert finding.severity is Severity.ERROR
    assert "No hook" in finding.message


EDITS: dict[str, Between] = {
    "halved": lambda parameters: [p.grad.mul_(0.5) for p in parameters if p.grad is not None],
    "one flipped": lambda parameters: parameters[2].grad.neg_(),
    "one set to zero": lambda parameters: parameters[2].grad.zero_(),
    "one replaced": lambda parameters: setattr(parameters[2], "grad", torch.ones_like(parameters[2])),
}


@pytest.mark.parametrize("how", EDITS)
def test_edited_between_backward_and_step(tmp_path: Path, how: str) -> None:
    """Lines between backward() and step() change gradients: what was done to which tensor is said, as a warning."""
    (finding,) = found(tmp_path, lambda: train(dense(), EDITS[how]))
    assert (finding.evidence["term"], finding.location.step, finding.severity) == ("edited", 2, Severity.WARNING)
    assert finding.subject.key == (None if how == "halved" else "2.weight")


def test_what_an_edit_is_depends_on_what_was_approved(tmp_path: Path) -> None:
    """The same edit: an error where the approved run of this program had none, nothing where it had one or it is declared."""

    def severities(**reference: Any) -> list[Severity]:
        known = Reference(learned_from="run r1 (entry 9)", **reference)
        return [finding.severity for finding in found(tmp_path, lambda: train(dense(), EDITS["halved"]), known)]

    never, always = ({"gradient": {"looks": 9, "altered": altered}} for altered in ([], ["edited"]))
    assert severities(learned=never, same_program=True) == [Severity.ERROR]
    assert severities(learned=never) == [Severity.WARNING]
    assert severities(learned=always, same_program=True) == []
    assert severities(values={"gradient": "altered"}) == []
    assert severities(values={"gradient": "exact"}) == [Severity.ERROR]


def test_clipping_that_does_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """clip_grad_norm_ was replaced by one that turns gradients round: torch's own is allowed, this is not."""
    clip = nn.utils.clip_grad_norm_

    def turning(parameters: Any, *rest: Any) -> Any:
        for parameter in parameters:
            parameter.grad.neg_()
        return clip(parameters, *rest)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", turning)
    (finding,) = found(tmp_path, lambda: train(dense(), lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1)))
    assert (finding.severity, finding.evidence["what"]) == (Severity.ERROR, "clip_grad_norm_")


@pytest.mark.parametrize("begins", [30, 77, 121])
def test_seen_within_a_hundred_steps(tmp_path: Path, begins: int) -> None:
    """An alteration that begins in the middle of a run is seen within a hundred steps, at a step that chance has chosen."""
    network = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with watching(tmp_path, every=None, overhead=1.0) as observer:
        for step in range(1, begins + 102):
            if step == begins:
                network.weight.register_hook(lambda gradient: gradient * 0.9)
            optimizer.zero_grad()
            network(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    (finding, *_) = [finding for finding in observer.findings if finding.rule == "gradient-mismatch"]
    assert finding.location.step is not None
    assert begins <= finding.location.step <= begins + 100
    assert observer.effective["learned"]["gradient"]["looks"] < 12, "most steps are not looked at"


@pytest.mark.parametrize("program", honest_gradients.PROGRAMS)
def test_honest_programs(tmp_path: Path, program: str) -> None:
    """The accept twins: programs whose gradients come about in other ways than the plainest, and are right."""
    torch.manual_seed(0)
    with watching(tmp_path) as observer:
        honest_gradients.PROGRAMS[program]()
    told = observer.effective.get("learned", {}).get("gradient", {}).get("looks", 0)
    rest = [finding for finding in observer.findings if finding.rule not in ("update-unchecked", "changed-between-steps")]
    assert [finding.message for finding in rest if finding.severity is not Severity.NOTE] == []
    assert bool(told) is (program not in honest_gradients.UNTOLD), [finding.message for finding in rest]
