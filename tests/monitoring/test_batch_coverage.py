"""batch-coverage: loaders that drop, repeat, reorder or filter samples, in the real probe; and the honest ones beside them."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from tests.monitoring.loaders import ITEMS, data, learn, loader
from tests.monitoring.loop import watching
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    _utils,
    dataloader,
    random_split,
)

from truerun.apps.judging.batches import BatchesJudge
from truerun.apps.judging.judge import Process
from truerun.apps.watched_run import WatchRequest
from truerun.core.finding import Severity
from truerun.monitoring.batch_coverage import Coverage
from truerun.monitoring.loading import LoaderSeen, PassSeen

DATA = data()
LABELS = DATA.tensors[1].tolist()


def tampered(monkeypatch, change, kind=RandomSampler):
    """An edited torch: the sampler's class gives what *change* makes of what it was to give."""
    original = kind.__iter__
    monkeypatch.setattr(kind, "__iter__", lambda sampler: iter(change(list(original(sampler)))))


def terms(observer, rule="batch-coverage"):
    return {finding.evidence["term"] for finding in observer.findings if finding.rule == rule}


def dropped(indices):
    return [index for index in indices if index % 20]


def repeated(indices):
    return [*indices[:-10], *indices[:10]]


def by_label(indices):
    return sorted(indices, key=lambda index: LABELS[index])


def without_a_class(indices):
    return [index for index in indices if LABELS[index] != 3]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (dropped, {"order", "dropped"}),
        (repeated, {"order", "repeated", "dropped"}),
        (by_label, {"order"}),
        (sorted, {"order"}),
        (without_a_class, {"order", "dropped"}),
    ],
)
def test_tampered_sampler(monkeypatch, tmp_path, change, expected, workers):
    """Somebody edited the cluster's RandomSampler: 5 % dropped, some given twice, sorted by label, sorted, one class filtered."""
    tampered(monkeypatch, change)
    with watching(tmp_path) as observer:
        learn(loader(DATA, num_workers=workers), epochs=1)
    assert terms(observer) == expected
    assert {finding.rule for finding in observer.findings} == {"batch-coverage"}
    assert all(finding.severity is Severity.ERROR for finding in observer.findings)


def test_what_the_findings_say(monkeypatch, tmp_path):
    """The indices, the pass and the step are named, in words and as fields."""
    tampered(monkeypatch, dropped, SequentialSampler)
    with watching(tmp_path) as observer:
        learn(loader(DATA, shuffle=False), epochs=2)
    found = {finding.evidence["term"]: finding for finding in observer.findings}
    assert found["dropped"].location.rows == tuple(range(0, ITEMS, 20))
    assert (found["dropped"].evidence["pass"], found["dropped"].location.step) == (1, 12)
    assert "left out 10 of 200 indices: 0, 20, 40, 60" in found["dropped"].message
    assert found["order"].evidence["position"] == 0
    assert found["dropped"].evidence["times"] == 2


def test_early(monkeypatch, tmp_path):
    """A departure from the order is said when it happens, not at the end of an epoch that may last for days."""
    tampered(monkeypatch, lambda indices: [*indices[:64], *indices[64:][::-1]])
    with watching(tmp_path) as observer:
        learn(itertools.islice(loader(data(3200)), 80), epochs=1)
    (finding,) = observer.findings
    assert finding.evidence["position"] == 64
    assert 5 <= finding.location.step <= 32


