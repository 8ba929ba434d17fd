"""Sparse gradients: an embedding bag under SparseAdam, a dense head under Adagrad."""

import said
import torch
from torch import nn

bag = nn.EmbeddingBag(200, 12, mode="mean", sparse=True)
head = nn.Linear(12, 2)
optimizers = [torch.optim.SparseAdam(bag.parameters(), lr=1e-2), torch.optim.Adagrad(head.parameters(), lr=5e-2)]
for _ in range(said.STEPS // 2):
    words = torch.randint(0, 200, (32, 6))
    y = (words < 100).sum(1).gt(3).long()
    loss = nn.functional.cross_entropy(head(bag(words)), y)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    said.loss(loss)
said.end(bag, head)
