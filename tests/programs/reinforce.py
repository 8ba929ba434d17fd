"""REINFORCE with a learned baseline on a corridor made by hand: losses of either sign, several episodes a step."""

import random

import said
import torch
from torch import nn

ROOMS = 7
actor = nn.Sequential(nn.Linear(ROOMS, 16), nn.Tanh(), nn.Linear(16, 2))
baseline = nn.Linear(ROOMS, 1)
optimizer = torch.optim.Adam([{"params": actor.parameters()}, {"params": baseline.parameters(), "lr": 1e-2}], lr=3e-3)


def episode():
    """Walk until the right end or for a dozen moves: log-probabilities, values, rewards."""
    room, told, values, rewards = random.randrange(ROOMS - 1), [], [], []
    for _ in range(12):
        seen = nn.functional.one_hot(torch.tensor(room), ROOMS).float()
        choice = torch.distributions.Categorical(logits=actor(seen))
        move = choice.sample()
        room = max(0, min(ROOMS - 1, room + (1 if move.item() else -1)))
        told.append(choice.log_prob(move))
        values.append(baseline(seen)[0])
        rewards.append(1.0 if room == ROOMS - 1 else -0.05)
        if room == ROOMS - 1:
            break
    return told, values, rewards


for _ in range(said.STEPS):
    loss = torch.zeros(())
    for _ in range(2):
        told, values, rewards = episode()
        gain = 0.0
        for log_probability, value, reward in zip(reversed(told), reversed(values), reversed(rewards), strict=True):
            gain = reward + 0.95 * gain
            advantage = gain - value
            loss = loss - log_probability * advantage.detach() + 0.5 * advantage.square()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    said.loss(loss)
said.end(actor, baseline)
