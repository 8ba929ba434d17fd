"""Batches that grow, a learning rate that the code sets itself at every step, tasks that get harder: the loss jumps at each."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 8))
optimizer = torch.optim.Adamax(model.parameters(), lr=3e-3)
for step in range(said.STEPS):
    stage = 4 * step // said.STEPS
    x, y = said.points(16 * (1 + stage), classes=2 * (1 + stage))
    for group in optimizer.param_groups:
        group["lr"] = 3e-3 * (1 - 0.9 * step / said.STEPS)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    said.loss(loss)
said.end(model)
