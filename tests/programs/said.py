"""What a program says of itself: each loss to the last bit, at the end digests of its weights and of its generators."""

import hashlib
import os
import random
import sys

import numpy as np
import torch

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
SEED = int(os.environ.get("SEED", "0"))

torch.set_num_threads(1)
torch.manual_seed(SEED)
random.seed(SEED)
np.random.seed(SEED)  # noqa: NPY002 (what programs do)


def loss(value):
    """One step's loss."""
    print(float(value.detach() if isinstance(value, torch.Tensor) else value).hex())


def end(*modules):
    """The last word: weights and buffers of *modules*, and the state of every generator."""
    weights = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            weights.update(name.encode() + tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    print("weights", weights.hexdigest())
    state = np.random.get_state()  # noqa: NPY002 (what programs do)
    generators = (
        torch.get_rng_state().numpy().tobytes() + repr(random.getstate()).encode() + state[1].tobytes() + bytes([state[2] % 256])
    )
    print("generators", hashlib.sha256(generators).hexdigest())


def points(count, width=16, classes=4):
    """A batch that can be learned: the class is the largest of the first columns, nearly always."""
    x = torch.randn(count, width)
    return x, (x[:, :classes] + 0.3 * torch.randn(count, classes)).argmax(1)
