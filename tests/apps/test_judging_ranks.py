"""The ranks judge with frames as they arrive: in any order, late, malformed, and from a launch after the launch."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Optimizer, Process
from truerun.apps.judging.ranks import RanksJudge
from truerun.apps.watched_run import WatchRequest
from truerun.core.finding import Severity
from truerun.monitoring.hyperparameter_drift import HyperparameterWatch
from truerun.monitoring.observation import OptimizerSeen
from truerun.monitoring.reference import Reference
from truerun.monitoring.step_skipped import StepPattern


def packed(*numbers: float) -> tuple[str, bytes]:
    return "f8", struct.pack(f"<{len(numbers)}d", *numbers)


def process(rank: int, names: tuple[str, ...] = ("first", "last")) -> Process:
    seen = OptimizerSeen(
        number=0,
        rank=rank,
        kind="AdamW",
        rule="AdamW",
        obstacle=None,
        names=names,
        sizes=(8, 4),
        counts=(4, 4),
        types=("float32", "float32"),
        shape=(2,),
    )
    known = Process(100 + rank, {}, rank=rank)
    known.optimizers[0] = Optimizer(seen, HyperparameterWatch("AdamW", "AdamW", rank, Reference()), StepPattern("AdamW", rank))
    return known


def parallel(rank: int, why: str = "ddp", world: int = 2, local: tuple[int, int] | None = None) -> Frame:
    ranks = list(range(world))
    header = {
        "optimizer": 0,
        "rank": rank,
        "world": world,
        "local": list(local or (0, world)),
        "launch": "here",
        "peers": ranks,
        "hooks": [],
    }
    return Frame({"kind": "parallel", **header, "copies": [[ranks, why]], "of": [0, 0]})


def shown(step: int, *, last: float = 5.0, **changes: Any) -> Frame:
    """A look at *step*; *last* is the checksum of the last tensor's parameters."""
    header = {
        "kind": "ranks",
        "optimizer": 0,
        "step": step,
        "own_step": step,
        "era": 0,
        "base": 0,
        "mark": f"{step:08x}",
        "waiting": False,
        "averaged": 0,
        "tensors": [0, 1],
        "picks": [1],
        **changes,
    }
    values = {name: packed(1.0, 2.0) for name in ("p0", "r", "g", "p")}
    return Frame(header, {**values, "g.sum": packed(3, 4), "p.sum": packed(3, last), "s.sum": packed(1, 2)})


@pytest.fixture
def judge() -> RanksJudge:
    return RanksJudge(WatchRequest(command=("python",), cwd=Path(), folder=Path()))


def feed(judge: RanksJudge, ranks: list[Process], steps: range, wrong: int | None = None, first_wrong: int = 0) -> list[Any]:
    found: list[Any] = []
    for step in steps:
        for known in ranks:
            odd = known.rank == wrong and step >= first_wrong
            found += judge.take(known, shown(step, last=6.0 if odd else 5.0))
    return found


def started(judge: RanksJudge, world: int = 2, why: str = "ddp") -> list[Process]:
    ranks = [process(rank) for rank in range(world)]
    for known in ranks:
        assert judge.take(known, parallel(known.rank or 0, why, world)) == ()
    return ranks


def test_a_rank_far_ahead_is_compared_when_the_other_arrives(judge):
    """Rank 0 is fifty looks ahead; the first that differs is named all the same, and only once the other has shown its own."""
    ranks = started(judge)
    assert feed(judge, ranks[:1], range(1, 51)) == []
    (finding,) = feed(judge, ranks[1:], range(1, 51), wrong=1, first_wrong=30)
    assert (finding.location.step, finding.evidence["last_equal"]) == (30, 29)


def test_the_last_look_is_judged_at_the_end(judge):
    """The run ends right after the look that differs."""
    ranks = started(judge)
    assert feed(judge, ranks, range(1, 6), wrong=1, first_wrong=5) == []
    (finding,) = judge.finish(ranks)
    assert finding.location.step == 5


