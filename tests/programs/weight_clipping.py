"""Weights are clipped after every step, as the first Wasserstein GANs did: the run declares that it writes between steps."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for _ in range(said.STEPS):
    x, y = said.points(64)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.clamp_(-0.3, 0.3)
    said.loss(loss)
said.end(model)
