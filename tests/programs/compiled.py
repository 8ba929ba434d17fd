"""torch.compile around the model, with a batch of another size at the end of each round."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 4))
fast = torch.compile(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(said.STEPS):
    x, y = said.points(64 if step % 10 else 48)
    loss = nn.functional.cross_entropy(fast(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    said.loss(loss)
said.end(model)
