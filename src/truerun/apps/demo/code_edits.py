"""Legitimate edits of code, in order: comments, documentation, tools that training never imports, refactorings that compute the same."""

from __future__ import annotations

from truerun.apps.demo.edits import Edit, Replace, Write

_PLOT = '''"""Show some scans: python tools/plot.py data/train.parquet"""

import sys

import polars as pl

for row in pl.read_parquet(sys.argv[1]).head(3).iter_rows():
    print(row[-2], row[1:9])
'''
_COUNT = '''"""Count scans by digit: python tools/count.py data/train.parquet"""

import sys

import polars as pl

print(pl.read_parquet(sys.argv[1])["label"].value_counts().sort("label"))
'''
_WHO = '''"""Count scans by who added them: python tools/who.py data/train.parquet"""

import sys

import polars as pl

print(pl.read_parquet(sys.argv[1])["added_by"].value_counts().sort("added_by"))
'''
_TEST = """from digits.schedule import warmup_and_decay


def test_there_is_a_schedule():
    assert callable(warmup_and_decay)
"""
CODE_EDITS: tuple[tuple[str, Edit], ...] = (
    (
        "say what the model is",
        Replace(path="digits/model.py", old="A small perceptron.", new="A perceptron with two hidden layers."),
    ),
    ("a tool to look at scans", Write(path="tools/plot.py", text=_PLOT)),
    (
        "explain the schedule",
        Replace(
            path="digits/schedule.py",
            old='"""The learning rate over time."""',
            new='"""The learning rate over time: small while the running averages are young, small again at the end."""',
        ),
    ),
    (
        "refuse an empty table",
        Replace(
            path="digits/data.py",
            old="    table = pl.read_parquet(path)\n",
            new='    table = pl.read_parquet(path)\n    if table.is_empty():\n        raise ValueError(f"{path} holds no scans")\n',
        ),
    ),
    ("count scans by digit", Write(path="tools/count.py", text=_COUNT)),
    (
        "count instead of averaging",
        Replace(
            path="digits/evaluate.py",
            old="return (predict(model, images) == labels).double().mean().item()",
            new="return (predict(model, images) == labels).sum().item() / len(labels)",
        ),
    ),
    (
        "say which device",
        Replace(
            path="train.py",
            old="    torch.set_num_threads(1)\n",
            new="    torch.set_num_threads(1)  # the CPU; scans are small\n",
        ),
    ),
    (
        "number of errors, for the weekly mail",
        Replace(
            path="digits/evaluate.py",
            old="def write_predictions(",
            new=(
                "def errors(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> int:\n"
                '    """How many images are misread."""\n'
                "    return int((predict(model, images) != labels).sum())\n\n\n"
                "def write_predictions("
            ),
        ),
    ),
    ("who added how many", Write(path="tools/who.py", text=_WHO)),
    ("a first test", Write(path="tests/test_schedule.py", text=_TEST)),
    (
        "print five digits",
        Replace(path="train.py", old='{train(config, arguments.out):.4f}")', new='{train(config, arguments.out):.5f}")'),
    ),
    (
        "explain the batches",
        Replace(
            path="digits/data.py", old="in random order, in batches.", new="in random order, in batches; the last may be short."
        ),
    ),
    (
        "say where weights go",
        Replace(
            path="digits/model.py",
            old="Write the weights as a state dict.",
            new="Write the weights as a state dict; torch.load reads it.",
        ),
    ),
)
