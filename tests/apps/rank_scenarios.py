"""Data-parallel training in small pieces, run by torchrun: `rank_scenarios.py OUTPUT name name …`. What goes wrong does so on rank 1.

Every scenario trains a model of its own whose tensors carry the scenario's name. OUTPUT gets losses, weights and a random
number of each rank, in hexadecimal.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, post_localSGD_hook, powerSGD_hook
from torch.distributed.algorithms.join import Join
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.nn.parallel import DistributedDataParallel

AT, STEPS = 6, 14
OUT: list[str] = []
LIVING = []  # what a program keeps alive by holding it


def rank() -> int:
    return dist.get_rank()


def layers(*, kind=nn.LayerNorm, dropout=0.0):
    return nn.Sequential(nn.Linear(16, 24), kind(24), nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 5))


class Branches(nn.Module):
    """A branch that one rank uses at a step and the other does not, and one that nobody uses."""

    def __init__(self):
        super().__init__()
        self.always, self.sometimes, self.never, self.calls = nn.Linear(16, 5), nn.Linear(16, 5), nn.Linear(3, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.always(x) + (self.sometimes(x) if (self.calls + rank()) % 2 else 0)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def sgd(model, momentum=0.9):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)


def train(
    name,
    *,
    net=layers,
    make=adamw,
    wrap=DistributedDataParallel,
    before=None,
    after=None,
    steps=STEPS,
    accumulate=1,
    seed=0,
    sync=True,
):
    """`before` and `after` run around each step, with (step, model, optimizer)."""
    torch.manual_seed(seed)
    model = nn.Sequential()
    model.add_module(name, net())
    wrapped = wrap(model)
    optimizer = make(model)
    torch.manual_seed(1000 + rank())
    for call in range(steps * accumulate):
        x = torch.randn(8, 16)
        last = (call + 1) % accumulate == 0
        with contextlib.nullcontext() if sync and last else wrapped.no_sync():
            loss = nn.functional.cross_entropy(wrapped(x), x[:, :5].argmax(1))
            loss.backward()
        OUT.append(loss.item().hex())
        if last:
            step = (call + 1) // accumulate
            if before is not None:
                before(step, model, optimizer)
            optimizer.step()
            if after is not None:
                after(step, model, optimizer)
            optimizer.zero_grad()
    for tensor in model.parameters():
        held = getattr(tensor, "_local_tensor", tensor)
        OUT.append(f"{name} {held.detach().double().sum().item().hex()}")


def on_one_rank(change, *, once=False):
    def act(step, model, optimizer):
        if rank() == 1 and (step == AT if once else step >= AT):
            change(model, optimizer)

    return act


def scaled(factor):
    return lambda model, _: [tensor.grad.mul_(factor) for tensor in model.parameters()]


def noised(model, _):
    model[0][4].weight.grad.add_(1e-3)


def clipped(model, _):
    nn.utils.clip_grad_norm_(model.parameters(), 0.05)


def edited(model, _):
    with torch.no_grad():
        model[0][4].weight[1, 2] += 1e-4


def halved_lr(_, optimizer):
    optimizer.param_groups[0]["lr"] *= 0.999


def clip_on_all_but_one(step, model, optimizer):
    if rank() != 1 or step < AT:
        clipped(model, optimizer)


def beside_the_wrapper(model):
    """The wrapper exists and the program calls the module inside it: its hooks never fire."""
    LIVING.append(DistributedDataParallel(model))
    return model


def moved(model):
    """pytorch-104336, simulated: after the model was moved, nothing waits for the wrapper's averaging any more."""
    wrapped = DistributedDataParallel(model)
    wrapped.forward = model.forward
    return wrapped


def average_gradients(step, model, _):
    for tensor in model.parameters():
        dist.all_reduce(tensor.grad)
        tensor.grad /= dist.get_world_size()


def average_until(step, model, optimizer):
    if step <= 12:
        average_gradients(step, model, optimizer)


def average_parameters(step, model, _):
    if step % 5 == 0:
        for tensor in model.parameters():
            dist.all_reduce(tensor.data)
            tensor.data /= dist.get_world_size()


def with_hook(hook, state=None):
    def wrap(model):
        wrapped = DistributedDataParallel(model)
        wrapped.register_comm_hook(state() if state else None, hook)
        return wrapped

    return wrap


def local_sgd_by_hook():
    averager = PeriodicModelAverager(period=4, warmup_steps=6)
    group, _ = dist.new_subgroups(group_size=1)
    state = lambda: post_localSGD_hook.PostLocalSGDState(None, group, start_localSGD_iter=6)  # noqa: E731
    train(
        "local_hook",
        make=sgd,
        wrap=with_hook(post_localSGD_hook.post_localSGD_hook, state),
        after=lambda _, model, __: averager.average_parameters(model.parameters()),
    )


def local_sgd_by_averager():
    averager = PeriodicModelAverager(period=3)
    train("local_no_sync", make=sgd, sync=False, after=lambda _, model, __: averager.average_parameters(model.parameters()))


def uneven_with_join():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("join", layers())
    wrapped, optimizer = DistributedDataParallel(model), sgd(model, 0)
    for _ in range(3):
        with Join([wrapped]):
            for _ in range(5 + rank()):
                x = torch.randn(8, 16)
                nn.functional.cross_entropy(wrapped(x), x[:, :5].argmax(1)).backward()
                optimizer.step()
                optimizer.zero_grad()


