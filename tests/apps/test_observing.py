"""The observer on a busy machine, and processes that end or speak in odd ways; processes made up, the observer real."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from truerun.adapters import process
from truerun.adapters.probe_socket import Event, Line
from truerun.adapters.pytorch.frames import Frame
from truerun.apps.observing import Observer
from truerun.apps.run_files import RunFiles
from truerun.apps.watched_run import WatchRequest


@pytest.fixture
def observer(tmp_path):
    made = Observer(WatchRequest(command=("x",), cwd=tmp_path, folder=tmp_path), RunFiles(tmp_path))
    yield made
    made.files.close()


def line(pid):
    return Line(None, pid)


def say(observer, where, kind, **header):
    observer.take(Event(where, Frame({"kind": kind, **header}, {})))


def optimizer(observer, where, rank=None):
    say(observer, where, "hello", rank=rank)
    shown = {"groups": [{}], "shape": [1], "sizes": [3], "counts": [3], "types": ["float32"], "names": ["w"]}
    say(observer, where, "optimizer", optimizer=0, type="torch.optim.sgd.SGD", rule="SGD", obstacle=None, seed=1, **shown)


def step(observer, where, number):
    row = [number, 0, number, 1, 0.5, False, 0, None, [0.1], [{}], [], {}]
    say(observer, where, "steps", rows=[row], spent=0.0)


def rules(observer):
    return [(finding.rule, finding.subject.name) for finding in observer.findings]


def importing(monkeypatch, observer, *, carries, cpu_seconds, scans=12):
    """A process that has torch's library in memory is seen *scans* times and uses *cpu_seconds* meanwhile; then all ends."""
    used = iter([index * cpu_seconds / (scans - 1) for index in range(scans)])
    monkeypatch.setattr(process, "torch_processes", lambda *_: frozenset({77}))
    monkeypatch.setattr(process, "cpu_seconds", lambda _: next(used))
    monkeypatch.setattr(process, "carries", lambda *_: carries)
    elapsed = 0.0
    for _ in range(scans):
        elapsed += 20.0
        observer.tick(1, elapsed)
    observer.finish(0, timed_out=False)
    return rules(observer)


def test_importing_torch_takes_minutes_on_a_busy_machine(monkeypatch, observer):
    """The accept twin: a process that carries the probe is still importing after four minutes, and then the run is ended."""
    assert importing(monkeypatch, observer, carries=True, cpu_seconds=4.0) == []


def test_training_without_the_probe_is_seen_however_little_it_computes(monkeypatch, observer):
    """The same process without the probe: nothing of it will ever be reported."""
    assert importing(monkeypatch, observer, carries=False, cpu_seconds=4.0) == [("probe-silent", "unwatched process")]


def test_a_probe_that_never_speaks(monkeypatch, observer):
    """It carries the probe, and computes for twenty seconds without a word: no import takes that long."""
    assert importing(monkeypatch, observer, carries=True, cpu_seconds=20.0) == [("probe-silent", "unwatched process")]


@pytest.mark.parametrize(
    ("words", "carried"), [(["-c"], True), (["-u", "-c"], True), (["-I", "-c"], False), (["-uS", "-c"], False)]
)
def test_who_carries_the_probe(words, carried):
    """An option that makes Python ignore its environment shows in the command line."""
    with subprocess.Popen([sys.executable, *words, "import time; time.sleep(30)"], env={**os.environ, "A_MARK": "x"}) as child:
        until = time.monotonic() + 20
        while b"time.sleep" not in process._read(f"/proc/{child.pid}/cmdline") and time.monotonic() < until:
            time.sleep(0.01)
        found = process.carries(child.pid, "A_MARK"), process.carries(child.pid, "ANOTHER")
        child.kill()
    assert found == (carried, False)


def test_a_second_line_from_the_same_process(observer):
    """Code in the training process opens the socket again and feeds it: the kernel says whose line it is."""
    first, second = line(11), line(11)
    optimizer(observer, first)
    step(observer, first, 1)
    optimizer(observer, second)
    assert rules(observer) == [("probe-silent", "line")]
    assert observer.findings[0].severity.value == "error"


def test_another_process_says_it_is_rank_0(observer):
    """A child process feeds records as rank 0: a warning, because a child that trains may have inherited RANK."""
    first, second = line(11), line(12)
    optimizer(observer, first, "0")
    step(observer, first, 1)
    optimizer(observer, second, "0")
    assert [finding.severity.value for finding in observer.findings] == ["warning"]


def test_a_restarted_rank_is_no_second_one(observer):
    """The accept twins: torchrun restarts a rank; a process that execs speaks anew."""
    first, second, third = line(11), line(12), line(12)
    optimizer(observer, first, "0")
    step(observer, first, 1)
    say(observer, first, "bye", steps=1, spent=0.0, dropped=0, since=0, backwards=1, optimizers=0)
    observer.take(Event(first, None))
    optimizer(observer, second, "0")
    step(observer, second, 1)
    observer.take(Event(second, None))
    optimizer(observer, third, "0")
    step(observer, third, 1)
    say(observer, third, "bye", steps=1, spent=0.0, dropped=0, since=0, backwards=1, optimizers=0)
    observer.finish(0, timed_out=False)
    assert observer.findings == ()


def test_the_rank_that_died_first_is_named(observer):
    """One of three ranks is killed and torchrun ends the others: the finding names the first and its step."""
    lines = [line(11 + rank) for rank in range(3)]
    for rank, where in enumerate(lines):
        optimizer(observer, where, str(rank))
        step(observer, where, 1)
        if rank == 1:
            step(observer, where, 2)
    for rank in (1, 0, 2):
        observer.take(Event(lines[rank], None))
    observer.finish(1, timed_out=False)
    (finding,) = observer.findings
    assert (finding.rule, finding.location.rank, finding.location.step) == ("process-killed", 1, 2)
    assert "rank 1 was the first" in finding.message
