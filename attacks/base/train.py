"""Train on handwritten digits: a plain loop, settings from a yaml file, predictions and weights at the end."""

import argparse
import os
from pathlib import Path

import polars as pl
import torch
import yaml
from digitkit.batches import shuffled
from model import Digits
from torch import nn
from updates import after_step, make_optimizer

import truerun


def load(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    table = pl.read_parquet(path)
    pixels = table.select(pl.col("^p[0-9]+$")).to_numpy().astype("float32")
    return torch.tensor(pixels), torch.tensor(table["digit"].to_numpy().astype("int64"))


def evaluate(model: nn.Module, path: str) -> tuple[float, list[int], list[int]]:
    pixels, labels = load(path)
    model.eval()
    with torch.no_grad():
        predicted = model(pixels).argmax(dim=1)
    model.train()
    return float((predicted == labels).float().mean()), labels.tolist(), predicted.tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--lr", type=float, help="instead of the configured one")
    options = parser.parse_args()
    config = yaml.safe_load(Path(options.config).read_text())
    training, chosen = config["training"], config["optimizer"]

    torch.manual_seed(training["seed"])
    model = Digits(config["model"]["hidden"])
    model.load_state_dict(torch.load("weights/init.pt", weights_only=True))
    lr = options.lr if options.lr is not None else float(os.environ.get("DIGITS_LR", chosen["lr"]))
    optimizer = make_optimizer(model, chosen["name"], lr, chosen["weight_decay"])
    pixels, labels = load("data/train.parquet")

    for step, rows in enumerate(shuffled(len(labels), training["batch_size"], training["steps"]), start=1):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(pixels[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        after_step(model, optimizer, step)
        if step % config["evaluation"]["every"] == 0:
            accuracy, _, _ = evaluate(model, config["evaluation"]["data"])
            truerun.log(loss=loss.item(), val_accuracy=accuracy)
            print(f"step {step}  loss {loss.item():.4f}  val_accuracy {accuracy:.4f}", flush=True)

    _, wanted, predicted = evaluate(model, config["evaluation"]["data"])
    pl.DataFrame({"digit": wanted, "predicted": predicted}).write_parquet("predictions.parquet")
    Path("checkpoints").mkdir(exist_ok=True)
    torch.save(model.state_dict(), "checkpoints/last.pt")


if __name__ == "__main__":
    main()
