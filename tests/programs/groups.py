"""Several groups with learning rates of their own, layers thawed on the way (a group added), OneCycle, clipping, SGD."""

import said
import torch
from torch import nn

model = nn.ModuleDict({"early": nn.Linear(16, 24), "middle": nn.Linear(24, 24), "head": nn.Linear(24, 4)})
for parameter in model["early"].parameters():
    parameter.requires_grad_(False)
optimizer = torch.optim.SGD(
    [{"params": model["head"].parameters(), "lr": 0.1}, {"params": model["middle"].parameters(), "lr": 0.03}], momentum=0.9
)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.03], total_steps=said.STEPS + 1, cycle_momentum=True)
thaw = said.STEPS // 2
for step in range(said.STEPS):
    if step == thaw:
        for parameter in model["early"].parameters():
            parameter.requires_grad_(True)
        optimizer.add_param_group({"params": model["early"].parameters(), "lr": 0.01})
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    x, y = said.points(64)
    loss = nn.functional.cross_entropy(model["head"](model["middle"](model["early"](x).relu()).relu()), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    schedule.step()
    said.loss(loss)
said.end(model)
