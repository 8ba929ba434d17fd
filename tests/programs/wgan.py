"""A critic trained five times as often as the generator, with a penalty on its gradient (a backward through a backward)."""

import said
import torch
from torch import nn

generator = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 2))
critic = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 1))
of_generator = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
of_critic = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
step = 0
while step < said.STEPS:
    for _ in range(5):
        real = torch.randn(32, 2) * 0.3 + 1
        with torch.no_grad():
            made = generator(torch.randn(32, 4))
        share = torch.rand(32, 1)
        between = (share * real + (1 - share) * made).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        loss = critic(made).mean() - critic(real).mean() + 10 * (gradient.norm(dim=1) - 1).square().mean()
        of_critic.zero_grad()
        loss.backward()
        of_critic.step()
        said.loss(loss)
        step += 1
    for parameter in critic.parameters():
        parameter.requires_grad_(False)
    of_generator.zero_grad()
    loss = -critic(generator(torch.randn(32, 4))).mean()
    loss.backward()
    of_generator.step()
    for parameter in critic.parameters():
        parameter.requires_grad_(True)
    said.loss(loss)
    step += 1
said.end(generator, critic)
