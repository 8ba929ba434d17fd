"""Scans of handwritten digits: real images of scikit-learn's digits, each scanned anew with a little turn, shift and grain.

Scanning lets a team add as many rows as it likes without repeating one; no image of the holdout is ever scanned for
training. The ways in which a lot goes wrong are the ones of real labelling work: two piles swapped, one digit taken
for another, labels off by one. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from truerun.core.errors import MissingExtraError

PIXELS = tuple(f"p{number:02d}" for number in range(64))
PIXEL_MAX = 16
HOLDOUT_IMAGES = 597


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """Rows added together: images (n, 64) as small integers, labels (n,) as written down, and true (n,), what they show."""

    images: Any
    labels: Any
    true: Any

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def wrong(self) -> int:
        """How many labels are not what the image shows."""
        return int((self.labels != self.true).sum())


class Scanner:
    """Makes lots of scans from the real images; *random* is a numpy Generator, the only source of chance."""

    def __init__(self, random: Any) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingExtraError(
                "the demo trains on scikit-learn's digits, and scikit-learn is not installed",
                next_step='pip install "truerun[data,torch,demo]"',
            ) from error
        self._random = random
        images, labels = load_digits(return_X_y=True)
        order = random.permutation(len(labels))
        self._images, self._labels = images[order], labels[order]

    def holdout(self) -> Lot:
        """Two scans of each image that is kept for evaluation."""
        return self._scan([*range(HOLDOUT_IMAGES)] * 2)

    def rows(self, count: int, digits: Sequence[int] = tuple(range(10))) -> Lot:
        """*count* scans of images outside the holdout that show one of *digits*, rightly labelled."""
        import numpy as np

        pool: Any = HOLDOUT_IMAGES + np.flatnonzero(np.isin(self._labels[HOLDOUT_IMAGES:], digits))
        return self._scan(pool[self._random.integers(0, len(pool), count)])

    def mixed(self, *lots: Lot) -> Lot:
        """The rows of *lots* in random order."""
        import numpy as np

        order = self._random.permutation(sum(map(len, lots)))
        return Lot(
            images=np.concatenate([lot.images for lot in lots])[order],
            labels=np.concatenate([lot.labels for lot in lots])[order],
            true=np.concatenate([lot.true for lot in lots])[order],
        )

    def _scan(self, numbers: Any) -> Lot:
        import numpy as np
        from scipy import ndimage

        random = self._random
        scans = []
        for image in self._images[numbers].reshape(-1, 8, 8):
            turned = ndimage.rotate(image, random.uniform(-6, 6), reshape=False, order=1)
            moved = ndimage.shift(turned, random.uniform(-0.3, 0.3, 2), order=1)
            grain = random.normal(0, 0.6, moved.shape) * (moved > 0)
            scans.append(np.clip(np.rint(moved + grain), 0, PIXEL_MAX).ravel())
        labels = self._labels[numbers].astype("int64")
        return Lot(images=np.array(scans, dtype="uint8"), labels=labels, true=labels)


def swapped(lot: Lot, first: int, second: int) -> Lot:
    """*lot* with two digits taken for each other."""
    import numpy as np

    labels = np.where(lot.true == first, second, np.where(lot.true == second, first, lot.labels))
    return Lot(images=lot.images, labels=labels, true=lot.true)


def mistaken(lot: Lot, digit: int, taken_for: int) -> Lot:
    """*lot* with every *digit* labelled *taken_for*."""
    import numpy as np

    return Lot(images=lot.images, labels=np.where(lot.true == digit, taken_for, lot.labels), true=lot.true)


def off_by_one(lot: Lot) -> Lot:
    """*lot* with each label one too high, as when one tool counts from 0 and the next from 1; 9 becomes 0."""
    return Lot(images=lot.images, labels=(lot.true + 1) % 10, true=lot.true)


def guessed(lot: Lot, digit: int, guesses: Sequence[int], random: Any) -> Lot:
    """*lot* with every *digit* labelled by chance as one of *guesses*."""
    import numpy as np

    return Lot(images=lot.images, labels=np.where(lot.true == digit, random.choice(guesses, len(lot)), lot.labels), true=lot.true)
