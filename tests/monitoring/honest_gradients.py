"""Training loops whose gradients are right although they are made in other ways than the plainest. Each runs a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

STEPS = 4


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 5))


def steps(network: nn.Module, loss_of: Callable[[Any, Any], Any], optimizer: Any = None) -> None:
    optimizer = optimizer or torch.optim.AdamW(network.parameters())
    generator = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        x = torch.randn(16, 12, generator=generator)
        optimizer.zero_grad()
        loss_of(x, x[:, :5].argmax(1)).backward()
        optimizer.step()


class Wrapped(nn.Module):
    """A network of layers and, in `through`, something done to what the first of them gives."""

    def __init__(self, through: Callable[[Any], Any]) -> None:
        super().__init__()
        self.one, self.two, self.through = nn.Linear(12, 32), nn.Linear(32, 5), through

    def forward(self, x: Any) -> Any:
        return self.two(self.through(self.one(x).tanh()))


def _constant_scale(x: Any) -> Any:
    with torch.no_grad():
        scale = x.abs().amax() + x.mean()
    return x / scale


THROUGH: dict[str, Callable[[Any], Any]] = {
    "straight through by detach": lambda x: x + (torch.round(x * 4) / 4 - x).detach(),
    "a constant made under no_grad": _constant_scale,
    "checkpointed": lambda x: checkpoint(torch.sigmoid, x, use_reentrant=False),
    "checkpointed the old way": lambda x: checkpoint(torch.sigmoid, x, use_reentrant=True),
    "sorted": lambda x: x.sort(dim=1).values.cumsum(1),
    "quantised": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127),
    "half precision inside": lambda x: x.bfloat16().float(),
}


def through(name: str) -> None:
    network = Wrapped(THROUGH[name])
    steps(network, lambda x, y: functional.cross_entropy(network(x), y))


class OwnLoss(nn.Module):
    """Returns its loss beside other things, as many libraries do, and keeps a count and a list in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.calls, self.seen = layers(), 0, []

    def forward(self, x: Any, y: Any = None) -> Any:
        self.calls += 1
        self.seen.append(x.shape[0])
        logits = self.layers(x)
        return {"loss": functional.cross_entropy(logits, y), "logits": (logits, None)}


def own_loss() -> None:
    network = OwnLoss()
    steps(network, lambda x, y: network(x, y=y)["loss"])
    assert network.calls == len(network.seen) == STEPS, "looking was noticed"


def accumulation() -> None:
    network = layers()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for batch in range(4 * STEPS):
        x = torch.randn(16, 12)
        (functional.cross_entropy(network(x), x[:, :5].argmax(1)) / 4).backward()
        if batch % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=batch % 8 == 3)


def two_losses() -> None:
    network = layers()
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(STEPS):
        x = torch.randn(16, 12)
        out = network(x)
        optimizer.zero_grad()
        functional.cross_entropy(out, x[:, :5].argmax(1)).backward(retain_graph=True)
        (0.1 * out.square().mean()).backward()
        optimizer.step()


def adversaries() -> None:
    maker, critic = (
        nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12)),
        nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 1)),
    )
    first, second = torch.optim.Adam(maker.parameters()), torch.optim.Adam(critic.parameters())
    for _ in range(STEPS):
        made = maker(torch.randn(16, 4))
        second.zero_grad()
        # Not detached: the critic's loss leaves gradients in the maker, which are cleared before its own.
        (functional.softplus(critic(made)).mean() + functional.softplus(-critic(torch.randn(16, 12))).mean()).backward()
        second.step()
        first.zero_grad()
        functional.softplus(-critic(maker(torch.randn(16, 4)))).mean().backward()
        first.step()