HONEST = {
    "shuffled": lambda: loader(DATA),
    "sequential": lambda: loader(DATA, shuffle=False),
    "drop_last": lambda: loader(DATA, drop_last=True),
    "own generator": lambda: loader(DATA, generator=torch.Generator().manual_seed(5)),
    "one by one": lambda: loader(data(20), batch_size=1),
    "more draws than items": lambda: loader(DATA, sampler=RandomSampler(DATA, num_samples=500)),
    "fewer draws than items": lambda: loader(DATA, sampler=RandomSampler(DATA, num_samples=50), drop_last=True),
    "with replacement": lambda: loader(DATA, sampler=RandomSampler(DATA, replacement=True, num_samples=333)),
    "by weight": lambda: loader(DATA, sampler=WeightedRandomSampler(torch.rand(ITEMS), 300)),
    "by weight, each once": lambda: loader(DATA, sampler=WeightedRandomSampler(torch.rand(ITEMS) + 0.1, 100, replacement=False)),
    "random part": lambda: loader(DATA, sampler=SubsetRandomSampler(range(0, ITEMS, 3))),
    "subset": lambda: loader(Subset(DATA, range(7, 90))),
    "random split": lambda: loader(random_split(DATA, [150, 50])[0]),
    "batch sampler": lambda: loader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 24, drop_last=True)),
    "sampler of lists": lambda: loader(DATA, batch_size=None, sampler=BatchSampler(SequentialSampler(DATA), 16, drop_last=False)),
    "share of a rank": lambda: loader(DATA, sampler=DistributedSampler(DATA, 3, 1, seed=4)),
    "share, nothing twice": lambda: loader(DATA, sampler=DistributedSampler(DATA, 3, 2, shuffle=False, drop_last=True)),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_loaders(tmp_path, name):
    """Every sampler of torch in each of its modes, over whole epochs and one that is left half way: nothing to say."""
    torch.manual_seed(11)
    batches = HONEST[name]()
    with watching(tmp_path) as observer:
        learn(batches, after_epoch=getattr(batches.sampler, "set_epoch", None))
        next(iter(batches))
    assert observer.findings == ()


def frames(folder, act):
    """What the sense of batches hands over while *act* runs."""
    kept = []
    with watching(folder) as observer:
        take = observer.take

        def keep(event):
            kept.append(event.frame)
            take(event)

        observer.take = keep
        act()
    return [frame for frame in kept if frame.header["kind"] in BatchesJudge.kinds]


def test_orders_are_foreseen(tmp_path):
    """For every sampler of torch the order was recomputed from the generator's state, or the tests above would show nothing."""
    for name, make in HONEST.items():
        torch.manual_seed(11)
        seen = frames(tmp_path / name, lambda make=make: list(make()))
        assert {frame.header["foreseen"] for frame in seen if frame.header["kind"] == "batches"} == {True}, name


class Curriculum(Sampler):
    """A sampler of the program's own: easy ones first, some of them twice."""

    def __iter__(self):
        return iter([*range(60), *range(120), *range(30, ITEMS)])


class Stream(IterableDataset):
    """Data without indices."""

    def __iter__(self):
        return iter(DATA)


def test_own_samplers_are_free(tmp_path):
    """A curriculum, a batch sampler made of a list, a data set read by name, and a stream promise nothing that could be broken."""

    class Named(torch.utils.data.Dataset):
        def __getitem__(self, key):
            return DATA[int(key[1:])]

    with watching(tmp_path) as observer:
        learn(loader(DATA, sampler=Curriculum()))
        learn(loader(DATA, batch_sampler=[[1, 2, 3], [3, 4], [5]]))
        learn(loader(Named(), sampler=[f"r{k}" for k in range(40)]))
        learn(loader(Stream(), shuffle=False))
    (note,) = observer.findings
    assert (note.severity, note.subject.key) == (Severity.NOTE, "unindexed")
    assert "Could not tell whether the loader of tests.monitoring.test_batch_coverage.Stream" in note.message


def test_eval_in_the_middle_of_an_epoch(tmp_path):
    """Two loaders take turns, the other one over and over within one epoch of the first; another epoch is left on purpose."""
    held_out = loader(data(64), shuffle=False)

    def alternating(batches):
        for number, batch in enumerate(batches):
            yield batch
            if number % 5 == 0:
                list(held_out)

    with watching(tmp_path) as observer:
        batches = loader(DATA)
        learn(alternating(batches), epochs=1)
        for number, _ in enumerate(batches):
            if number == 3:
                break
        learn(alternating(batches), epochs=1)
    assert observer.findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"persistent_workers": True}, {"in_order": False}], ids=str)
def test_workers(tmp_path, arguments):
    """Two worker processes, new for each epoch or kept, in order or not: indices drawn ahead are not taken for given ones."""
    batches = loader(DATA, num_workers=2, **arguments)
    with watching(tmp_path) as observer:
        learn(batches, epochs=2)
        next(iter(batches))
        learn(batches, epochs=1)
    assert observer.findings == ()


def shares(rank, seed=0):
    return DistributedSampler(DATA, 2, rank, seed=seed)


