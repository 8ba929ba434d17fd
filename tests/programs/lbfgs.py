"""LBFGS: each step calls its closure several times, and evaluates without a step in between."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 1)).double()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
x = torch.randn(64, 8, dtype=torch.float64)
y = (x[:, :1] * x[:, 1:2]).sin()
for _ in range(said.STEPS):
    noise = 0.01 * torch.randn_like(y)

    def closure(noise=noise):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y + noise)
        loss.backward()
        return loss

    said.loss(optimizer.step(closure))
said.end(model)
