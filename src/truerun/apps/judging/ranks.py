"""Ranks on the agent's side: brings together what the ranks of one launch show of the same step, and has it judged.

Ranks are compared only where their optimizers hold tensors of the same names and sizes. A look is judged once all ranks of
this machine that hold copies have shown theirs, and a moment later, so that what else is found of one of them can be told.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from truerun.adapters.pytorch.frames import Frame
from truerun.apps.judging.judge import Findings, Judge, Process
from truerun.apps.watched_run import StepRecord, WatchRequest
from truerun.core.finding import Finding
from truerun.monitoring import rank_settings_differ
from truerun.monitoring.observation import Numbers, OptimizerSeen
from truerun.monitoring.rank_gradient_differs import Answer, AuditWatch
from truerun.monitoring.rank_look import Copies, RankLook
from truerun.monitoring.ranks_differ import HELD_TOGETHER, RULE, CopiesWatch, check_steps

MAX_WAITING = 256
MAX_RANKS = 4096
WAIT_SECONDS = 0.5
VALUES, SUMS = ("p0", "r", "g", "p"), ("g", "p", "s")
Place = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Member:
    """One process of a launch: its rank there, what each of its optimizers shares and with whom."""

    known: Process
    rank: int
    local: range
    shares: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    programs: Mapping[str, Any] | None = None
    steps: Counter[int] = field(default_factory=Counter)
    epochs: Counter[Place] = field(default_factory=Counter)
    joined: bool = False


@dataclass(slots=True, eq=False)
class Launch:
    """The processes that were started together."""

    members: dict[int, Member] = field(default_factory=dict)
    watches: dict[Place, CopiesWatch] = field(default_factory=dict)
    looks: dict[Place, dict[int, RankLook]] = field(default_factory=dict)
    full: dict[Place, tuple[float, int, dict[int, RankLook]]] = field(default_factory=dict)
    settings: dict[Place, dict[int, tuple[Any, ...]]] = field(default_factory=dict)
    told: set[Place] = field(default_factory=set)
    samplers: dict[Place, dict[int, tuple[int, int, int]]] = field(default_factory=dict)
    duplicates: dict[Place, dict[int, Answer]] = field(default_factory=dict)
    audits: AuditWatch = field(default_factory=AuditWatch)


class RanksJudge(Judge):
    """See the module."""

    name = "ranks"
    kinds = frozenset({"parallel", "program", "ranks", "sampler", "duplicate"})

    def __init__(self, request: WatchRequest) -> None:
        super().__init__(request)
        self.launches: dict[str, Launch] = {}
        self.member: dict[int, tuple[Launch, Member]] = {}
        self.suspects: dict[int, tuple[int, str]] = {}

    # Frames.

    def take(self, known: Process, frame: Frame) -> Findings:
        """What a rank says of itself, or shows of a step."""
        header = frame.header
        if header["kind"] == "ranks":
            return self._look(known, frame)
        if header["kind"] == "duplicate":
            return self._duplicate(known, frame)
        launch, member = self._join(known, header)
        if header["kind"] == "sampler":
            return self._sampled(launch, member, header)
        if header["kind"] == "program":
            member.programs = header
            return ()
        member.shares[int(header["optimizer"])] = header
        return self._compare_programs(launch, member)

    def _join(self, known: Process, header: Mapping[str, Any]) -> tuple[Launch, Member]:
        if id(known) in self.member:
            return self.member[id(known)]
        launch, rank = self.launches.setdefault(str(header["launch"]), Launch()), int(header["rank"])
        before = launch.members.get(rank)
        if before is not None and not before.known.open:
            # The same place again in a later launch: nothing of the earlier one is compared with it.
            launch = self.launches[str(header["launch"])] = Launch()
        if len(launch.members) >= MAX_RANKS:
            raise ValueError("more ranks than can be followed")
        first, count = map(int, header["local"])
        member = launch.members[rank] = Member(known, rank, range(first, first + count))
        self.member[id(known)] = launch, member
        return launch, member

    def _look(self, known: Process, frame: Frame) -> Findings:
        launch, member = self.member[id(known)]
        number = int(frame.header["optimizer"])
        shares, seen = member.shares[number], known.optimizers[number].seen
        found: Findings = ()
        member.joined = member.joined or int(frame.header["era"]) > 0
        for copies, which in _shared(shares, seen, frame.header["tensors"]):
            look = _parse_look(frame, member.rank, which, shares)
            at = int(frame.header["own_step"]) - look.base
            drawn = (str(frame.header["mark"]), *look.tensor_of)
            place = (_signature(member, number), copies, int(frame.header["era"]), at, drawn)
            expected = _here(member, copies.ranks)
            if expected < 2:
                continue
            waiting = launch.looks.setdefault(place, {})
            waiting[member.rank] = look
            if len(waiting) >= expected:
                del launch.looks[place]
                found += self._full(launch, (*place[:2],), known.place(int(frame.header["step"]))[0], waiting)
        while len(launch.looks) > MAX_WAITING:
            del launch.looks[next(iter(launch.looks))]
        return found

    def _full(self, launch: Launch, place: Place, step: int, looks: dict[int, RankLook]) -> Findings:
        found = self._judge(launch, place)
        launch.full[place] = (time.monotonic(), step, looks)
        return found

    def _judge(self, launch: Launch, place: Place) -> Findings:
        if place not in launch.full:
            return ()
        _, step, looks = launch.full.pop(place)
        watch = launch.watches.get(place)
        if watch is None:
            reference = self.request.reference
            learned = reference.learned.get(self.name, {})
            watch = launch.watches[place] = CopiesWatch(place[1], learned, reference.learned_from, reference.same_program)
        return watch.check(step, [looks[rank] for rank in sorted(looks)], self.suspects)

    def _sampled(self, launch: Launch, member: Member, header: Mapping[str, Any]) -> Findings:
        like, (part, seed, epoch) = tuple(header["like"]), map(int, header["read"])
        member.epochs[like] += 1
        place = (*like, member.epochs[like])
        read = launch.samplers.setdefault(place, {})
        read[member.rank] = part, seed, epoch
        while len(launch.samplers) > MAX_WAITING:
            del launch.samplers[next(iter(launch.samplers))]
        if len(read) < max(2, len(member.local)):
            return ()
        launch.samplers.pop(place, None)
        return rank_settings_differ.check_samplers(read, shuffled=bool(like[1]))

    def _duplicate(self, known: Process, frame: Frame) -> Findings:
        launch, member = self.member[id(known)]
        header, number = frame.header, int(frame.header["optimizer"])
        answer = _parse_answer(frame, member.rank, known.place(int(header["step"]))[0], known.optimizers[number].seen)
        place = (_signature(member, number), str(header["key"]))
        waiting = launch.duplicates.setdefault(place, {})
        waiting[member.rank] = answer
        if len(waiting) < 2:
            while len(launch.duplicates) > MAX_WAITING:
                del launch.duplicates[next(iter(launch.duplicates))]
            return ()
        del launch.duplicates[place]
        one, other = sorted(waiting.values(), key=lambda answer: answer.rank)
        return launch.audits.check(one, other)

    # Hyperparameters and programs.

    def step(self, known: Process, record: StepRecord, notes: frozenset[str], extra: Mapping[str, Any]) -> Findings:
        """Compare the hyperparameters of this step between ranks that train together for certain."""
        if id(known) not in self.member:
            return ()
        launch, member = self.member[id(known)]
        number = record.optimizer
        member.steps[number] += 1
        peers = member.shares.get(number, {}).get("peers", ())
        if _here(member, peers) < 2:
            return ()
        place = (_signature(member, number), tuple(peers), member.steps[number])
        here = launch.settings.setdefault(place, {})
        here[member.rank] = _settings(known.optimizers[number].now)
        if len(here) < _here(member, peers):
            while len(launch.settings) > MAX_WAITING * 16:
                del launch.settings[next(iter(launch.settings))]
            return ()
        del launch.settings[place]
        if place[:2] in launch.told or len(set(here.values())) < 2:
            return ()
        launch.told.add(place[:2])
        told = {rank for rank, (at, _) in self.suspects.items() if at == record.step}
        return rank_settings_differ.check_hyperparameters(here, record.step, known.optimizers[number].seen.kind, told)

    def _compare_programs(self, launch: Launch, member: Member) -> Findings:
        peers = {rank for shares in member.shares.values() for rank in shares["peers"]}
        others = [launch.members[rank] for rank in sorted(peers) if rank in launch.members]
        shown = {other.rank: other.programs for other in others if other.programs is not None and other.shares}
        if len(shown) < max(2, _here(member, peers)) or ("program",) in launch.told:
            return ()
        launch.told.add(("program",))
        return rank_settings_differ.check_programs(shown)

    # What else is found, and the end.

    def heard(self, finding: Finding) -> None:
        """Remember which rank something was found of, to tell two ranks apart."""
        rank, step = finding.location.rank, finding.location.step
        if rank is not None and step is not None and finding.rule in SUSPECT:
            self.suspects[rank] = (step, f"{SUSPECT[finding.rule]} (step {step})")

    def tick(self, processes: Sequence[Process], child: int) -> Findings:
        """Judge what has waited long enough."""
        now = time.monotonic()
        found: Findings = ()
        for launch in self.launches.values():
            for place in [place for place, (at, _, _) in launch.full.items() if now - at > WAIT_SECONDS]:
                found += self._judge(launch, place)
        return found

    def finish(self, processes: Sequence[Process]) -> Findings:
        """Judge what is left."""
        found: Findings = ()
        for launch in self.launches.values():
            for place in list(launch.full):
                found += self._judge(launch, place)
            found += self._compare_steps(launch)
        return found

    def _compare_steps(self, launch: Launch) -> Findings:
        """Compare the steps of ranks that train together for certain, and that all came to an ordinary end."""
        counted: dict[Place, dict[int, int]] = {}
        for member in launch.members.values():
            for number, shares in member.shares.items():
                if len(shares["peers"]) > 1 and member.known.bye is not None and not member.joined:
                    counted.setdefault((_signature(member, number), *shares["peers"]), {})[member.rank] = member.steps[number]
        return tuple(
            finding for place, steps in counted.items() if len(steps) > 1 for finding in check_steps(steps, str(place[0][0]))
        )

    def learned(self) -> Mapping[str, Any]:
        """Whether the copies stayed the same or were apart at some look."""
        watches = [watch for launch in self.launches.values() for watch in launch.watches.values()]
        if not watches:
            return {}
        apart = sum(watch.apart > 0 for watch in watches)
        return {
            "together": not apart and min(watch.together for watch in watches) >= HELD_TOGETHER,
            "apart": apart == len(watches),
        }


SUSPECT = {
    "changed-between-steps": "its parameters or state changed between two steps",
    "update-mismatch": "its update is not the optimizer's",
    "hyperparameter-drift": "its hyperparameters are not those expected",
    "step-skipped": "it left out a step",
}
assert RULE.id not in SUSPECT


def _here(member: Member, ranks: Iterable[int]) -> int:
    """How many of *ranks* run on this machine."""
    return sum(rank in member.local for rank in ranks)


def _signature(member: Member, number: int) -> Place:
    """An optimizer by its tensors' names and sizes, and how many like it came before; numbers may differ between ranks."""
    seen = member.known.optimizers[number].seen
    mine = (seen.kind, seen.names, seen.whole_sizes)
    earlier = (member.known.optimizers[n].seen for n in member.shares if n < number)
    return (*mine, sum((other.kind, other.names, other.whole_sizes) == mine for other in earlier))


