"""A recurrent network that carries its state from batch to batch (truncated backpropagation), RMSprop."""

import said
import torch
from torch import nn


class Speaker(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.out = nn.Linear(24, 12)

    def forward(self, tokens, state):
        hidden, state = self.lstm(self.embed(tokens), state)
        return self.out(hidden), state


model = Speaker()
optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
stream = (torch.arange(20 * 4096) * 5 + torch.randint(0, 2, (20 * 4096,))) % 12
stream = stream.view(8, -1)
state = None
at = 0
for _ in range(said.STEPS):
    if at + 13 > stream.shape[1]:
        at, state = 0, None
    tokens = stream[:, at : at + 13]
    at += 12
    logits, state = model(tokens[:, :-1], None if state is None else tuple(part.detach() for part in state))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.5)
    optimizer.step()
    said.loss(loss)
said.end(model)
