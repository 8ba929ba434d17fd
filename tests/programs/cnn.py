"""Convolutions with batch normalization and dropout, SGD with momentum, flipped images, an evaluation now and then."""

import said
import torch
from torch import nn

body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
model = nn.Sequential(body, nn.Flatten(), nn.Dropout(0.2), nn.Linear(96, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3, nesterov=True)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=max(1, said.STEPS // 3), gamma=0.3)


def images(count):
    y = torch.randint(0, 4, (count,))
    x = torch.randn(count, 1, 8, 8)
    x[torch.arange(count), 0, 2 * y, 3:5] += 2.0
    return x, y


for step in range(said.STEPS):
    model.train()
    x, y = images(32)
    if torch.rand(1) < 0.5:
        x = x.flip(-1)
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
    schedule.step()
    said.loss(loss)
    if step % 20 == 19:
        model.eval()
        with torch.no_grad():
            x, y = images(64)
            print("right", int((model(x).argmax(1) == y).sum()))
said.end(model)
