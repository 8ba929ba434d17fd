"""Gradients of four small batches for one step, and what is left over at the end of an epoch for another."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
batches = [said.points(16) for _ in range(42)]
steps = 0
while steps < said.STEPS:
    for number, (x, y) in enumerate(batches, start=1):
        loss = nn.functional.cross_entropy(model(x), y) / 4
        loss.backward()
        if number % 4 == 0 or number == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
            said.loss(loss)
        if steps == said.STEPS:
            break
said.end(model)
