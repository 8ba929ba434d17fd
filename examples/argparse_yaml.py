"""argparse over yaml: digits through a DataLoader with a worker process, Adam, TensorBoard if it is there."""

import argparse
import random

import numpy as np
import polars as pl
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset


def read_settings() -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--logdir")
    options = parser.parse_args()
    with open(options.config, encoding="utf-8") as file:
        settings = yaml.safe_load(file)
    if options.lr is not None:
        settings["optimizer"]["lr"] = options.lr
    return {**settings, "logdir": options.logdir}


def main() -> None:
    settings = read_settings()
    random.seed(settings["seed"])
    np.random.seed(settings["seed"])  # noqa: NPY002 (as scripts of the field do)
    torch.manual_seed(settings["seed"])
    table = pl.read_parquet(settings["data"])
    images = torch.tensor(table.drop("digit").to_numpy()).reshape(-1, 1, 8, 8) / 16
    data = TensorDataset(images, torch.tensor(table["digit"].to_numpy()))
    loader = DataLoader(data, batch_size=settings["batch_size"], shuffle=True, num_workers=settings["workers"])
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["optimizer"]["lr"], betas=settings["optimizer"]["betas"])
    writer = None
    if settings["logdir"]:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(settings["logdir"])
    step = 0
    for epoch in range(settings["epochs"]):
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if writer is not None:
                writer.add_scalar("train/loss", loss.item(), step)
        print(epoch, loss.item().hex(), torch.rand(1).item().hex(), random.random().hex(), float(np.random.rand()).hex())  # noqa: NPY002
    print("weights", sum(p.double().sum().item() for p in model.parameters()).hex())


if __name__ == "__main__":
    main()
