"""Two networks against each other, an optimizer each."""

import said
import torch
from torch import nn

generator = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 2))
critic = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))
of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
say = nn.functional.binary_cross_entropy_with_logits
ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)
for _ in range(said.STEPS // 2):
    real = torch.randn(32, 2) * 0.3 + torch.tensor([1.0, -1.0])
    made = generator(torch.randn(32, 4))
    of_critic.zero_grad()
    loss = say(critic(real), ones) + say(critic(made.detach()), zeros)
    loss.backward()
    of_critic.step()
    said.loss(loss)
    of_generator.zero_grad()
    loss = say(critic(made), ones)
    loss.backward()
    of_generator.step()
    said.loss(loss)
said.end(generator, critic)
