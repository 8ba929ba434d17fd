"""Ranks that run with other code, arguments or hyperparameters than the others."""

from __future__ import annotations

import pytest

from truerun.core.finding import Severity
from truerun.monitoring.rank_settings_differ import check_hyperparameters, check_programs, check_samplers


def groups(lr: str = "0.01", decay: str = "0.1"):
    return ((("lr", lr), ("weight_decay", "0.0")), (("lr", lr), ("weight_decay", decay)))


def program(*arguments: str, code: str = "aa", **settings: object) -> dict:
    return {
        "arguments": ["train.py", *arguments],
        "code": {"__main__": code, "model": "bb"},
        "settings": {"threads": 1, **settings},
    }


def test_a_learning_rate_on_one_rank():
    """One of four ranks trains with a tenth of the learning rate."""
    (finding,) = check_hyperparameters({0: groups(), 1: groups(), 2: groups("0.001"), 3: groups()}, 7, "AdamW", ())
    assert (finding.subject.key, finding.location.step, finding.location.rank) == ("lr", 7, 2)
    assert "0.01 on rank 0, 1, 3; 0.001 on rank 2" in finding.message


def test_the_second_group_of_two_ranks():
    """Weight decay of the second group differs; with two ranks only other evidence names one."""
    both = {0: groups(), 1: groups(decay="0.0")}
    (finding,) = check_hyperparameters(both, 7, "AdamW", ())
    assert (finding.subject.key, finding.location.rank) == ("weight_decay", None)
    assert check_hyperparameters(both, 7, "AdamW", {1})[0].location.rank == 1


def test_the_same_hyperparameters():
    """The accept twin."""
    assert check_hyperparameters({0: groups(), 1: groups()}, 7, "AdamW", ()) == ()


def test_other_code_on_one_rank():
    """Approve A, run B on one rank: the file that rank loaded is not the one the others did."""
    (finding,) = check_programs({0: program(), 1: program(), 2: program(code="cc")})
    assert (finding.severity, finding.subject.kind, finding.subject.name) == (Severity.ERROR, "code", "__main__")
    assert finding.location.rank == 2


def test_a_module_that_one_rank_alone_loads():
    """The accept twin: rank 0 writes the log, and loads what it needs for that."""
    zero = program()
    zero["code"]["logging_on_rank_zero"] = "dd"
    assert check_programs({0: zero, 1: program()}) == ()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("--local-rank=0",), ("--local-rank=1",), 0),
        (("--local_rank", "0", "--lr", "1"), ("--local_rank", "1", "--lr", "1"), 0),
        (("--device", "cuda:0"), ("--device", "cuda:1"), 0),
        (("--lr", "1"), ("--lr", "2"), 1),
        (("--rank", "0", "fast"), ("--rank", "1", "slow"), 1),
    ],
    ids=str,
)
def test_arguments(one, other, expected):
    """What names a rank or a device differs by right; the rest is a warning."""
    found = check_programs({0: program(*one), 1: program(*other)})
    assert [finding.severity for finding in found] == [Severity.WARNING] * expected


def test_settings_that_numbers_depend_on():
    """Another number of threads, or a library preloaded on one rank alone."""
    found = check_programs({0: program(), 1: program(threads=8), 2: program(LD_PRELOAD="/tmp/x.so")})
    assert {(finding.subject.name, finding.location.rank) for finding in found} == {("threads", 1), ("LD_PRELOAD", 2)}


def test_two_ranks_read_the_same_part():
    """The sampler was given the same rank everywhere: half of the data is read twice, the other half never."""
    (finding,) = check_samplers({0: (0, 7, 0), 1: (0, 7, 0)}, shuffled=True)
    assert (finding.severity, finding.subject.kind) == (Severity.ERROR, "data")
    assert "0 on rank 0, 1" in finding.message


@pytest.mark.parametrize(
    ("other", "shuffled", "expected"), [((1, 8, 0), True, 1), ((1, 7, 1), True, 1), ((1, 8, 0), False, 0), ((1, 7, 0), True, 0)]
)
def test_orders_of_the_data(other, shuffled, expected):
    """Another seed or epoch on one rank divides the data otherwise; without shuffling it does not matter."""
    found = check_samplers({0: (0, 7, 0), 1: other}, shuffled=shuffled)
    assert [finding.severity for finding in found] == [Severity.WARNING] * expected
