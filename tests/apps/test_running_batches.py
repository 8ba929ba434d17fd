"""Batches under `truerun run`: the locked table is what labels are compared with, the approved run what loaders are."""

from __future__ import annotations

import sys

import pytest
from tests.apps.conftest import DECLARATION, Small

from truerun.apps.running import RunReport, RunRequest, run

TRAIN = """
import csv, os, torch
from torch.utils.data import DataLoader, Dataset
torch.manual_seed(0)
class Table(Dataset):
    def __init__(self):
        rows = list(csv.DictReader(open("data/train.csv")))
        self.x = torch.tensor([[float(row["x"])] for row in rows]) / 200
        self.y = [{"cat": 0, "dog": 1}[row["label"]] for row in rows]
    def __len__(self): return len(self.y)
    def __getitem__(self, index):
        return self.x[index], 1 - self.y[index] if os.path.exists("flip") and index % 9 == 0 else self.y[index]
loader = DataLoader(Table(), batch_size=20, shuffle=not os.path.exists("plain"))
model = torch.nn.Linear(1, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
for epoch in range(2):
    for x, y in loader:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
"""


def made(project: Small) -> RunReport:
    request = RunRequest(command=(sys.executable, "train.py"), cwd=project.root, key=str(project.key))
    return run(project.project, request)


@pytest.mark.slow
def test_labels_and_loaders(bare: Small) -> None:
    """A clean run passes and is the measure; then shuffling is off, then labels are flipped, with nothing declared changed."""
    bare.write("train.py", TRAIN)
    bare.rows("x,label,added_by", *(f"{number},{'cat' if number * 7 % 11 < 6 else 'dog'},ana" for number in range(200)))
    bare.write("truerun.toml", DECLARATION + "[monitoring]\nevery = 1\n")
    bare.begin()
    bare.lock()
    first = made(bare)
    assert [finding.rule for finding in first.result.findings] == []
    assert first.outcome is not None
    assert first.outcome.effective["learned"]["batches"]["training"][0]["items"] == 200
    bare.write("plain", "")
    drifted = made(bare)
    assert {(finding.rule, finding.subject.key) for finding in drifted.result.findings} == {
        ("loader-drift", "sampler"),
        ("loader-drift", "ordered"),
    }
    assert {finding.severity.value for finding in drifted.result.findings} == {"error"}
    (bare.root / "plain").unlink()
    bare.write("flip", "")
    flipped = made(bare)
    label = next(finding for finding in flipped.result.findings if finding.evidence["term"] == "label")
    assert (label.rule, label.subject.name, label.severity.value) == ("batch-content", "train", "error")
    assert all(row % 9 == 0 for row in label.location.rows or (1,))
