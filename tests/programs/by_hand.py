"""No torch.optim at all: gradients by torch.autograd.grad, parameters updated in place by the program."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
velocity = [torch.zeros_like(p) for p in model.parameters()]
for step in range(said.STEPS):
    x, y = said.points(64)
    loss = nn.functional.cross_entropy(model(x), y)
    if step % 2:
        gradients = torch.autograd.grad(loss, list(model.parameters()))
    else:
        model.zero_grad()
        loss.backward()
        gradients = [p.grad for p in model.parameters()]
    with torch.no_grad():
        for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(0.05 * v)
    said.loss(loss)
said.end(model)
