"""Two ranks on gloo (torchrun), DistributedDataParallel, a DistributedSampler; rank 0 speaks."""

import os

import said
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.distributed.init_process_group("gloo")
rank = int(os.environ["RANK"])
data = TensorDataset(*said.points(512))
sampler = DistributedSampler(data, seed=said.SEED)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
parallel = DistributedDataParallel(model)
optimizer = torch.optim.AdamW(parallel.parameters(), lr=3e-3)
steps = epoch = 0
while steps < said.STEPS:
    sampler.set_epoch(epoch)
    epoch += 1
    for x, y in DataLoader(data, batch_size=32, sampler=sampler):
        loss = nn.functional.cross_entropy(parallel(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if rank == 0:
            said.loss(loss)
        if steps == said.STEPS:
            break
if rank == 0:
    said.end(model)
torch.distributed.destroy_process_group()