def two_networks():
    torch.manual_seed(0)
    pair = [nn.Sequential(), nn.Sequential()]
    for name, model in zip(("generator", "critic"), pair, strict=True):
        model.add_module(name, layers())
    wrapped = [DistributedDataParallel(model) for model in pair]
    optimizers = [adamw(pair[0]), sgd(pair[1])]
    for _ in range(STEPS):
        for model, optimizer in zip(wrapped, optimizers, strict=True):
            x = torch.randn(8, 16)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), x[:, :5].argmax(1)).backward()
            optimizer.step()


def shard(model, mesh=None):
    from torch.distributed.fsdp import fully_shard

    for layer in model[0]:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def shard_copies(model):
    from torch.distributed.device_mesh import init_device_mesh

    return shard(model, init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("copies", "shards")))


def from_loader(name, *, factor=1.0, dropout=0.0, epochs=3, **own):
    """Batches come from a DataLoader over a DistributedSampler; rank 1 multiplies its loss, which nobody sees after the averaging."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module(name, layers(dropout=dropout))
    wrapped, optimizer = DistributedDataParallel(model), adamw(model)
    rows = torch.utils.data.TensorDataset(torch.randn(96, 16), torch.randint(5, (96,)))
    sampler = torch.utils.data.DistributedSampler(rows, **own)
    loader = torch.utils.data.DataLoader(rows, batch_size=4, sampler=sampler)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for x, y in loader:
            loss = nn.functional.cross_entropy(wrapped(x), y)
            (loss * factor if rank() == 1 else loss).backward()
            optimizer.step()
            optimizer.zero_grad()
            OUT.append(loss.item().hex())


def decay(step, _, optimizer):
    """A torch scheduler, the same on all ranks."""
    if step == 1:
        LIVING.append(torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5))
    LIVING[-1].step()


def scale_shard(model, _):
    for tensor in model.parameters():
        tensor.grad._local_tensor.mul_(0.99)


def independent():
    train("independent", seed=rank(), wrap=lambda model: model)


SCENARIOS = {
    # Nothing is wrong.
    "plain": lambda: train("plain", net=lambda: layers(kind=nn.BatchNorm1d, dropout=0.1)),
    "accumulate": lambda: train("accumulate", make=sgd, accumulate=3, before=lambda _, model, o: clipped(model, o)),
    "branches": lambda: train(
        "branches", net=Branches, make=sgd, wrap=lambda model: DistributedDataParallel(model, find_unused_parameters=True)
    ),
    "by_hand": lambda: train("by_hand", wrap=lambda model: model, before=average_gradients),
    "rewrapped": lambda: train("rewrapped", wrap=lambda model: DistributedDataParallel(DistributedDataParallel(model).module)),
    "two_networks": two_networks,
    "join": uneven_with_join,
    "local_hand": lambda: train("local_hand", make=sgd, wrap=lambda model: model, after=average_parameters),
    "local_hook": local_sgd_by_hook,
    "local_no_sync": local_sgd_by_averager,
    "compressed": lambda: train("compressed", wrap=with_hook(default_hooks.fp16_compress_hook)),
    "low_rank": lambda: train(
        "low_rank",
        wrap=with_hook(powerSGD_hook.powerSGD_hook, lambda: powerSGD_hook.PowerSGDState(None, 1, start_powerSGD_iter=4)),
    ),
    "sharded": lambda: train("sharded", wrap=shard),
    "sharded_copies": lambda: train("sharded_copies", wrap=shard_copies),
    "independent": independent,
    "scheduled": lambda: train("scheduled", after=decay),
    "long": lambda: train("long", steps=5000),
    "loaded": lambda: from_loader("loaded"),
    "loaded_dropout": lambda: from_loader("loaded_dropout", dropout=0.1),
    # Something is.
    "own_seed": lambda: from_loader("own_seed", epochs=1, seed=rank()),
    "one_part": lambda: from_loader("one_part", epochs=1, rank=0, num_replicas=dist.get_world_size()),
    "sent_altered": lambda: from_loader("sent_altered", factor=0.99),
    "scaled": lambda: train("scaled", before=on_one_rank(scaled(0.99))),
    "flipped": lambda: train("flipped", make=sgd, before=on_one_rank(scaled(-1.0))),
    "noised": lambda: train("noised", before=on_one_rank(noised)),
    "clipped": lambda: train("clipped", before=on_one_rank(clipped)),
    "unclipped": lambda: train("unclipped", before=clip_on_all_but_one),
    "edited": lambda: train("edited", after=on_one_rank(edited, once=True)),
    "lr": lambda: train("lr", after=on_one_rank(halved_lr, once=True)),
    "beside": lambda: train("beside", wrap=beside_the_wrapper),
    "moved": lambda: train("moved", wrap=moved),
    "never_synced": lambda: train("never_synced", sync=False, steps=40),
    "hand_stops": lambda: train("hand_stops", wrap=lambda model: model, before=average_until, steps=20),
    "same_start": lambda: train("same_start", wrap=lambda model: model, steps=40),
    "sharded_lr": lambda: train("sharded_lr", wrap=shard, after=on_one_rank(halved_lr, once=True)),
    "copies_scaled": lambda: train("copies_scaled", wrap=shard_copies, before=on_one_rank(scale_shard)),
}


def work(output: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names:
        SCENARIOS[name]()
    OUT.append(torch.rand(1).item().hex())
    dist.barrier()
    Path(f"{output}{rank()}").write_text("\n".join(OUT))
    dist.destroy_process_group()


def spawned(number: int, world: int, output: str, names: list[str]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{output}meet", rank=number, world_size=world)
    work(output, names)


if __name__ == "__main__":
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        work(sys.argv[1], sys.argv[2:])
    else:
        torch.multiprocessing.spawn(spawned, (2, sys.argv[1], sys.argv[2:]), nprocs=2)
