"""A call repeated with other parameters: the right derivative, and no trace; what cannot be repeated is said."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from truerun.adapters.pytorch import replaying
from truerun.adapters.pytorch.replaying import CannotReplayError


class Noisy(nn.Module):
    """Draws from two generators, keeps a list, a number and a running mean, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, dtype=torch.float64)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.seen: list[float] = []
        self.calls, self.fails = 0, False

    def forward(self, x: Any) -> Any:
        self.calls += 1
        self.seen.append(random.random())
        self.mean.add_(x.mean().detach())
        out = torch.tanh(self.layer(x)) + self.mean + torch.rand(3, dtype=torch.float64) * self.seen[-1]
        if self.fails:
            raise ValueError("as asked")
        return out


def called(module: nn.Module, x: Any) -> Any:
    call = replaying.begin(module, (x,), {})
    replaying.end(call, module(x))
    call.outputs = [output.detach() for output in call.outputs]
    return call


def trace(module: Noisy) -> Any:
    numbers = [value.clone() for value in module.state_dict().values()]
    return numbers, id(module.layer.weight), module.calls, list(module.seen), random.getstate(), torch.get_rng_state()


@pytest.mark.parametrize("how", [replaying.along, replaying.differences])
@pytest.mark.parametrize("fails", [False, True])
def test_derivative_and_no_trace(how: Any, fails: bool) -> None:
    """Both ways give the derivative and the same output; afterwards, and after an error in the middle, all is as it was."""
    module, x = Noisy(), torch.randn(4, 3, dtype=torch.float64)
    call = called(module, x)
    weight, u = module.layer.weight, torch.randn(3, 3, dtype=torch.float64)
    slope = 1 - torch.tanh(module.layer(x)).detach() ** 2
    module.fails = fails
    before = trace(module)
    if fails:
        with pytest.raises(ValueError, match="as asked"):
            how(call, {id(weight): (weight, u)})
    else:
        ((here, moved),) = how(call, {id(weight): (weight, u)})
        assert torch.equal(here.detach(), call.outputs[0])
        assert torch.allclose(moved, slope * (x @ u.T), rtol=1e-7)
    after = trace(module)
    assert all(torch.equal(a, b) for a, b in zip([*before[0], before[5]], [*after[0], after[5]], strict=True))
    assert before[1:5] == after[1:5]


class Printing(nn.Linear):
    def forward(self, x: Any) -> Any:
        self.tell("called")
        return super().forward(x)

    def tell(self, words: str) -> None:
        print(words)


class Drawing(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.draw = random.Random(0)


class Feeding(nn.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(x) + next(self.feed)


CALLS: list[str] = []
COUNTS = {"forward": 0}


class Listing(nn.Linear):
    def forward(self, x: Any) -> Any:
        CALLS.append("forward")
        return super().forward(x)


class CountingCalls(nn.Linear):
    def forward(self, x: Any) -> Any:
        COUNTS["forward"] += 1
        return super().forward(x)


def say(words: str) -> None:
    print(words)


class Helped(nn.Linear):
    def forward(self, x: Any) -> Any:
        say("called")
        return super().forward(x)


def counted() -> nn.Module:
    calls = 0

    class Nonlocal(nn.Linear):
        def forward(self, x: Any) -> Any:
            nonlocal calls
            calls += 1
            return super().forward(x)

    return Nonlocal(2, 2)


class Collecting(nn.Linear):
    """Changes only what is its own, or nobody's: a list of its call, and one of the module."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.kept: list[Any] = []

    def forward(self, x: Any) -> Any:
        parts: list[Any] = []
        for row in x:
            parts.append(super().forward(row))  # noqa: PERF401 (as people write it)
        self.kept.append(len(parts))
        return torch.stack(parts)


def test_a_forward_that_changes_what_is_its_own_is_repeated() -> None:
    """The accept twin: lists made in the call may change, and lists of the module are put back."""
    module = Collecting()
    call = called(module, torch.randn(3, 2))
    replaying.along(call, {id(module.weight): (module.weight, torch.ones(2, 2))})
    assert module.kept == [3]


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Printing(2, 2), "acts on the outside: print"),
        (Listing(2, 2), "acts on the outside: CALLS"),
        (CountingCalls(2, 2), "acts on the outside: COUNTS"),
        (Helped(2, 2), "acts on the outside: print"),
        (counted(), "acts on the outside: calls"),
        (nn.Sequential(nn.ReLU(), Feeding(2, 2)), "acts on the outside: next"),
        (Drawing(), "a random number generator of its own"),
        (nn.DataParallel(nn.Linear(2, 2)), "spread over processes"),
    ],
    ids=["prints", "list of all", "table of all", "helper prints", "nonlocal", "advances an iterator", "own generator", "spread"],
)
def test_what_would_show_is_not_repeated(module: nn.Module, why: str) -> None:
    """A forward that prints, takes from an iterator, draws from its own generator or is spread over devices is left alone, with the reason."""
    with pytest.raises(CannotReplayError, match=why):
        replaying.begin(module, (), {})


def test_a_parameter_that_another_path_leads_to() -> None:
    """A closure holds the weight itself: a repetition would not see it move, and says so."""
    module = nn.Linear(2, 2)
    module.forward = lambda x, weight=module.weight: x @ weight  # type: ignore[method-assign]
    call = called(module, torch.randn(3, 2))
    with pytest.raises(CannotReplayError, match="does not lead"):
        replaying.along(call, {id(module.weight): (module.weight, torch.ones(2, 2))})
