"""Evidence that a curve changed at some block, with a bound on false alarms that holds at every moment of a run of any length.

An e-detector after Shin, Ramdas and Rinaldo (arXiv:2203.03532): for every block a bet that the curve changed there, up or
down, by one of several sizes. A bet's wealth is multiplied by exp(tilt * score) over a bound on the mean of that factor in
healthy runs, the score being the clipped innovation of the healthy model (`healthy_curves`), so wealth does not grow there.
Tilts come from the past alone. The wealths are summed with weights that add up to at most one, part of which is kept for
recorded events, so the sum is an e-process: it passes 1/alpha in a share of at most alpha of healthy runs, ever (Ville), and
since it lies below the unweighted (Shiryaev-Roberts) sum, the average run length is at least 1/alpha blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from truerun.monitoring.healthy_curves import CLIP, TILT_CLIP, TILTS, HealthyModel
from truerun.monitoring.observation import Numbers

ALPHA = 0.004
SIZES = (0.3, 0.7, 1.4, 2.8)
MOST_ANCHORS = 8
BEFORE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    A change that is told: `block` is the likeliest first one (from 0), `earliest` and `latest` hold nine tenths of the evidence.

    `shift` is the mean residual since then less that before (natural logarithm where the model is logarithmic); `at` is the
    block whose value told it; `anchored` says that a recorded event points to `block`.
    """

    block: int
    earliest: int
    latest: int
    shift: float
    at: int
    evidence: float
    anchored: bool


class ChangeEvidence:
    """Takes the blocks of one curve, one after another; says once that it changed."""

    def __init__(self, model: HealthyModel, alpha: float = ALPHA) -> None:
        self.model = model
        self.alpha = alpha
        self.told = False
        self.evidence = 0.0
        self._level, self._variance = 0.0, model.start
        self._residuals: list[float] = []
        blocks, shapes = len(model.trend), 2 * len(SIZES)
        self._wealth = np.zeros((blocks, shapes))  # logarithms
        self._absorbed = np.zeros(blocks)  # how much of a change at each block the level has taken in by now
        self._weights = np.full(blocks, 0.5 / blocks)
        self._anchors: list[int] = []
        self._sizes = np.array(SIZES)

    @property
    def blocks(self) -> int:
        """How many blocks have been taken."""
        return len(self._residuals)

    def anchor(self, block: int) -> None:
        """Something was recorded that may change the curve from *block* on; that must be said before the block is taken."""
        if self.blocks <= block < len(self._weights) and block not in self._anchors:
            # A program in which it happens all the time is not explained by any one of them.
            if len(self._anchors) < MOST_ANCHORS:
                self._weights[block] += 0.5 ** (2 + len(self._anchors))
            self._anchors.append(block)

    def take(self, mean: float) -> Change | None:
        """The next block's *mean*; a change, once, when the evidence for one passes 1/alpha."""
        j = self.blocks
        if j >= len(self.model.trend):
            return None
        residual = mean - float(self.model.trend[j])
        self._residuals.append(residual)
        noise = float(self.model.noise[j])
        total = self._variance + noise
        if math.isfinite(residual):
            error = (residual - self._level) / math.sqrt(total)
            self._bet(j, error, math.sqrt(total))
            gain = self._variance / total
            self._level += gain * math.sqrt(total) * min(max(error, -CLIP), CLIP)
            self._absorbed[: j + 1] += gain * (1 - self._absorbed[: j + 1])
            self._variance *= 1 - gain
        self._variance += self.model.wander * noise
        if self.told or self.evidence < 1 / self.alpha:
            return None
        self.told = True
        return self._change(j)

    def _bet(self, j: int, error: float, deviation: float) -> None:
        usual = math.sqrt(float(np.median(self.model.noise)))
        tilts = np.minimum((1 - self._absorbed[: j + 1])[:, None] * self._sizes * usual / deviation, TILTS[-1])
        score = min(max(error, -TILT_CLIP), TILT_CLIP)
        up = tilts * score - np.interp(tilts, TILTS, self.model.up)
        down = -tilts * score - np.interp(tilts, TILTS, self.model.down)
        self._wealth[: j + 1] += np.concatenate([up, down], axis=1)
        self.evidence = float(self._shares(j).sum())

    def _shares(self, j: int) -> Numbers:
        """Each block's part of the evidence."""
        wealth: Numbers = np.exp(np.minimum(self._wealth[: j + 1], 600.0)).mean(axis=1)
        return self._weights[: j + 1] * wealth

    def _change(self, j: int) -> Change:
        shares = self._shares(j)
        ordered = np.cumsum(shares) / shares.sum()
        block = int(np.argmax(shares))
        residuals = np.array(self._residuals)
        before = residuals[max(0, block - BEFORE) : block]
        since = residuals[block:]
        known = np.isfinite(before).any()
        return Change(
            block=block,
            earliest=int(np.searchsorted(ordered, 0.05)),
            latest=int(np.searchsorted(ordered, 0.95)),
            shift=float(np.nanmean(since) - (np.nanmean(before) if known else 0.0)),
            at=j,
            evidence=self.evidence,
            anchored=block in self._anchors,
        )