def test_clean_looks(judge):
    """The accept twin."""
    ranks = started(judge, 4)
    assert feed(judge, ranks, range(1, 200)) == []
    assert judge.finish(ranks) == ()
    assert judge.learned() == {"together": True, "apart": False}


def test_four_ranks_name_the_one(judge):
    ranks = started(judge, 4)
    (finding,) = feed(judge, ranks, range(1, 20), wrong=2, first_wrong=7)
    assert (finding.severity, finding.location.step, finding.location.rank) == (Severity.ERROR, 7, 2)


def test_other_tensors_are_not_compared(judge):
    """Pipeline stages: each rank's optimizer holds tensors of other names."""
    ranks = [process(0, ("first", "last")), process(1, ("third", "fourth"))]
    for known in ranks:
        judge.take(known, parallel(known.rank or 0))
    assert feed(judge, ranks, range(1, 50), wrong=1) == []
    assert judge.finish(ranks) == ()


def test_coordinates_that_are_not_the_same_are_not_compared(judge):
    """One rank missed the agent's answer and looks elsewhere: nothing to compare, nothing to say."""
    zero, one = started(judge)
    for step in range(1, 20):
        assert judge.take(zero, shown(step)) == ()
        assert judge.take(one, shown(step, last=9.0, mark="other")) == ()
    assert judge.finish([zero, one]) == ()


def test_a_launch_after_the_launch(judge):
    """A shell script starts torchrun twice: the second launch's ranks are compared with each other, not with the first's."""
    ranks = started(judge)
    assert feed(judge, ranks[:1], range(1, 9)) == []
    for known in ranks:
        known.open = False
    again = started(judge)
    assert feed(judge, again[1:], range(1, 9), wrong=1) == []
    assert judge.finish(again) == ()


@pytest.mark.parametrize(
    "changes", [{"tensors": [0]}, {"picks": []}, {"picks": [0, 1, 1]}, {"tensors": [0, 7]}, {"own_step": "x"}]
)
def test_a_frame_that_lies_about_its_size(judge, changes):
    """A process sends what no sense sends: an error that the observer takes for not received, and none later."""
    ranks = started(judge)
    with pytest.raises((ValueError, IndexError, KeyError, TypeError)):
        judge.take(ranks[0], shown(1, **changes))
    assert feed(judge, ranks, range(2, 9)) == []
    assert judge.finish(ranks) == ()


def test_memory_is_bounded(judge):
    """A rank whose partner never shows anything does not fill the agent's memory."""
    ranks = started(judge)
    feed(judge, ranks[:1], range(1, 5000))
    (launch,) = judge.launches.values()
    assert len(launch.looks) <= 256


def test_two_machines(judge):
    """Ranks 2 and 3 of four run here: they are compared with each other, and nobody waits for the other two."""
    ranks = [process(rank) for rank in (2, 3)]
    for known in ranks:
        judge.take(known, parallel(known.rank or 0, world=4, local=(2, 2)))
    (finding,) = feed(judge, ranks, range(1, 20), wrong=3, first_wrong=7)
    assert finding.evidence["ranks"] == [2, 3]


def program(rank: int, code: str = "aa", world: int = 4) -> Frame:
    header = {"kind": "program", "rank": rank, "launch": "here", "local": [0, world]}
    return Frame({**header, "arguments": ["train.py"], "code": {"__main__": code}, "settings": {"threads": 1}})


@pytest.mark.parametrize("odd", [3, None])
def test_the_last_rank_runs_other_code(judge, odd):
    """Programs are compared once all ranks of the machine have shown theirs, so that the last is not left out."""
    found: list[Any] = []
    for rank in range(4):
        known = process(rank)
        judge.take(known, program(rank, "bb" if rank == odd else "aa"))
        found += judge.take(known, parallel(rank, world=4))
    assert [(finding.rule, finding.location.rank) for finding in found] == ([] if odd is None else [("rank-settings-differ", 3)])