def test_epoch_is_never_set(tmp_path):
    """Each pass of a distributed run has the same order, because nobody called set_epoch: a warning. Whoever does is left alone."""
    with watching(tmp_path / "forgotten") as observer:
        learn(loader(DATA, sampler=shares(0)))
    (finding,) = observer.findings
    assert (finding.severity, finding.evidence["term"], finding.evidence["pass"]) == (Severity.WARNING, "epoch", 2)
    sampler = shares(0)
    with watching(tmp_path / "called") as observer:
        learn(loader(DATA, sampler=sampler), epochs=3, after_epoch=sampler.set_epoch)
        learn(loader(DATA, sampler=DistributedSampler(DATA, 2, 1, shuffle=False)), epochs=3)
    assert observer.findings == ()


@pytest.mark.parametrize(("seeds", "expected"), [((0, 0), []), ((0, 1), ["shares"])])
def test_shares_of_two_ranks(tmp_path, seeds, expected):
    """Two ranks whose samplers were given different seeds read some samples twice and others never; with one seed they share."""
    judge = BatchesJudge(WatchRequest(command=("python",), cwd=tmp_path, folder=tmp_path))
    found = []
    for rank, seed in enumerate(seeds):
        known = Process(100 + rank, {"rank": str(rank)})
        for frame in frames(tmp_path / str(rank), lambda rank=rank, seed=seed: list(loader(DATA, sampler=shares(rank, seed)))):
            found += judge.take(known, frame)
    assert [finding.evidence["term"] for finding in found] == expected


def test_generators_are_left_alone(tmp_path):
    """With and without the probe: the same losses, and the same next number from every generator. Afterwards torch is as it was."""

    def run():
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002 (the global state is what is tested)
        random.seed(5)
        own = torch.Generator().manual_seed(6)
        losses = learn(loader(DATA)) + learn(loader(DATA, generator=own))
        losses += learn(loader(DATA, sampler=WeightedRandomSampler(torch.ones(ITEMS), 64, generator=own)))
        return losses, torch.rand(1).item(), torch.rand(1, generator=own).item(), np.random.rand(), random.random()  # noqa: NPY002

    kinds = (dataloader._BaseDataLoaderIter, dataloader._DatasetKind, _utils.fetch._MapDatasetFetcher)
    before = [dict(vars(kind)) for kind in kinds]
    alone = run()
    with watching(tmp_path) as observer:
        assert run() == alone
    assert observer.findings == ()
    assert [dict(vars(kind)) for kind in kinds] == before


def seen(rule="each once", items=10, samples=10, **more):
    about = {"number": 0, "rank": 0, "dataset": "TensorDataset", "sampler": "RandomSampler", "batch_sampler": "BatchSampler"}
    shown = LoaderSeen(**about, batch_size=4, drop_last=False, workers=0)
    return PassSeen(
        **{
            "loader": shown,
            "epoch": 1,
            "step": 0,
            "rule": rule,
            "sampler": "RandomSampler",
            "items": items,
            "samples": samples,
            "batch_size": 4,
            "drop_last": False,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("given", "about", "complete", "expected"),
    [
        (range(10), {}, True, []),
        (range(9), {}, True, ["dropped"]),
        (range(9), {}, False, []),
        (range(8), {"drop_last": True}, True, []),
        (range(7), {"drop_last": True}, True, ["dropped"]),
        ([*range(10), 3], {}, True, ["repeated", "number"]),
        ([*range(10), 10], {}, True, ["range", "number"]),
        ([*range(9), -1], {}, True, ["range", "dropped"]),
        ([*range(10)] * 2, {"samples": 25}, True, ["number"]),
        ([*range(10), *range(10), *range(5)], {"samples": 25}, True, []),
        ([1] * 10, {"rule": "drawn"}, True, []),
        ([1] * 9, {"rule": "drawn"}, True, ["number"]),
        ([1] * 9, {"rule": "unknown", "samples": None}, True, []),
        (range(5), {"items": None, "rule": "part", "samples": 5}, True, []),
    ],
)
def test_counting(given, about, complete, expected):
    """Without an order to compare with, counts alone say what was left out, given twice, or not in the data set at all."""
    coverage = Coverage(seen(**about))
    indices = np.array(given, np.int64)
    found = coverage.add(indices[:4], 1) + coverage.add(indices[4:], 2) + coverage.end(2, complete=complete)
    assert [finding.evidence["term"] for finding in found] == expected
    assert coverage.ascending == bool((np.diff(indices) > 0).all())
