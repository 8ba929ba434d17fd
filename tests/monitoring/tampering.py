"""What an edited PyTorch would do: the functional optimizers that `step()` calls, replaced for the length of a `with`."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

Attack = Callable[..., Any]


FUNCTIONS = {
    **{name: name for name in ("adadelta", "adagrad", "adam", "adamax", "asgd", "nadam", "radam", "rmsprop", "sgd")},
    "_functional": "sparse_adam",
    "_muon": "muon",
    "_adafactor": "adafactor",
}


@contextlib.contextmanager
def replaced(make: Callable[[Any], Any]) -> Iterator[None]:
    """make(original) stands in for every functional optimizer of torch."""
    places = [(importlib.import_module(f"torch.optim.{module}"), name) for module, name in FUNCTIONS.items()]
    originals = [getattr(module, name) for module, name in places]
    for (module, name), original in zip(places, originals, strict=True):
        setattr(module, name, make(original))
    try:
        yield
    finally:
        for (module, name), original in zip(places, originals, strict=True):
            setattr(module, name, original)


@contextlib.contextmanager
def tampered(attack: Attack, start: int) -> Iterator[None]:
    """From the call number *start* on, `attack(original, params, grads, *args, **kwargs)` runs in place of adam(), sgd() and so on."""
    calls = 0

    def make(original: Any) -> Any:
        def function(params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls < start:
                return original(params, grads, *args, **kwargs)
            return attack(original, params, grads, *args, **kwargs)

        return function

    with replaced(make):
        yield


@contextlib.contextmanager
def tampered_at(attacks: Mapping[int, Attack]) -> Iterator[None]:
    """At the calls that *attacks* names, and at no other, the attack runs in place of the functional optimizer."""
    calls = 0

    def make(original: Any) -> Any:
        def function(params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            attack = attacks.get(calls)
            return (
                original(params, grads, *args, **kwargs) if attack is None else attack(original, params, grads, *args, **kwargs)
            )

        return function

    with replaced(make):
        yield


def flip_sign(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
    return original(params, [-gradient for gradient in grads], *args, **kwargs)


def scale_gradient(factor: float) -> Attack:
    return lambda original, params, grads, *args, **kw: original(params, [factor * g for g in grads], *args, **kw)


def scale_setting(name: str, factor: float) -> Attack:
    return lambda original, params, grads, *args, **kw: original(params, grads, *args, **{**kw, name: kw[name] * factor})


def set_setting(name: str, value: float) -> Attack:
    return lambda original, params, grads, *args, **kw: original(params, grads, *args, **{**kw, name: value})


def skip(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
    return None


def freeze_third(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
    keep = [i for i in range(len(params)) if i != 2]
    args = tuple([arg[i] for i in keep] if isinstance(arg, list) and len(arg) == len(params) else arg for arg in args)
    return original([params[i] for i in keep], [grads[i] for i in keep], *args, **kwargs)


def noisy_gradient(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
    return original(params, [g + 0.01 * g.abs().mean() * torch.randn_like(g) for g in grads], *args, **kwargs)


def edit_weights(share: float, tensor: int | None = None) -> Attack:
    """After the proper update, change *share* of the weights (of one tensor, or of all) a little."""

    def attack(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(params, grads, *args, **kwargs)
        with torch.no_grad():
            for param in params if tensor is None else [params[tensor]]:
                param.add_((torch.rand_like(param) < share) * 1e-3)
        return result

    return attack


def stale_state(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
    """The first state is worked on as a copy, so that what it becomes is lost."""
    first = [value.clone() if isinstance(value, torch.Tensor) else value for value in args[0]]
    return original(params, grads, first, *args[1:], **kwargs)


def add_noise(size: float, tensor: int | None = None) -> Attack:
    """After the proper update, noise on all weights or on those of one tensor."""

    def attack(original: Any, params: Any, grads: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(params, grads, *args, **kwargs)
        with torch.no_grad():
            for param in params if tensor is None else [params[tensor]]:
                param.add_(torch.randn_like(param) * size)
        return result

    return attack
