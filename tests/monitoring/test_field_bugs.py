"""Bugs that were reported in the field, reproduced from their descriptions: each is told within its first epoch, its fixed twin is silent.

The ids are those of the reports that TrainCheck (OSDI 2025) collects; the others are the mistakes of every forum. An epoch has 20
batches. What needs several ranks or a data loader is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.monitoring.loop import watching
from tests.monitoring.tampering import skip, tampered
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the name that everybody gives it)

from truerun.apps.observing import Observer
from truerun.monitoring.reference import Reference

EPOCH = 20
Story = Callable[[bool], None]


@dataclass(frozen=True, kw_only=True)
class Bug:
    """`happens(fixed)` trains for one epoch; `rule` has to speak by step `within`, unless fixed."""

    happens: Story
    rule: str
    within: int = EPOCH
    reference: Reference | None = None


class Classifier(nn.Module):
    """Stages and a head, as image models have them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stages = nn.ModuleList([self.stage(16), self.stage(32)])
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(32, 5)

    @staticmethod
    def stage(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 32), nn.BatchNorm1d(32), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.drop(x))


def batch(step: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(size, 16, generator=torch.Generator().manual_seed(step))
    return x, x[:, :5].argmax(1)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    x, y = batch(step)
    return F.cross_entropy(model(x), y)


def epoch(model: nn.Module, optimizer: Any, each: Callable[[int], object] = id) -> None:
    """The loop as it should be."""
    for step in range(EPOCH):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        each(step)


def adamw(parameters: Any, lr: float = 1e-3) -> Any:
    return torch.optim.AdamW(parameters, lr=lr)


def only_batch_norm_learns(fixed: bool) -> None:
    """Everything but batch norm is frozen, and the optimizer is given the frozen head: nothing learns."""
    model = Classifier()
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
    held = [p for p in model.parameters() if p.requires_grad] if fixed else list(model.fc.parameters())
    epoch(model, adamw(held))


def cycle_not_followed(fixed: bool) -> None:
    """zero_grad() stands between backward() and step(), so that each step finds nothing."""
    model = Classifier()
    optimizer = adamw(model.parameters())
    for step in range(EPOCH):
        loss_of(model, step).backward()
        if fixed:
            optimizer.step()
        optimizer.zero_grad()
        if not fixed:
            optimizer.step()


def zero_grad_forgotten(fixed: bool) -> None:
    """The other way to break the cycle."""
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(EPOCH):
        if fixed:
            optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def optimizer_stops_after_none(fixed: bool) -> None:
    """After one step whose gradients are None the compiled optimizer neither counts nor updates any more (simulated)."""
    model = Classifier()
    optimizer = adamw(model.parameters())

    def attack(original: Any, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs) if fixed else skip(original, *args, **kwargs)

    with tampered(attack, start=8):
        epoch(model, optimizer)


def stages_not_frozen(fixed: bool) -> None:
    """`_freeze_stages` is only applied in train(), which is called before the stages are there."""
    model = Classifier()
    if fixed:
        model.stages[0].requires_grad_(False)
    epoch(model, adamw(model.parameters()))


def initialised_by_every_parent(fixed: bool) -> None:
    """`_init_weights` reaches into all descendants and is applied to each module."""
    model = nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(Classifier()))))

    def init_weights(module: nn.Module) -> None:
        for name, parameter in module.named_parameters(recurse=not fixed):
            if name.endswith("weight") and parameter.dim() == 2:
                nn.init.normal_(parameter.data, std=0.1)

    model.apply(init_weights)
    epoch(model, adamw(model.parameters()))


class Attention(nn.Module):
    """An attention kernel that is given its dropout whatever the mode."""

    def __init__(self, *, fixed: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fixed = nn.Linear(16, 48), nn.Linear(16, 5), fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (4, 4)).unsqueeze(1) for part in self.qkv(x).chunk(3, -1))
        p = 0.1 if self.training or not self.fixed else 0.0
        return self.out(F.scaled_dot_product_attention(q, k, v, dropout_p=p).flatten(1))


def attention_drops_in_evaluation(fixed: bool) -> None:
    """FlashAttention keeps its dropout in evaluation mode."""
    model = Attention(fixed=fixed)
    epoch(model, adamw(model.parameters()), lambda step: validate(model) if step == EPOCH - 1 else None)


def validate(model: nn.Module, *, evaluation: bool = True, back: bool = True) -> None:
    model.train(mode=not evaluation)
    with torch.no_grad():
        for step in range(4):
            model(batch(1000 + step)[0])
    model.train(mode=back)


def eval_forgotten(fixed: bool) -> None:
    """Validation with dropout and batch statistics."""
    model = Classifier()
    epoch(model, adamw(model.parameters()), lambda step: validate(model, evaluation=fixed) if step % 5 == 4 else None)


def train_forgotten(fixed: bool) -> None:
    """After the first validation the model stays in evaluation mode."""
    model = Classifier()
    epoch(model, adamw(model.parameters()), lambda step: validate(model, back=fixed) if step == 9 else None)


def batch_norm_frozen(fixed: bool) -> None:
    """A part is put into evaluation mode to be frozen, but was never trained: it normalises by mean 0 and variance 1."""
    model = Classifier()
    if not fixed:
        model.stages[0].eval()
    epoch(model, adamw(model.parameters()))


