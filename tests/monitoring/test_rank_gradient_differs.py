"""Duplicate batches: the same batch, the same gradient; who is in every pair that fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from truerun.core.finding import Confidence, Severity
from truerun.monitoring.rank_gradient_differs import Answer, AuditWatch


def answer(rank: int, factor: float = 1.0, step: int = 5, **changes) -> Answer:
    """What *rank* made of the batch; *factor* scales its gradient."""
    values = np.array([[0.5, -1.0], [2.0, 0.25]]) * factor
    sums = np.array([11.0, 12.0]) + (factor != 1)
    usual = Answer(
        rank=rank,
        step=step,
        rows="ab",
        inputs=(1, 2),
        random=False,
        names=("first.weight", "last.weight"),
        parameters=np.array([7.0, 8.0]),
        sums=sums,
        values=values,
    )
    return replace(usual, **changes)


def test_a_rank_that_scales_its_loss_is_in_every_pair():
    """Rank 1 of three sends 0.99 of its gradient: the first audit finds the pair, the second the rank, later ones add nothing."""
    audits = AuditWatch()
    (first,) = audits.check(answer(0), answer(1, 0.99))
    assert (first.severity, first.confidence, first.location.rank) == (Severity.ERROR, Confidence.CERTAIN, None)
    assert "ranks 0 and 1 were given the same batch" in first.message
    assert audits.check(answer(0), answer(2)) == ()
    (second,) = audits.check(answer(1, 0.99, step=9), answer(2, step=9))
    assert (second.location.rank, second.location.step) == (1, 9)
    assert audits.check(answer(0), answer(1, 0.99)) == ()


def test_now_and_then_only():
    """It alters one gradient and not the next: an audit that passes clears nobody, so no honest rank is named."""
    audits = AuditWatch()
    assert audits.check(answer(0), answer(1, 0.99))[0].location.rank is None
    assert audits.check(answer(1), answer(2)) == ()
    assert audits.check(answer(0), answer(1, 0.99)) == ()
    assert audits.check(answer(1, 0.99), answer(2))[0].location.rank == 1


def test_honest_ranks():
    """The accept twin: a thousand audits that pass, tensors without a gradient among them."""
    audits = AuditWatch()
    none = {"sums": np.array([-1.0, 12.0]), "values": np.array([[np.nan, np.nan], [2.0, 0.25]])}
    for _ in range(500):
        assert audits.check(answer(0), answer(1)) == ()
        assert audits.check(answer(0, **none), answer(1, **none)) == ()
    assert (audits.agreed, audits.unclear) == (1000, 0)


@pytest.mark.parametrize(
    "changes", [{"rows": "cd"}, {"inputs": (1, 3)}, {"parameters": np.array([7.0, 9.0])}, {"names": ("a", "b")}], ids=str
)
def test_not_the_same_batch_after_all(changes):
    """A rank did not get the secret in time, augments its inputs by chance, or had drifted before: nothing is said."""
    audits = AuditWatch()
    assert audits.check(answer(0), answer(1, 0.5, **changes)) == ()
    assert audits.unclear == 1


def test_dropout_is_said_once():
    """Random numbers between batch and gradient: a note and no more."""
    audits = AuditWatch()
    (note,) = audits.check(answer(0, random=True), answer(1, 0.5, random=True))
    assert note.severity is Severity.NOTE
    assert audits.check(answer(0, random=True), answer(1, 0.5, random=True)) == ()


def test_rounding_is_a_warning():
    """Kernels that add in any order: the last bits differ."""
    (finding,) = AuditWatch().check(answer(0), answer(1, 1 + 1e-6))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
