"""Real worker processes in a real run: shared seeds are found, and nothing that the program computes changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from truerun.apps.agent import WatchOutcome, WatchRequest, watch
from truerun.core.declaration import MonitoringSection

TRAIN = """
import random, sys, numpy as np, torch
from torch.utils.data import DataLoader, Dataset
torch.manual_seed(0); np.random.seed(0); random.seed(0)
class Data(Dataset):
    rng = None
    def __len__(self): return 48
    def __getitem__(self, index):
        noise = (self.rng.random(4) if self.rng is not None else np.random.rand(4)) + random.random()
        return torch.full((4,), float(index)) / 48 + torch.from_numpy(noise).float() + torch.rand(4), index % 3
data, init, options = Data(), None, {}
exec(sys.argv[1])
loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=2, worker_init_fn=init, **options)
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in loader:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        print(loss.item().hex())
print(model.weight.sum().item().hex(), torch.rand(1).item(), np.random.rand(), random.random())
"""


def run(tmp_path: Path, code: str) -> tuple[WatchOutcome, str]:
    (tmp_path / "train.py").write_text(TRAIN)
    output = tmp_path / "output.txt"
    outcome = watch(
        WatchRequest(
            command=(sys.executable, "train.py", code),
            cwd=tmp_path,
            folder=tmp_path / "run",
            output=output,
            monitoring=MonitoringSection(every=1),
        )
    )
    return outcome, output.read_text()


def found(outcome: WatchOutcome) -> list[tuple[str, str | None]]:
    return [(finding.rule, finding.subject.key) for finding in outcome.findings]


def test_losses_are_those_of_an_unwatched_run(tmp_path: Path) -> None:
    """Two workers that draw from every generator: losses, weights and all generators are bit for bit what they are without."""
    outcome, text = run(tmp_path, "")
    alone = subprocess.run([sys.executable, "train.py", ""], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert text == alone.stdout
    assert (outcome.exit_code, outcome.steps, outcome.findings) == (0, 12, ())


def test_workers_share_a_numpy_seed(tmp_path: Path) -> None:
    """`worker_init_fn` gives every worker the same NumPy seed: they augment alike, and alike in each pass."""
    outcome, _ = run(tmp_path, "init = lambda worker: np.random.seed(1)")
    assert found(outcome) == [("worker-seeds", "NumPy"), ("worker-seeds", "NumPy, passes")]
    assert "Workers 0, 1 of the loader of __main__.Data draw the same random numbers" in outcome.findings[0].message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "data.rng = np.random.default_rng(1)",
            [("worker-seeds", "rng of the data set"), ("worker-seeds", "rng of the data set, passes")],
        ),
        ("init = lambda worker: np.random.seed(worker)", [("worker-seeds", "NumPy, passes")]),
        ("init = lambda worker: np.random.seed(torch.initial_seed() % 2**32)", []),
        ("options = {'persistent_workers': True}", []),
        (
            "get = Data.__getitem__; Data.__getitem__ = lambda self, i: (np.random.seed(i), get(self, i))[1]; init = lambda worker: np.random.seed(7)",
            [],
        ),
    ],
    ids=["generator of the data set", "seeded by number", "seeded well", "persistent", "seeded for each item"],
)
def test_other_ways_to_seed(tmp_path: Path, code: str, expected: list[tuple[str, str]]) -> None:
    """A generator copied into every worker, one seed a worker in every pass; and four ways that are right."""
    assert found(run(tmp_path, code)[0]) == expected
