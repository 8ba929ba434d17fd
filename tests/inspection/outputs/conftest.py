"""Made-up outputs: labels, predictions and groups by a seed, with one thing spoiled."""

import numpy as np
import pytest

from truerun.core.declaration import OutputsSection
from truerun.inspection.outputs.counts import count_outputs

SECTION = OutputsSection(predictions="predictions.parquet", groups=("sex",), tolerance=0.05)


def columns(*, n=2000, classes=5, accuracy=0.9, seed=0, noise=0, spoil=None, worse=0.5, ids=True):
    """Predictions right with *accuracy*; examples that `spoil(label, sex)` chooses are made wrong with probability *worse*."""
    base = np.random.default_rng(seed)
    label = base.integers(0, classes, n)
    sex = base.choice(["f", "m"], n)
    right = base.random(n) < accuracy
    jitter = np.random.default_rng([seed, noise])
    if noise:
        right ^= jitter.random(n) < 0.02
    if spoil is not None:
        chosen = np.array([spoil(int(a), str(b)) for a, b in zip(label, sex, strict=True)])
        right &= ~(chosen & (jitter.random(n) < worse))
    prediction = np.where(right, label, (label + 1) % classes)
    table = {"label": label.tolist(), "prediction": prediction.tolist(), "sex": sex.tolist()}
    return {**table, "id": [f"e{i}" for i in range(n)]} if ids else table


@pytest.fixture
def outputs():
    """Makes the counts of a made-up run."""

    def make(name="run r2", section=SECTION, **options):
        return count_outputs(columns(**options), section, name=name)

    return make


@pytest.fixture
def table():
    """Makes the columns of a made-up run."""
    return columns


@pytest.fixture
def section():
    return SECTION
