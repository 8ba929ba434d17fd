"""A small transformer with tied weights and dropout, AdamW with warm-up and cosine, two groups (with and without decay)."""

import math

import said
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, words=20, width=24):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(0.02 * torch.randn(16, width))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 48, dropout=0.1, batch_first=True) for _ in range(2))
        self.out = nn.Linear(width, words, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(16), persistent=False)

    def forward(self, tokens):
        hidden = self.embed(tokens) + self.place[: tokens.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.mask[: tokens.shape[1], : tokens.shape[1]], is_causal=True)
        return self.out(hidden)


model = Model()
matrices = [p for p in model.parameters() if p.dim() > 1]
vectors = [p for p in model.parameters() if p.dim() <= 1]
optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=3e-3)
warm = max(1, said.STEPS // 10)
schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min(1.0, (step + 1) / warm) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / said.STEPS)))
)
for step in range(said.STEPS):
    begun = torch.randint(0, 20, (8, 1))
    tokens = (begun + torch.arange(17) * torch.randint(1, 4, (8, 1))) % 20
    loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    said.loss(loss)
    if step % 25 == 24:
        model.eval()
        with torch.inference_mode():
            print("eval", float(model(tokens[:, :-1]).sum()).hex())
        model.train()
said.end(model)
