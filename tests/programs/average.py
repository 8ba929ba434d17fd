"""Averaged weights beside the model, and swapped in for every evaluation and out again; at the end they stay."""

import said
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(said.STEPS):
    x, y = said.points(64)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean.update_parameters(model)
    said.loss(loss)
    if step % 20 == 19:
        kept = [parameter.detach().clone() for parameter in model.parameters()]
        with torch.no_grad():
            for parameter, averaged in zip(model.parameters(), mean.module.parameters(), strict=True):
                parameter.copy_(averaged)
            print("averaged", float(nn.functional.cross_entropy(model(x), y)).hex())
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.copy_(value)
said.end(model, mean)
