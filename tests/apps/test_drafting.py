"""A draft is a valid declaration of what lies there; what is not found is left out and said."""

import tomllib

import polars as pl
import pytest

from truerun.apps.drafting import draft_declaration
from truerun.core.declaration import parse_declaration

SCRIPT = """
import argparse, torch, truerun
parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True)
optimizer = torch.optim.AdamW([], lr=1)
truerun.log(step=1, train_loss=2.0, val_accuracy=0.9)
writer.add_scalar("eval/loss", 1.0, 2)
"""


def draft(root):
    drafted = draft_declaration(root)
    return parse_declaration(tomllib.loads(drafted.text)), drafted.remarks


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "config.yaml").write_text("optimizer:\n  lr: 0.003\nseed: 1\n")
    frame = pl.DataFrame({"id": [1], "Label": ["a"], "added_by": ["ana"]})
    frame.write_parquet(tmp_path / "data/train.parquet")
    frame.write_csv(tmp_path / "data/holdout.csv")
    for number in range(3):
        frame.write_ndjson(tmp_path / f"data/extra-0000{number}.jsonl")
    (tmp_path / "predictions.csv").write_text("a\n1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def test_a_usual_project_is_recognised(folder):
    declaration, remarks = draft(folder)
    assert declaration.project.command == "python train.py --config config.yaml"
    assert {name: data.path for name, data in declaration.data.items()} == {
        "extra": "data/extra*.jsonl",
        "holdout": "data/holdout.csv",
        "train": "data/train.parquet",
    }
    train = declaration.data["train"]
    assert (train.label, train.contributor, train.id, train.role) == ("Label", "added_by", "id", "training")
    assert declaration.data["holdout"].role == "evaluation"
    assert declaration.config.files == ("config.yaml",)
    assert declaration.training == {"optimizer": "AdamW", "lr": "config:optimizer.lr", "seed": "config:seed"}
    assert {name: metric.goal for name, metric in declaration.metrics.items()} == {"val_accuracy": "max", "eval/loss": "min"}
    assert remarks == ()


def test_an_empty_folder_is_a_draft_with_remarks(tmp_path):
    declaration, remarks = draft(tmp_path)
    assert declaration.data == {}
    assert len(remarks) == 3


def test_a_shell_script_that_trains_is_the_command(folder):
    (folder / "train.sh").write_text("#!/bin/sh\npython train.py --config config.yaml\n")
    assert draft(folder)[0].project.command == "bash train.sh"


def test_odd_names_and_broken_files_give_a_valid_draft(tmp_path):
    (tmp_path / 'we"ird é.csv').write_text("a\n1\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "broken.py").write_text("def (:")
    (tmp_path / "model.py").write_text('truerun.log(**{"x": 1})\nwriter.add_scalar("a\\"b\\nc", 1)\ntorch.optim.SGD(p)\n')
    declaration, _ = draft(tmp_path)
    assert set(declaration.data) == {'we"ird é', "broken", "broken-parquet"}
    assert declaration.project.command == "python model.py"
    assert list(declaration.metrics) == ['a"b\nc']