def gradient_penalty() -> None:
    critic = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss(x: Any, _: Any) -> Any:
        x.requires_grad_()
        out = critic(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return out.mean() + (slope.norm(dim=1) - 1).square().mean()

    steps(critic, loss)


def autoencoder() -> None:
    encoder, decoder, scale = nn.Linear(12, 8), nn.Linear(4, 12), nn.Parameter(torch.zeros(()))

    def loss(x: Any, _: Any) -> Any:
        mean, spread = encoder(x).chunk(2, 1)
        back = decoder(mean + torch.randn_like(mean) * spread.exp())
        return ((back - x).square().mean() * (-scale).exp() + scale) + (mean.square() + spread.exp() - spread).mean()

    everything = nn.ModuleList([encoder, decoder])
    steps(everything, loss, torch.optim.Adam([*everything.parameters(), scale]))


def penalty_on_one_matrix() -> None:
    network = layers()
    steps(network, lambda x, y: functional.cross_entropy(network(x), y) + 0.01 * network[2].weight.square().sum())


def frozen_and_unused() -> None:
    network = nn.ModuleDict({"used": layers(), "unused": nn.Linear(3, 3)})
    network["used"][0].weight.requires_grad_(requires_grad=False)
    steps(network, lambda x, y: functional.cross_entropy(network["used"](x), y))


def evaluation_in_between() -> None:
    network = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.Dropout(0.2), nn.Linear(32, 5))

    def loss(x: Any, y: Any) -> Any:
        network.eval()
        with torch.no_grad():
            network(x)
        network(x)  # forgot no_grad
        network.train()
        return functional.cross_entropy(network(x), y)

    steps(network, loss)


def closure() -> None:
    network = layers()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=4)
    x = torch.randn(16, 12)

    def again() -> Any:
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x), x[:, :5].argmax(1))
        loss.backward()
        return loss

    for _ in range(STEPS):
        optimizer.step(again)


def parametrized(*kinds: Callable[[nn.Module], nn.Module]) -> None:
    network = nn.Sequential(*(kind(nn.Linear(12, 12)) for kind in kinds))
    steps(network, lambda x, y: functional.cross_entropy(network(x), y))


def mixed_precision() -> None:
    network = layers()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(STEPS):
        x = torch.randn(16, 12)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(network(x).float(), x[:, :5].argmax(1))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()


def sparse_embedding() -> None:
    words, head = nn.EmbeddingBag(50, 8, sparse=True), nn.Linear(8, 5)
    both = [torch.optim.SGD(words.parameters(), lr=0.1), torch.optim.SGD(head.parameters(), lr=0.1)]
    for _ in range(STEPS):
        for optimizer in both:
            optimizer.zero_grad()
        functional.cross_entropy(head(words(torch.randint(0, 50, (16, 3)))), torch.randint(0, 5, (16,))).backward()
        for optimizer in both:
            optimizer.step()


def policy_gradient() -> None:
    policy, value = layers(), nn.Linear(12, 1)

    def loss(x: Any, _: Any) -> Any:
        choice = torch.distributions.Categorical(logits=policy(x))
        action = choice.sample()
        advantage = torch.randn(16) - value(x).squeeze(1)
        return -(choice.log_prob(action) * advantage.detach()).mean() + advantage.square().mean() - 0.01 * choice.entropy().mean()

    steps(nn.ModuleList([policy, value]), loss)


class Words(nn.Module):
    """Sentences of different lengths, filled up with a padding word whose row gets no gradient by design."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 12, **options), nn.Linear(12, 5)
        nn.init.normal_(self.words.weight)  # the padding's row counts in the forward pass

    def forward(self, tokens: Any) -> Any:
        return self.head(self.words(tokens).mean(1))


def words(**options: Any) -> None:
    network = Words(**options)
    generator = torch.Generator().manual_seed(4)

    def loss_of(x: Any, y: Any) -> Any:
        tokens = torch.randint(0, 20, (16, 6), generator=generator)
        tokens[:, 4:] = 0
        return functional.cross_entropy(network(tokens), y)

    steps(network, loss_of)


PROGRAMS: dict[str, Callable[[], None]] = {
    "padding": lambda: words(padding_idx=0),
    "padding counted from the end": lambda: words(padding_idx=-20),
    "gradients by frequency": lambda: words(scale_grad_by_freq=True),
    **{name: (lambda name=name: through(name)) for name in THROUGH},  # type: ignore[misc]
    "its own loss": own_loss,
    "accumulation": accumulation,
    "two losses": two_losses,
    "two adversaries": adversaries,
    "gradient penalty": gradient_penalty,
    "autoencoder": autoencoder,
    "penalty on one matrix": penalty_on_one_matrix,
    "frozen and unused": frozen_and_unused,
    "evaluation in between": evaluation_in_between,
    "closure": closure,
    "weight norm": lambda: parametrized(nn.utils.parametrizations.weight_norm),
    "spectral norm": lambda: parametrized(nn.utils.parametrizations.spectral_norm),
    "weight norm and spectral norm": lambda: parametrized(
        nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm
    ),
    "mixed precision": mixed_precision,
    "sparse embedding": sparse_embedding,
    "policy gradient": policy_gradient,
}
UNTOLD = {"gradient penalty", "gradients by frequency", "quantised", "weight norm and spectral norm"}
