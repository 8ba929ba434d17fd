"""Stops half way and goes on from its checkpoint in a second process: weights, optimizer, schedule and generator restored."""

import sys
from pathlib import Path

import said
import torch
from torch import nn

checkpoint = Path(sys.argv[2])
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, said.STEPS)
first = 0
if checkpoint.exists():
    saved = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    torch.set_rng_state(saved["generator"])
    first = saved["step"]
for step in range(first, said.STEPS if first else said.STEPS // 2):
    x, y = said.points(64)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    said.loss(loss)
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": torch.get_rng_state(),
            "step": step + 1,
        },
        checkpoint,
    ) if step % 10 == 9 or step + 1 == said.STEPS // 2 else None
said.end(model)
