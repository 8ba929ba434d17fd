"""loader-drift: what no class promises is measured by the approved run: filtering data sets, own samplers, shuffle switched off."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.monitoring.loaders import ITEMS, data, learn, loader
from tests.monitoring.loop import watching
from torch.utils.data import RandomSampler, Sampler, Subset

from truerun.apps.watched_run import DeclaredData
from truerun.core.finding import Severity
from truerun.monitoring.loader_drift import Habits, parse_habits
from truerun.monitoring.reference import Reference

DATA = data()


class Own(Sampler):
    """A sampler of the program's own; gives all of its list."""

    def __init__(self, indices):
        self.indices = list(indices)

    def __iter__(self):
        return iter(self.indices)

    def __len__(self):
        return len(self.indices)


APPROVED = {
    "shuffled": lambda: loader(DATA),
    "own": lambda: loader(DATA, sampler=Own(reversed(range(ITEMS)))),
    "with replacement": lambda: loader(DATA, sampler=RandomSampler(DATA, replacement=True)),
    "batch sampler": lambda: loader(DATA, batch_sampler=[range(k, k + 10) for k in range(0, ITEMS, 10)][::-1]),
}
CHANGED = {
    "shuffled": [
        (lambda: loader(DATA, shuffle=False), {"sampler", "ordered"}),
        (lambda: loader(DATA, batch_size=8), {"batch_size"}),
        (lambda: loader(DATA, drop_last=True), {"drop_last", "covered", "given"}),
        (lambda: loader(Subset(DATA, range(190))), {"dataset", "items"}),
        (lambda: loader(data(190)), {"items"}),
    ],
    "own": [
        (lambda: loader(DATA, sampler=Own(k for k in reversed(range(ITEMS)) if k % 20)), {"covered", "given"}),
        (lambda: loader(DATA, sampler=Own([*reversed(range(10, ITEMS)), *range(10, 20)])), {"covered"}),
        (lambda: loader(DATA, sampler=Own(range(ITEMS))), {"ordered"}),
    ],
    "batch sampler": [
        (lambda: loader(DATA, batch_sampler=[range(k, k + 10) for k in range(0, 150, 10)][::-1]), {"covered", "given"})
    ],
}


def learned(tmp_path, make, declared=()):
    """What a run with the loader that *make* makes, and one for evaluation, leaves for later runs."""
    with watching(tmp_path / "approved", data=declared) as observer:
        learn(make(), epochs=2, after_epoch=lambda _: list(loader(data(64), shuffle=False)))
    assert observer.findings == ()
    return observer.effective["learned"]


def against(tmp_path, known, make, declared=(), **reference):
    """The loader-drift findings of a run that is compared with what is *known*."""
    reference = Reference(learned=known, learned_from="run r1 (entry 7)", **reference)
    with watching(tmp_path / "now", reference, data=declared) as observer:
        learn(make(), epochs=2, after_epoch=lambda _: list(loader(data(64), shuffle=False)))
    assert {finding.rule for finding in observer.findings} <= {"loader-drift"}
    return observer.findings


@pytest.mark.parametrize("name", CHANGED)
def test_changed_loaders(tmp_path, name):
    """Same inputs, other loader: an error for each thing that is not as in the approved run, said once and not in each pass."""
    known = learned(tmp_path, APPROVED[name])
    for make, expected in CHANGED[name]:
        found = against(tmp_path, known, make, same_program=True, same_lock=True)
        assert {finding.subject.key for finding in found} == expected
        assert all(finding.severity is Severity.ERROR and "times" not in finding.evidence for finding in found)
        assert all("run r1 (entry 7)" in finding.message for finding in found)


@pytest.mark.parametrize("name", APPROVED)
def test_unchanged_loaders(tmp_path, name):
    """The same loaders again: nothing to say, whatever else may have changed."""
    known = learned(tmp_path, APPROVED[name])
    assert against(tmp_path, known, APPROVED[name], same_program=True, same_lock=True) == ()


def test_weight_of_a_difference(tmp_path):
    """Shuffle is off: an error with the same inputs, a warning when only configuration changed, a note when the program did."""
    known = learned(tmp_path, APPROVED["shuffled"])
    for reference, severity in (
        ({"same_program": True, "same_lock": True}, Severity.ERROR),
        ({"same_program": True}, Severity.WARNING),
        ({}, Severity.NOTE),
    ):
        found = against(tmp_path, known, lambda: loader(DATA, shuffle=False), **reference)
        assert {finding.severity for finding in found} == {severity}


def test_resumed_in_the_middle_of_an_epoch(tmp_path):
    """A run that goes on from a checkpoint skips what it had seen: noted, not held against it. One that always loads is judged."""
    known = learned(tmp_path, APPROVED["own"])
    reference = Reference(learned=known, learned_from="run r1", same_program=True, same_lock=True)
    rest = [k for k in reversed(range(ITEMS)) if k < 120]
    for loads, severity in ((False, Severity.NOTE), (True, Severity.ERROR)):
        known["batches"]["loaded"] = loads
        with watching(tmp_path / str(loads), reference) as observer:
            torch.nn.Linear(2, 2).load_state_dict(torch.nn.Linear(2, 2).state_dict())
            learn(loader(DATA, sampler=Own(rest)), epochs=1)
        assert {(finding.subject.key, finding.severity) for finding in observer.findings} == {
            ("covered", severity),
            ("given", severity),
        }


def test_data_that_grew(tmp_path):
    """The declared table has grown by a twentieth and so has the data set; one that did not follow is another matter."""
    path = tmp_path / "t.csv"
    declared = DeclaredData(name="train", files=(path,), rows=ITEMS)
    known = learned(tmp_path, APPROVED["shuffled"], (declared,))
    assert known["batches"]["rows"] == {"train": ITEMS}
    grown = dataclasses.replace(declared, rows=210)
    assert against(tmp_path, known, lambda: loader(data(210)), (grown,), same_program=True) == ()
    (finding,) = against(tmp_path, known, lambda: loader(data(185)), (grown,), same_program=True)
    assert (finding.subject.key, finding.severity) == ("items", Severity.NOTE)


def test_what_an_earlier_run_recorded_is_read_with_care():
    """Values of other kinds, from another version or a forged record, count as not seen."""
    assert parse_habits({"items": 5, "ordered": 1, "sampler": None, "batch_size": True, "new": 3}) == Habits(items=5)
    assert parse_habits({"items": "5", "ordered": True, "sampler": "S"}) == Habits(ordered=True, sampler="S")
