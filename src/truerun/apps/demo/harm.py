"""The two harmful changes: one configuration value and one lot of rows, both of the size that a beginner's slip has.

Every kind and size listed here degrades the demo's training by more than the declared tolerance on its own; a test
trains them all. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from truerun.apps.demo.rows import Lot, Scanner, guessed, mistaken, off_by_one, swapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """A configuration value set to *value*, and the note its author would write."""

    key: str
    value: Any
    note: str


_ANY_OPTIMIZER = (
    Slip(key="training.batch_size", value=512, note="use the memory we have"),
    Slip(key="training.batch_size", value=1024, note="bigger batches run faster"),
    Slip(key="training.epochs", value=2, note="shorter runs while I try things"),
    Slip(key="training.label_smoothing", value=1.0, note="full smoothing"),
    Slip(key="model.dropout", value=0.85, note="keep 85 percent of the units"),
    Slip(key="model.dropout", value=0.9, note="keep 90 percent of the units"),
    Slip(key="model.hidden", value=6, note="smaller model"),
    Slip(key="model.hidden", value=8, note="one unit a pixel row"),
    Slip(key="optimizer.warmup_steps", value=12000, note="warm up for ten epochs (in rows)"),
)
SLIPS: Mapping[str, tuple[Slip, ...]] = {
    "adamw": (
        *_ANY_OPTIMIZER,
        Slip(key="optimizer.lr", value=0.3, note="learning rate as in the SGD paper"),
        Slip(key="optimizer.lr", value=0.6, note="learn faster"),
        Slip(key="optimizer.lr", value=3e-5, note="learning rate for fine-tuning"),
        Slip(key="optimizer.weight_decay", value=10.0, note="stronger regularisation"),
        Slip(key="optimizer.weight_decay", value=5.0, note="stronger regularisation"),
    ),
    "sgd": (
        *_ANY_OPTIMIZER,
        Slip(key="optimizer.lr", value=1.5, note="learn faster"),
        Slip(key="optimizer.lr", value=0.001, note="learning rate as in the Adam paper"),
        Slip(key="optimizer.momentum", value=0.995, note="smoother updates"),
        Slip(key="optimizer.weight_decay", value=0.1, note="regularise as with AdamW"),
        Slip(key="training.clip_norm", value=0.01, note="clip harder"),
        Slip(key="data.pixel_max", value=255.0, note="pixels are bytes"),
    ),
}
LOT_KINDS = ("swapped", "mistaken", "off-by-one", "guessed")


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLot:
    """A lot with erroneous rows among right ones, the kind of error, and the digits it is about."""

    kind: str
    digits: tuple[int, ...]
    lot: Lot


def choose_slip(optimizer: str, random: Any, avoid: frozenset[str] = frozenset()) -> Slip:
    """One slip at random whose key is not in *avoid*."""
    fitting = [slip for slip in SLIPS[optimizer] if slip.key not in avoid]
    keys = sorted({slip.key for slip in fitting})
    key = keys[int(random.integers(len(keys)))]
    choices = [slip for slip in fitting if slip.key == key]
    return choices[int(random.integers(len(choices)))]


def choose_lot(scanner: Scanner, random: Any, kind: str | None = None) -> BadLot:
    """A lot of one kind of error (at random unless *kind* is given): 360 to 440 erroneous rows among 120 to 200 right ones."""
    kind = kind or LOT_KINDS[int(random.integers(len(LOT_KINDS)))]
    wrong, right = int(random.integers(360, 441)), int(random.integers(120, 201))
    order = tuple(int(digit) for digit in random.permutation(10))
    digits = order[: {"swapped": 2, "mistaken": 1, "off-by-one": 2, "guessed": 1}[kind]]
    rows = scanner.rows(wrong, digits)
    if kind == "swapped":
        rows = swapped(rows, *digits)
    elif kind == "mistaken":
        rows = mistaken(rows, digits[0], order[1])
    elif kind == "off-by-one":
        rows = off_by_one(rows)
    else:
        rows = guessed(rows, digits[0], order[1:3], random)
    return BadLot(kind=kind, digits=tuple(sorted(digits)), lot=scanner.mixed(rows, scanner.rows(right)))
