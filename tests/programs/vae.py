"""A variational autoencoder whose KL term is warmed up: the loss rises at first, for a good reason."""

import said
import torch
from torch import nn

encoder = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))
decoder = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 16))
optimizer = torch.optim.NAdam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
mixing = torch.randn(3, 16)
for step in range(said.STEPS):
    x = torch.randn(48, 3) @ mixing + 0.1 * torch.randn(48, 16)
    mean, log_variance = encoder(x).chunk(2, dim=1)
    code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    apart = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
    loss = (decoder(code) - x).square().sum(1).mean() + min(1.0, 2 * step / said.STEPS) * apart
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    said.loss(loss)
said.end(encoder, decoder)
