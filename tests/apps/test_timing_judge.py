"""The judge of time with clocks, processes and stacks made up: what it says and what it leaves unsaid, without waiting."""

from __future__ import annotations

import pytest

from truerun.adapters.stacks import Unseen, parse_stacks
from truerun.adapters.threads import Doing
from truerun.apps.judging.judge import Process
from truerun.apps.judging.timing import TimingJudge
from truerun.apps.stack_sampling import Looker
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.core.finding import Severity
from truerun.monitoring.reference import Reference

PID = 2**22 + 1  # no process has it
TORCH = "/venv/lib/python3.11/site-packages/torch"
EVALUATE = f"thread ({PID}): Main;main (/p/train.py:9);evaluate (/p/train.py:70);linear ({TORCH}/nn/functional.py:3) 20"
STEP = f"thread ({PID}): Main;main (/p/train.py:9);wrapper ({TORCH}/optim/optimizer.py:515);adam ({TORCH}/optim/adam.py:3) 20"
LOCK = f"thread ({PID}): Main;main (/p/train.py:9);exchange (/p/train.py:88);wait (/usr/lib/python3.11/threading.py:327) 20"


class Watching:
    """A judge of one made-up process: `seconds` go by at each `pass_time`, in which it computes `computes` of them."""

    def __init__(self, tmp_path, stacks: str = EVALUATE, doing: Doing = Doing.RUNNING, **reference):
        self.judge = TimingJudge(WatchRequest(command=("x",), cwd=tmp_path, folder=tmp_path, reference=Reference(**reference)))
        self.steady, self.jump, self.suspended, self.used = 1000.0, 0.0, 0.0, 5.0
        self.doing, self.raw, self.unseen = doing, stacks, ""
        self.judge.clock = lambda: (self.steady, 5e8 + self.steady + self.jump, self.steady + self.suspended)
        self.judge.used = lambda _: self.used
        self.judge.looker = Looker(sample=self.sample, sample_still=self.sample, observe=lambda *_: self.doing)
        self.judge.looker.start = lambda: None  # the test looks itself
        self.judge._last = self.judge.clock()
        self.known = Process(PID, {}, rank=1, heard=self.steady)
        self.found = []

    def sample(self, pid, thread, **_):
        if self.unseen:
            raise Unseen(self.unseen)
        return parse_stacks(self.raw, thread)

    def steps(self, count: int, waited: float = 0.0):
        for _ in range(count):
            self.known.steps += 1
            record = StepRecord(step=self.known.steps, rank=1, optimizer=0, loss=None, lr=None, backwards=1, checked=False)
            shown = {"w": [0, 50000, 50000, 0, 0], "i": [0, 0, 0, 0, waited * 1e6], "c": 90000, "q": 0, "tid": PID}
            self.found += self.judge.step(self.known, record, frozenset(), shown)
        return self

    def pass_time(self, seconds: float, computes: float = 0.0):
        for _ in range(round(seconds / 0.5)):
            self.steady += 0.5
            self.used += 0.5 * computes
            self.found += self.judge.tick([self.known], PID)
            self.judge.looker.once(self.steady)
            if self.judge.looker._sampling is not None:
                self.judge.looker._sampling.join()
                for seen in self.judge.looker.seen.values():
                    seen.latest_at = self.steady
        return self

    @property
    def said(self):
        return [
            (finding.rule, finding.severity, finding.location.line) for finding in {f.message: f for f in self.found}.values()
        ]


def test_the_clock_is_set(tmp_path):
    """Somebody sets the wall clock back by an hour; the accept twin is a laptop that slept, a note."""
    watching = Watching(tmp_path).steps(20).pass_time(2)
    assert watching.found == []
    watching.jump = -3600.0
    assert watching.pass_time(1).said == [("clock-jump", Severity.WARNING, None)]
    asleep = Watching(tmp_path).steps(20).pass_time(2)
    asleep.jump = asleep.suspended = 1800.0
    assert asleep.pass_time(1).said == [("clock-jump", Severity.NOTE, None)]


def test_a_deadlock_is_named_by_its_line(tmp_path):
    """No step comes, nothing is computed, the stack stands still at a lock."""
    watching = Watching(tmp_path, LOCK, Doing.WAITING).steps(30).pass_time(40)
    assert {said[:2] for said in watching.said} == {("run-hangs", Severity.WARNING)}
    assert "threading.py:327 in wait, called from train.py:88 in exchange" in watching.found[0].message
    assert watching.found[0].location.rank == 1


def test_a_deadlock_without_a_stack(tmp_path):
    """py-spy is not permitted: the hang is found all the same, and the finding says what is missing."""
    watching = Watching(tmp_path, LOCK, Doing.WAITING)
    watching.unseen = "py-spy: Permission denied"
    assert "Permission denied" in watching.steps(30).pass_time(40).found[0].message


