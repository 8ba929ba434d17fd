"""Copies that are not: who departed, since when, how sure. Looks as the agent puts them together, without a process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from truerun.core.finding import Confidence, Severity
from truerun.monitoring.rank_look import REPLICATED, UNPROMISED, UNWRAPPED, WRAPPED, Copies, RankLook, parties
from truerun.monitoring.ranks_differ import HELD_TOGETHER, SEEN_APART, CopiesWatch, check_steps

NAMES = ("first.weight", "first.bias", "last.weight")


def look(rank: int, *, why: str = WRAPPED, scale: float = 1.0, **changes) -> RankLook:
    """A look of three tensors, two values of each; `scale` changes what is left of the gradient when the step begins."""
    raw = np.array([0.5, -0.25, 3.0, 0.125, -1.0, 2.0])
    values = {"p0": np.arange(6.0), "r": raw, "g": raw * scale, "p": np.arange(6.0) - 0.1 * raw * scale}
    sums = {name: np.array([11.0, 12.0, 13.0]) + (scale != 1) for name in ("g", "p", "s")}
    return RankLook(rank=rank, sums=sums, values=values, tensor_of=np.array([0, 0, 1, 1, 2, 2.0]), why=why, **changes)


def summed(seen: RankLook, name: str, tensor: int) -> RankLook:
    """*seen* with another checksum of one tensor, and the values looked at as they were."""
    sums = {key: value.copy() for key, value in seen.sums.items()}
    sums[name][tensor] += 1
    return replace(seen, sums=sums)


def watch(ranks: int, **learned) -> CopiesWatch:
    return CopiesWatch(Copies(kind="AdamW", names=NAMES, ranks=tuple(range(ranks))), **learned)


def held(ranks: int, *, looks: int = 3, **kinds) -> CopiesWatch:
    """A watch that has seen *looks* equal looks, the last at step 10."""
    seen = watch(ranks)
    for step in range(11 - looks, 11):
        assert seen.check(step, [look(rank, **kinds) for rank in range(ranks)], {}) == ()
    return seen


def test_one_of_four_scales_its_gradients():
    """One rank multiplies its gradients after they were averaged: the majority names it, and the step."""
    (finding,) = held(4).check(12, [look(0), look(1), look(2, scale=0.99), look(3)], {})
    assert (finding.severity, finding.confidence) == (Severity.ERROR, Confidence.CERTAIN)
    assert (finding.location.step, finding.location.rank) == (12, 2)
    assert "gradients of first.weight, first.bias, last.weight (3 of 3 tensors)" in finding.message
    assert "between 10 and 12" in finding.message
    assert "3 on rank 0, 3 on rank 1, 2.97 on rank 2" in finding.message
    assert finding.evidence["parties"] == [[0, 1, 3], [2]]


def test_copies_that_agree_are_silent():
    """The accept twin, for a thousand looks."""
    assert held(4, looks=1000).together == 1000


@pytest.mark.parametrize("ranks", [2, 4])
def test_one_changed_weight_that_no_value_shows(ranks):
    """A single weight of one tensor is edited on rank 1, not among the values: the checksum has every bit."""
    looks = [look(rank) if rank != 1 else summed(look(1), "p", 2) for rank in range(ranks)]
    (finding,) = held(ranks).check(11, looks, {})
    assert (finding.subject.name, finding.subject.key) == ("parameters", "last.weight")
    assert finding.location.rank == (1 if ranks == 4 else None)
    assert ("Nothing seen tells" in finding.message) == (ranks == 2)


def test_two_ranks_and_other_evidence():
    """Of two ranks, one is named where something else was found of it since they were last the same; not for older things."""
    looks = [look(0), summed(look(1), "p", 2)]
    told = {1: (11, "its update is not the optimizer's")}
    (finding,) = held(2).check(11, looks, told)
    assert finding.location.rank == 1
    assert "its update is not the optimizer's" in finding.message
    (finding,) = held(2).check(11, looks, {1: (9, "something old")})
    assert finding.location.rank is None


def test_two_ranks_one_clips():
    """deepspeed-1801: clipping on one rank only. The averaged gradients were the same, so the odd one is told apart."""
    (finding,) = held(2).check(11, [look(0), look(1, scale=0.5)], {})
    assert finding.location.rank == 1
    assert "rank 1 alone changes its gradients" in finding.message
    (finding,) = held(2, scale=0.5).check(11, [look(0, scale=0.5), look(1)], {})
    assert "rank 1 alone does not change its gradients" in finding.message


def test_two_of_four_against_two():
    """No majority, no name."""
    looks = [look(rank, scale=1 if rank < 2 else 0.5) for rank in range(4)]
    (finding,) = held(4).check(11, looks, {})
    assert (finding.location.rank, finding.evidence["departed"]) == (None, [])


def test_said_once_and_again_when_it_is_known_who():
    """A thousand differing looks give one finding; a second when a rank can be named."""
    seen, looks = held(2), [look(0), summed(look(1), "p", 2)]
    assert len(seen.check(11, looks, {})) == 1
    assert [seen.check(step, looks, {}) for step in range(12, 1000)] == [()] * 988
    assert seen.check(1000, looks, {0: (1000, "it left out a step")})[0].location.rank == 0
    assert seen.check(1001, looks, {0: (1000, "it left out a step")}) == ()


def apart(ranks: int = 2, **changes) -> list[RankLook]:
    """Looks of ranks that each follow their own gradients."""
    looks = [look(rank, scale=1 + rank, **changes) for rank in range(ranks)]
    return [replace(one, values={**one.values, "r": one.values["g"]}) for one in looks]


def test_wrapped_and_never_averaged():
    """DistributedDataParallel was made, and the module inside it is what trains: from the first look on."""
    (finding,) = watch(2).check(1, apart(), {})
    assert finding.severity is Severity.ERROR
    assert "call the DistributedDataParallel wrapper" in (finding.remedy or "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"waiting": True}, Severity.WARNING),
        ({"waiting": True, "averaged": 2}, None),
        ({"averaged": 2}, Severity.ERROR),
        ({"hooks": ("post_localSGD_hook",)}, None),
        ({"hooks": ("fp16_compress_hook",)}, Severity.ERROR),
        ({"hooks": ("my_hook",)}, Severity.WARNING),
        ({"why": UNWRAPPED}, Severity.WARNING),
        ({"why": REPLICATED}, Severity.WARNING),
    ],
    ids=str,
)
def test_how_sure_depends_on_what_was_promised(changes, expected):
    """Local SGD, hooks of the program's own, wrappers that are gone: silence or a warning. A promise that is not kept: an error."""
    seen = watch(2)
    found = [finding for step in range(SEEN_APART) for finding in seen.check(step + 1, apart(**changes), {})]
    assert [finding.severity for finding in found] == ([] if expected is None else [expected])


