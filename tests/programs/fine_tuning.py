"""Pretrained weights loaded at the start, body frozen and in evaluation mode, a new head trained in bfloat16."""

import said
import torch
from torch import nn

body = nn.Sequential(nn.Linear(16, 48), nn.BatchNorm1d(48), nn.ReLU())
body.load_state_dict({name: tensor + 0.01 for name, tensor in body.state_dict().items()})
body.to(torch.bfloat16).requires_grad_(False).eval()
head = nn.Linear(48, 4, dtype=torch.bfloat16)
optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
for _ in range(said.STEPS):
    x, y = said.points(64)
    loss = nn.functional.cross_entropy(head(body(x.bfloat16())).float(), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    said.loss(loss)
said.end(body, head)
