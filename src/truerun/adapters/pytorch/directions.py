"""Secret directions in parameter space, and what a gradient comes to along them.

A direction is random and follows the gradient, tensor by tensor with random signs: the random half sees what was set to zero,
the other what was scaled or flipped. Random numbers come from a block of a private generator that is laid over the tensors at
secret offsets, so a direction of a hundred million parameters costs a copy and not as many draws.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

BLOCK = 1 << 16
SMALLEST_SCALE = 0.05


class Directions:
    """One draw: `block` of random numbers, and for each tensor an offset into it and a sign. Not the program's generator."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(8), "big") >> 1)
        self._block = torch.randn(2 * BLOCK, generator=generator)
        self._offsets = torch.randint(BLOCK, (len(tensors),), generator=generator).tolist()
        self.signs = [1 - 2 * bit for bit in torch.randint(2, (len(tensors),), generator=generator).tolist()]
        self._blocks: dict[Any, Any] = {}

    def _piece(self, position: int, tensor: Any) -> Any:
        place = (tensor.device, tensor.dtype)
        if place not in self._blocks:
            self._blocks[place] = self._block.to(*place)
        offset = self._offsets[position]
        return self._blocks[place][offset : offset + BLOCK]

    def projection(self, position: int, gradient: Any) -> Any:
        """What one tensor's gradient comes to along the noise, as a tensor of no dimension; reads it once and copies nothing."""
        flat, piece = gradient.detach().reshape(-1), self._piece(position, gradient)
        whole = flat.numel() // BLOCK * BLOCK
        rest = torch.dot(flat[whole:], piece[: flat.numel() - whole])
        return rest + (flat[:whole].view(-1, BLOCK) @ piece).sum() if whole else rest

    def along(self, position: int, tensor: Any, gradient: Any) -> Any:
        """The direction of one tensor: about as long as the tensor itself."""
        size, sign = tensor.numel(), self.signs[position]
        length = torch.linalg.vector_norm(tensor.detach()).clamp_min(SMALLEST_SCALE)
        steep = torch.linalg.vector_norm(gradient)
        lengths = torch.stack([length.double(), steep.double()]).tolist()
        piece = self._piece(position, tensor) * (sign * lengths[0] / max(1, size) ** 0.5)
        u = (piece[:size] if size <= BLOCK else piece.repeat(-(-size // BLOCK))[:size]).view(tensor.shape)
        return torch.add(u, gradient, alpha=sign * lengths[0] / lengths[1]) if lengths[1] > 0 else u


def inner(left: Any, right: Any) -> float:
    """The inner product of two tensors, added up in double precision."""
    return float((left.detach() * right).sum(dtype=torch.float64))


def magnitude(left: Any, right: Any) -> float:
    """The same of the absolute values: what rounding errors of the inner product are measured against."""
    return float((left.detach() * right).abs().sum(dtype=torch.float64))