def test_a_hook_on_one_rank_only_excuses_nothing():
    """Local SGD on one rank alone is no method."""
    one, other = apart()
    assert watch(2).check(1, [one, replace(other, hooks=("post_localSGD_hook",))], {})[0].severity is Severity.ERROR


def test_unequal_join():
    """After ranks took different numbers of steps inside join(), optimizer state differs: a warning that says so."""
    (finding,) = held(2).check(11, [look(0), replace(look(1, scale=2), base=7)], {})
    assert finding.severity is Severity.WARNING
    assert "join()" in finding.message


def test_rounding_is_a_warning():
    """Two kinds of processors may round differently: the values differ in their last bits and nowhere more."""
    (finding,) = held(2).check(11, [look(0), look(1, scale=1 + 2e-7)], {})
    assert finding.severity is Severity.WARNING
    (finding,) = held(2).check(11, [look(0), look(1, scale=1 + 1e-4)], {})
    assert finding.severity is Severity.ERROR


def test_nothing_promised_and_kept_by_hand():
    """Ranks that average by hand and stop: a warning; an error where the approved run kept it up; silence for a few equal looks."""
    looks = apart(why=UNPROMISED)
    assert held(2, looks=HELD_TOGETHER, why=UNPROMISED).check(11, looks, {})[0].severity is Severity.WARNING
    assert held(2, looks=3, why=UNPROMISED).check(11, looks, {}) == ()
    approved = watch(2, learned={"together": True}, learned_from="run 7 (entry 40)", same_program=True)
    (finding,) = approved.check(1, looks, {})
    assert finding.severity is Severity.ERROR
    assert "run 7 (entry 40)" in finding.message


def test_nothing_promised_and_apart_from_the_start():
    """The same weights at first and each rank alone since: a warning after a while; silence where the approved run did so, or averages."""
    lonely = watch(2)
    found = [finding for step in range(1, 100) for finding in lonely.check(step, apart(why=UNPROMISED), {})]
    assert [(finding.severity, finding.location.step) for finding in found] == [(Severity.WARNING, SEEN_APART)]
    for quiet in (watch(2, learned={"apart": True}), watch(2)):
        averaged = 0 if quiet.learned else 1
        assert all(quiet.check(step, apart(why=UNPROMISED, averaged=averaged), {}) == () for step in range(1, 100))


def test_independent_models_are_nobodys_business():
    """A sweep: other weights from the first look on."""
    sweep = watch(2)
    looks = [replace(one, values={**one.values, "p0": one.values["p0"] + one.rank}) for one in apart(why=UNPROMISED)]
    assert all(sweep.check(step, looks, {}) == () for step in range(1, 100))


def test_not_a_number_is_the_same_everywhere():
    """NaN on all ranks is another rule's; zero and minus zero are not the same bits."""
    looks = [replace(look(rank), values={name: np.full(6, np.nan) for name in ("p0", "r", "g", "p")}) for rank in (0, 1)]
    assert held(2).check(11, looks, {}) == ()
    zeros = [replace(look(r), values={n: np.full(6, (0.0, -0.0)[r]) for n in ("p0", "r", "g", "p")}) for r in (0, 1)]
    assert parties(zeros, "g") == [[0], [1]]


def test_one_rank_takes_more_steps():
    """A step() that runs on one rank only; the twin ends one step early, as a rank that fails does."""
    (finding,) = check_steps({0: 100, 1: 120}, "AdamW")
    assert (finding.severity, finding.location.step) == (Severity.WARNING, 101)
    assert check_steps({0: 100, 1: 99}, "AdamW") == ()
