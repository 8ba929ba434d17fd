"""A Trainer class: breast cancer, AdamW with two parameter groups, accumulation, a schedule, early evaluation, a checkpoint."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import polars as pl
import torch
from torch import nn


@dataclass
class Trainer:
    model: nn.Module
    lr: float = 3e-3
    accumulate: int = 2
    history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=self.lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=60)

    def training_step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self.model(x).squeeze(-1), y)

    def evaluate(self, x: torch.Tensor, y: torch.Tensor) -> float:
        self.model.eval()
        with torch.no_grad():
            right = ((self.model(x).squeeze(-1) > 0).float() == y).float().mean().item()
        self.model.train()
        return right

    def fit(self, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
        for epoch in range(epochs):
            for number, rows in enumerate(torch.randperm(len(x)).split(32), start=1):
                loss = self.training_step(x[rows], y[rows]) / self.accumulate
                loss.backward()
                self.history.append(loss.item())
                if number % self.accumulate == 0:
                    nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad(set_to_none=True)
            print(epoch, self.history[-1].hex(), self.evaluate(x, y))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    table = pl.read_csv("data/cancer.csv")
    y = torch.tensor(table["benign"].to_numpy()).float()
    x = torch.tensor(table.drop("benign").to_numpy()).float()
    x = (x - x.mean(0)) / x.std(0)
    torch.manual_seed(1)
    trainer = Trainer(nn.Sequential(nn.Linear(30, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 1)))
    trainer.fit(x, y, options.epochs)
    torch.save(trainer.model.state_dict(), "model.pt")
    trainer.model.load_state_dict(torch.load("model.pt", weights_only=True))
    print("weights", sum(p.double().sum().item() for p in trainer.model.parameters()).hex())


if __name__ == "__main__":
    main()
