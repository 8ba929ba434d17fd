"""A bare loop: digits, a small network, SGD with momentum, everything at module level."""

import polars as pl
import torch
from torch.nn import functional

torch.manual_seed(0)
table = pl.read_parquet("data/digits.parquet")
y = torch.tensor(table["digit"].to_numpy())
x = torch.tensor(table.drop("digit").to_numpy()) / 16
w1 = torch.nn.Linear(64, 64)
w2 = torch.nn.Linear(64, 10)
opt = torch.optim.SGD([*w1.parameters(), *w2.parameters()], lr=0.1, momentum=0.9, weight_decay=1e-4)

for epoch in range(3):
    order = torch.randperm(len(x))
    for i in range(0, len(x), 64):
        batch = order[i : i + 64]
        loss = functional.cross_entropy(w2(functional.dropout(torch.relu(w1(x[batch])), 0.1)), y[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if i % 640 == 0:
            print(epoch, i, loss.item().hex())

print("weights", sum(p.double().sum().item() for p in opt.param_groups[0]["params"]).hex())
