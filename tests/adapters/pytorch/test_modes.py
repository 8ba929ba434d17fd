"""The senses of modes, clipping, clearing and initial values: what they do to a run, which is nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import watching
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the name that everybody gives it)
from torch.utils.checkpoint import checkpoint

from truerun.adapters.pytorch.senses.evaluating import Evaluating


class Net(nn.Module):
    """Everything that has two modes, in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.2)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.recurrent = nn.GRU(32, 16, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.norm(self.embed(x)))
        x = checkpoint(self.layer, x, use_reentrant=False)
        return self.head(F.dropout(self.recurrent(x)[0][:, -1], 0.1, training=self.training))


def program() -> list[Any]:
    """Train with clipping, autocast, a scaler, accumulation and validations; everything that came of it."""
    torch.manual_seed(3)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    came: list[Any] = []
    for step in range(24):
        x = torch.randn(8, 4, 16)
        with torch.autocast("cpu", torch.bfloat16, enabled=step % 2 == 0):
            loss = F.cross_entropy(net(x).float(), x[:, 0, :5].argmax(1))
        scaler.scale(loss).backward()
        if step % 2:
            scaler.unscale_(optimizer)
            came.append(nn.utils.clip_grad_norm_(net.parameters(), 0.5))
            nn.utils.clip_grad_value_((p for p in net.parameters()), 0.1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=step % 4 == 1)
        if step % 6 == 5:
            net.eval()
            with torch.no_grad():
                came.append(net(x))
            net.train()
            came.append(validate(net, x))
        came.append(loss.detach())
    nn.init.normal_(torch.empty(3))
    return [*came, *(p.detach().clone() for p in net.state_dict().values()), torch.get_rng_state()]


@torch.inference_mode()
def validate(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net(x).sum()


def test_nothing_changes(tmp_path: Path) -> None:
    """Losses, norms, validations in either mode, weights and the generator are bit for bit the same; torch is left as it was."""
    looked_at = [torch.nn.utils.clip_grad, torch.nn.utils, torch.nn.init, F, importlib.import_module("torch.jit.frontend")]
    owners = [*looked_at, torch.no_grad, torch.inference_mode, torch.set_grad_enabled, torch.amp.GradScaler]
    before = [{name: value for name, value in vars(owner).items() if callable(value)} for owner in owners]
    alone = program()
    with watching(tmp_path):
        watched = program()
    for owner, was in zip(owners, before, strict=True):
        assert {name for name, value in was.items() if vars(owner)[name] is not value} == set(), owner
    assert len(alone) == len(watched)
    assert all(torch.equal(one, other) for one, other in zip(alone, watched, strict=True))


def test_functions_are_only_replaced_in_regions_without_gradients(tmp_path: Path) -> None:
    """In training, and in regions that torch itself opens, the functions are torch's own."""
    originals = (F.dropout, F.batch_norm, F.scaled_dot_product_attention)
    seen: list[bool] = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((F.dropout, F.batch_norm, F.scaled_dot_product_attention) == originals)
            return x * self.weight

    net = Looking()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watching(tmp_path):
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(4)).sum().backward()
            optimizer.step()
            with torch.no_grad():
                net(torch.ones(4))
            with pytest.raises(KeyError), torch.no_grad():
                raise KeyError
    assert seen == [True, False, True, False]
    assert (F.dropout, F.batch_norm, F.scaled_dot_product_attention) == originals


def test_a_fault_inside_a_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the look ends the look: the function does its work, and torch is left as it was."""
    original = F.dropout

    def broken(*_: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Evaluating, "_note", broken)
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watching(tmp_path) as observer:
        for _ in range(2):
            net(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                assert net(torch.ones(2, 4)).shape == (2, 4)
    assert F.dropout is original
    assert [(f.rule, f.subject.key) for f in observer.findings] == [("probe-silent", "evaluating")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["model", "clipping"])
def test_compiled_code_stays_as_it_is(tmp_path: Path, what: str) -> None:
    """torch.compile makes as many graphs and breaks with the probe as without, and the same numbers; also of a step that clips."""
    from torch._dynamo.utils import counters

    def compiled() -> tuple[list[Any], dict[str, int]]:
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.1), nn.BatchNorm1d(32), nn.Linear(32, 4))
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        run: Callable[..., Any] = torch.compile(net, backend="eager") if what == "model" else net

        def clip() -> Any:
            return nn.utils.clip_grad_norm_(net.parameters(), 0.1)

        if what == "clipping":
            clip = torch.compile(clip, backend="eager")
        losses = []
        for step in range(8):
            optimizer.zero_grad()
            loss = run(torch.randn(8, 16)).pow(2).mean()
            loss.backward()
            clip()
            optimizer.step()
            losses.append(loss.detach())
            if step % 3 == 2:
                net.eval()
                with torch.no_grad():
                    losses.append(run(torch.randn(8, 16)))
                net.train()
        graphs = {"frames": counters["frames"]["total"], "breaks": sum(counters["graph_break"].values())}
        return [*losses, *net.state_dict().values()], graphs

    alone, graphs = compiled()
    with watching(tmp_path) as observer:
        watched, same_graphs = compiled()
    assert all(torch.equal(one, other) for one, other in zip(alone, watched, strict=True))
    assert graphs == same_graphs
    assert observer.findings == ()