def stepped_twice(fixed: bool) -> None:
    """A wrapper steps, and the loop steps."""
    model = Classifier()
    optimizer = adamw(model.parameters())
    for step in range(EPOCH):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        if not fixed:
            optimizer.step()


def clipped_too_late(fixed: bool) -> None:
    """Clipping stands behind the step."""
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(EPOCH):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        if fixed:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        if not fixed:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def clipped_while_scaled(fixed: bool) -> None:
    """Clipping before the scaler has divided its factor out: the limit is 65536 times smaller."""
    model = Classifier()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu")
    for step in range(EPOCH):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        if fixed:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()


def scaler_skips_everything(fixed: bool) -> None:
    """The loss is divided by a count of valid tokens that is zero: every step overflows and is left out."""
    model = Classifier()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.01), torch.amp.GradScaler("cpu")
    for step in range(EPOCH):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step) / (1 if fixed else torch.zeros(()))).backward()
        scaler.step(optimizer)
        scaler.update()


def features_detached(fixed: bool) -> None:
    """A detach() left over from a visualisation cuts the stages off."""
    model = Classifier()
    if not fixed:
        model.drop.register_forward_pre_hook(lambda _, inputs: inputs[0].detach())
    epoch(model, adamw(model.parameters()))


def head_replaced_after_the_optimizer(fixed: bool) -> None:
    """The head is exchanged for the new task after the optimizer was given the old one."""
    model = Classifier()
    if fixed:
        model.fc = nn.Linear(32, 5)
    optimizer = adamw(model.parameters())
    if not fixed:
        model.fc = nn.Linear(32, 5)
    epoch(model, optimizer)


def layer_reset_in_the_loop(fixed: bool) -> None:
    """A callback that is meant for new runs resets the head of a running one."""
    model = Classifier()
    epoch(model, adamw(model.parameters()), lambda step: model.fc.reset_parameters() if step == 9 and not fixed else None)


def evaluated_before_trained(fixed: bool) -> None:
    """A model under spectral_norm is evaluated before its first pass in training mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(16, 5)))
    if not fixed:
        validate(model)
    epoch(model, adamw(model.parameters()), lambda step: validate(model) if step == EPOCH - 1 else None)


FROZEN = Reference(values={"frozen": ["stages.0.*"]}, origins={"frozen": "truerun.toml [training] frozen"})
BUGS = {
    "pytorch-forum-84911": Bug(happens=only_batch_norm_learns, rule="step-skipped", within=1),
    "pytorch-forum-84911 (held by none)": Bug(happens=only_batch_norm_learns, rule="not-training", within=8),
    "stackoverflow-60335387": Bug(happens=cycle_not_followed, rule="step-skipped", within=1),
    "zero_grad forgotten": Bug(happens=zero_grad_forgotten, rule="gradients-not-cleared", within=3),
    "pytorch-51800": Bug(happens=evaluated_before_trained, rule="evaluated-untrained", within=0),
    "pytorch-115607": Bug(happens=optimizer_stops_after_none, rule="update-mismatch", within=8),
    "mmpretrain-702": Bug(happens=stages_not_frozen, rule="frozen-trains", within=1, reference=FROZEN),
    "transformers-17877": Bug(happens=initialised_by_every_parent, rule="initialised-again", within=1),
    "transformers-33844": Bug(happens=attention_drops_in_evaluation, rule="evaluation-mode"),
    "eval() forgotten": Bug(happens=eval_forgotten, rule="evaluation-mode", within=5),
    "train() forgotten": Bug(happens=train_forgotten, rule="training-mode", within=11),
    "batch norm frozen": Bug(happens=batch_norm_frozen, rule="training-mode", within=1),
    "step() twice": Bug(happens=stepped_twice, rule="stepped-twice", within=4),
    "clipped after the step": Bug(happens=clipped_too_late, rule="clipping-not-applied", within=4),
    "clipped while scaled": Bug(happens=clipped_while_scaled, rule="clipping-not-applied", within=3),
    "scaler skips everything": Bug(happens=scaler_skips_everything, rule="scaler-skips", within=0),
    "features detached": Bug(happens=features_detached, rule="not-training", within=8),
    "head replaced": Bug(happens=head_replaced_after_the_optimizer, rule="not-training", within=8),
    "reset in the loop": Bug(happens=layer_reset_in_the_loop, rule="initialised-again", within=11),
}


def watch(folder: Path, bug: Bug, *, fixed: bool) -> Observer:
    with watching(folder, bug.reference) as observer:
        bug.happens(fixed)
    return observer


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_told(tmp_path: Path, name: str) -> None:
    """Within one epoch, by its rule, at the step or after it."""
    bug = BUGS[name]
    found = [f for f in watch(tmp_path, bug, fixed=False).findings if f.rule == bug.rule]
    assert found, "nothing was said"
    assert found[0].location.step is not None
    assert found[0].location.step <= bug.within


@pytest.mark.parametrize("name", BUGS)
def test_its_twin_is_silent(tmp_path: Path, name: str) -> None:
    """The fixed program raises nothing at all."""
    assert watch(tmp_path, BUGS[name], fixed=True).findings == ()
