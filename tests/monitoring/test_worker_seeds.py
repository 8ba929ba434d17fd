"""worker-seeds: workers that share random numbers; real workers in a real run are watched in tests/apps/test_loader_workers.py."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from truerun.adapters.pytorch.senses.workers import states
from truerun.core.finding import Severity
from truerun.monitoring.worker_seeds import WorkerSeen, check_passes, check_workers


def worker(number, begun, after, generator="NumPy"):
    return WorkerSeen(
        worker=number, begun={generator: begun, "torch": f"t{number}"}, after={generator: after, "torch": f"t{number}"}
    )


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([("a", "b"), ("a", "b")], [0, 1]),
        ([("a", "b"), ("c", "d"), ("a", "b")], [0, 2]),
        ([("a", "b"), ("c", "d")], None),
        ([("a", "a"), ("a", "a")], None),
        ([("a", "b"), ("a", "c")], None),
    ],
)
def test_shared(workers, expected):
    """Alike before and after drawing is shared; never drawn from, or seeded anew for each item, is not."""
    found = check_workers([worker(number, *states) for number, states in enumerate(workers)], "loader of Digits", 0, 7)
    assert [finding.evidence["workers"] for finding in found] == ([expected] if expected else [])
    assert all((finding.severity, finding.subject.key) == (Severity.ERROR, "NumPy") for finding in found)


@pytest.mark.parametrize(
    ("now", "expected"),
    [([("a", "x"), ("b", "y")], 1), ([("c", "x"), ("d", "y")], 0), ([("a", "x"), ("d", "y")], 0), ([("a", "a"), ("b", "b")], 0)],
)
def test_the_same_in_every_pass(now, expected):
    """`worker_init_fn` seeds with the worker's number: each pass repeats the augmentations of the one before. A warning."""
    before = [worker(0, "a", "x"), worker(1, "b", "y")]
    found = check_passes(before, [worker(number, *states) for number, states in enumerate(now)], "loader of Digits", 0, 7)
    assert len(found) == expected
    assert all(finding.severity is Severity.WARNING for finding in found)


def test_reading_states():
    """Every generator's state shows in its digest, and reading draws from none."""

    class Data:
        def __init__(self):
            self.rng = np.random.default_rng(1)
            self.old = np.random.RandomState(2)
            self.plain = random.Random(3)
            self.torch = torch.Generator().manual_seed(4)

    data = Data()
    names = [
        "NumPy",
        "Python",
        "old of the data set",
        "plain of the data set",
        "rng of the data set",
        "torch",
        "torch of the data set",
    ]
    before = states(data)
    assert sorted(before) == names
    assert states(data) == before
    for draw in (
        np.random.rand,
        random.random,
        data.old.rand,
        data.plain.random,
        data.rng.random,
        lambda: torch.rand(1),
        lambda: torch.rand(1, generator=data.torch),
    ):
        last = states(data)
        draw()
        now = states(data)
        assert sum(now[name] != last[name] for name in names) == 1