@pytest.mark.parametrize("share", [1.0, 0.05])
def test_a_long_evaluation_is_neither_a_hang_nor_silence(tmp_path, share):
    """The accept twin: two minutes of computing without a step, also where a busy machine gives it a twentieth of a processor."""
    assert Watching(tmp_path, EVALUATE).steps(30).pass_time(120, computes=share).found == []


def test_steps_without_records(tmp_path):
    """The probe is silenced: nothing arrives, and the stack shows an optimizer's step. Within ten seconds."""
    watching = Watching(tmp_path, STEP).steps(30).pass_time(10, computes=1.0)
    assert ("probe-silent", Severity.ERROR, None) in watching.said
    assert "train.py:9 in main" in watching.found[0].message


def test_the_line_is_closed(tmp_path):
    """The line ends without a goodbye and the process goes on; the accept twin is one that has ended."""
    watching = Watching(tmp_path).steps(30).pass_time(2)
    watching.known.open = False
    assert watching.pass_time(4, computes=1.0).said == [("probe-silent", Severity.ERROR, None)]
    ended = Watching(tmp_path).steps(30).pass_time(2)
    ended.known.open, ended.judge.used = False, lambda _: None
    assert ended.pass_time(4).found == []


def test_a_program_that_starts_itself_anew(tmp_path):
    """The accept twin: exec closes the old line, and the same process speaks through a new one."""
    watching = Watching(tmp_path).steps(30)
    watching.known.open = False
    again = Process(PID, {}, rank=1)
    for _ in range(20):
        watching.steady, watching.used = watching.steady + 0.5, watching.used + 0.5
        watching.found += watching.judge.tick([watching.known, again], PID)
    assert watching.found == []


def test_stopped(tmp_path):
    """SIGSTOP: said once it lasts, and that is no hang."""
    watching = Watching(tmp_path, LOCK, Doing.STOPPED).steps(30).pass_time(40)
    assert {said[0] for said in watching.said} == {"process-stopped"}
    watching.doing = Doing.RUNNING
    assert "resumed" in watching.pass_time(1).found[-1].message


def test_stopped_together_with_the_agent(tmp_path):
    """The accept twin: Ctrl-Z stops the command and truerun; an hour later both go on."""
    watching = Watching(tmp_path, LOCK, Doing.WAITING).steps(30).pass_time(2)
    watching.steady += 3600.0
    assert watching.pass_time(2).found == []


def test_declared_step_time(tmp_path):
    """[training] step_seconds = 0.02, and a step takes 0.09 s on a processor; the accept twin declares 0.1."""
    slow = Watching(tmp_path, values={"step_seconds": 0.02})
    slow.known.rank = 0
    assert {said[0] for said in slow.steps(100).said} == {"slow-run"}
    right = Watching(tmp_path, values={"step_seconds": 0.1})
    right.known.rank = 0
    assert right.steps(100).found == []


def test_what_was_learned_is_compared(tmp_path):
    """What one run learned is the next one's measure: every step waits a second more now."""
    first = Watching(tmp_path).steps(100)
    first.known.rank = 0
    learned = {"time": first.judge.learned()}
    assert learned["time"]["typical"]["0"]["computed"] == 0.09
    same = Watching(tmp_path, learned=learned, learned_from="run 1 (entry 4)", same_program=True)
    same.known.rank = 0
    assert same.steps(100).found == []
    slow = Watching(tmp_path, learned=learned, learned_from="run 1 (entry 4)", same_program=True)
    slow.known.rank = 0
    assert "it was 0 s in run 1 (entry 4)" in slow.steps(100, waited=1.0).found[0].message


SLEEP = f"thread ({PID}): Main;main (/p/train.py:9);pause (/p/train.py:12) 20"


def sleeping(tmp_path, *, steps_on):
    """A thread that is asleep at every look, of which the samples show the line; *steps_on* says whether steps go on."""
    watching = Watching(tmp_path, SLEEP, Doing.ASLEEP).steps(30)
    for _ in range(100):
        watching.pass_time(0.5, computes=0.1)
        if steps_on:
            watching.steps(1)
    watching.found += watching.judge.finish([watching.known])
    return watching.said


def test_sleeping_between_steps(tmp_path):
    """In every step; no line of this made-up program is named for it, so the samples that found it still tell the line."""
    assert sleeping(tmp_path, steps_on=True) == [("slow-step", Severity.WARNING, 12)]


def test_sleeping_after_training_is_over(tmp_path):
    """The accept twin: training has ended, and the program waits for an upload."""
    assert sleeping(tmp_path, steps_on=False) in ([], [("run-hangs", Severity.WARNING, 12)])


def test_sleeping_where_no_line_can_be_seen(tmp_path):
    """Without py-spy the sleep is found all the same, and the finding says why it has no line."""
    watching = Watching(tmp_path, SLEEP, Doing.ASLEEP)
    watching.unseen = "py-spy is not installed: pip install 'truerun[stacks]'"
    for _ in range(60):
        watching.steps(1).pass_time(0.5, computes=0.1)
    assert {said[:2] for said in watching.said} == {("slow-step", Severity.WARNING)}
    assert "py-spy is not installed" in watching.found[0].message