def _shared(shares: Mapping[str, Any], seen: OptimizerSeen, tensors: Sequence[int]) -> Iterable[tuple[Copies, list[int]]]:
    """The copies that a look covers, each with the positions of its tensors in *tensors*."""
    for number, (ranks, _) in enumerate(shares["copies"]):
        which = [position for position, tensor in enumerate(tensors) if shares["of"][tensor] == number]
        if which:
            names = tuple(seen.names[tensors[position]] for position in which)
            yield Copies(kind=seen.kind, names=names, ranks=tuple(map(int, ranks))), which


def _parse_look(frame: Frame, rank: int, which: list[int], shares: Mapping[str, Any]) -> RankLook:
    header = frame.header
    arrays = {name: np.frombuffer(data, f"<{kind}").astype(np.float64) for name, (kind, data) in frame.buffers.items()}
    where = {int(header["tensors"][position]): i for i, position in enumerate(which)}
    per = len(arrays["g"]) // max(1, len(header["picks"]))
    of: Numbers = np.repeat([where.get(int(tensor), -1) for tensor in header["picks"]], per).astype(np.float64)
    kept = of >= 0
    expected = {name: len(of) for name in VALUES} | {f"{name}.sum": len(header["tensors"]) for name in SUMS}
    if {name: len(array) for name, array in arrays.items()} != expected:
        raise ValueError("a look that is not of the form it should have")
    return RankLook(
        rank=rank,
        sums={name: arrays[f"{name}.sum"][which] for name in SUMS},
        values={name: arrays[name][kept] for name in VALUES},
        tensor_of=of[kept],
        base=int(header["base"]),
        waiting=bool(header["waiting"]),
        averaged=int(header["averaged"]),
        why=str(shares["copies"][shares["of"][header["tensors"][which[0]]]][1]),
        hooks=tuple(map(str, shares["hooks"])),
    )


def _settings(groups: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(tuple(sorted((str(name), str(value)) for name, value in group.items())) for group in groups)


def _parse_answer(frame: Frame, rank: int, step: int, seen: OptimizerSeen) -> Answer:
    header = frame.header
    arrays = {name: np.frombuffer(data, f"<{kind}").astype(np.float64) for name, (kind, data) in frame.buffers.items()}
    tensors = len(header["tensors"])
    values = arrays["l"].reshape(tensors, -1)
    if not tensors or not values.size or len(arrays["l.sum"]) != tensors or len(arrays["p.sum"]) != tensors:
        raise ValueError("an answer that is not of the form it should have")
    return Answer(
        rank=rank,
        step=step,
        rows=str(header["rows"]),
        inputs=tuple(map(int, header["inputs"])),
        random=bool(header["random"]),
        names=tuple(seen.names[tensor] for tensor in header["tensors"]),
        parameters=arrays["p.sum"],
        sums=arrays["l.sum"],
        values=values,
    )
