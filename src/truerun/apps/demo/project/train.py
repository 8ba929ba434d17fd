"""Train the digits classifier: python train.py --config config.yaml"""

import argparse
import json
import math
import pathlib

import torch
import yaml
from digits.data import batches, load_table
from digits.evaluate import accuracy, predict, write_predictions
from digits.model import build_model, save_weights
from digits.schedule import warmup_and_decay
from torch import nn

import truerun


def build_optimizer(model: nn.Module, config: dict) -> torch.optim.Optimizer:
    if config["name"] == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=config["weight_decay"]
        )
    return torch.optim.AdamW(
        model.parameters(), lr=config["lr"], betas=(config["beta1"], config["beta2"]), weight_decay=config["weight_decay"]
    )


def train(config: dict, out: pathlib.Path) -> float:
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    images, labels = load_table(config["data"]["train"], config["data"]["pixel_max"])
    held_images, held_labels = load_table(config["data"]["holdout"], config["data"]["pixel_max"])
    model = build_model(config["model"])
    optimizer = build_optimizer(model, config["optimizer"])
    epochs, batch_size = config["training"]["epochs"], config["training"]["batch_size"]
    steps = epochs * math.ceil(len(labels) / batch_size)
    schedule = warmup_and_decay(optimizer, config["optimizer"]["warmup_steps"], steps)
    loss_function = nn.CrossEntropyLoss(label_smoothing=config["training"]["label_smoothing"])
    shuffle = torch.Generator().manual_seed(config["seed"])
    step = 0
    for epoch in range(epochs):
        model.train()
        for rows in batches(len(labels), batch_size, shuffle):
            optimizer.zero_grad()
            loss = loss_function(model(images[rows]), labels[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["training"]["clip_norm"])
            optimizer.step()
            schedule.step()
            step += 1
            if step % config["logging"]["every_steps"] == 0:
                truerun.log(train_loss=loss.item())
        if (epoch + 1) % config["evaluation"]["every_epochs"] == 0:
            truerun.log(val_accuracy=accuracy(model, held_images, held_labels))
    predictions = predict(model, held_images)
    final = (predictions == held_labels).double().mean().item()
    truerun.log(val_accuracy=final)
    out.mkdir(parents=True, exist_ok=True)
    write_predictions(out / "predictions.parquet", held_labels, predictions)
    save_weights(model, out / "model.pt")
    (out / "metrics.json").write_text(json.dumps({"val_accuracy": final, "steps": step}) + "\n")
    return final


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--out", default="out", type=pathlib.Path)
    arguments = parser.parse_args()
    config = yaml.safe_load(pathlib.Path(arguments.config).read_text())
    print(f"val_accuracy {train(config, arguments.out):.4f}")


if __name__ == "__main__":
    main()
