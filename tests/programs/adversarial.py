"""Adversarial training: a backward for the attack on the inputs, then another for the step."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for _ in range(said.STEPS):
    x, y = said.points(64)
    x.requires_grad_(True)
    nn.functional.cross_entropy(model(x), y).backward()
    hard = (x + 0.1 * x.grad.sign()).detach()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(hard), y)
    loss.backward()
    optimizer.step()
    said.loss(loss)
said.end(model)
