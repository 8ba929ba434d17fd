"""A story: what is planted, what must be said about it, and the judgement of what Truerun said.

A story never looks inside Truerun: it judges JSON output, exit codes and error text.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attacks.project import Project, Result

SEVERITIES = ("note", "warning", "error", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a finding must point. None means that the story does not say.

    `path` and `name` match ends of what is named; `rows` asks for at least half of the planted rows and at most a fifth
    of others; `step` is the first tampered step, `within` how many steps later is still in time; `words` must all occur
    in the message, the subject or the evidence.
    """

    path: str | None = None
    line: int | None = None
    key: str | None = None
    rows: frozenset[int] | None = None
    step: int | None = None
    within: int = 0
    entry: int | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """
    What one variant did, in words with this seed's figures, and what must be said about it.

    `rules` are the ids of which one must be reported; empty where an action must be refused instead. `started=False`
    says that the training command must not have been started. `env` and `command` are how the run is started then.
    `least` is the severity that a finding must have to count.
    """

    what: str
    rules: frozenset[str] = frozenset()
    place: Place = Place()
    actors: frozenset[str] = frozenset()
    started: bool | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    least: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What Truerun said: findings as JSON, exit codes and text of the commands, whether the training command was started."""

    findings: tuple[Mapping[str, Any], ...] = ()
    codes: tuple[int, ...] = ()
    text: str = ""
    started: bool | None = None
    seconds: float = 0.0
    refused: str | None = None
    refused_at: str = ""

    def at_least(self, severity: str) -> tuple[Mapping[str, Any], ...]:
        least = SEVERITIES.index(severity)
        return tuple(finding for finding in self.findings if SEVERITIES.index(finding["severity"]) >= least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to do it. `plant` makes it happen, `look` runs Truerun as a user would."""

    name: str
    plant: Callable[[Project, random.Random], Planted]
    look: Callable[[Project, Planted], Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The accept twin: the same kind of change made legitimately. Any finding at error level or non-zero exit is a false alarm."""

    what: str
    act: Callable[[Project, random.Random], Planted | None]
    look: Callable[[Project, Planted], Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One row of the catalogue of threats. `expected` says in words what must be named."""

    id: str
    title: str
    expected: str
    variants: tuple[Variant, ...]
    twins: tuple[Twin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One variant's outcome; `missing` is empty when it was caught with the right rule, place and actor."""

    story: str
    variant: str
    planted: str
    found: str = ""
    where: str = ""
    who: str = ""
    steps: int | None = None
    seconds: float = 0.0
    missing: tuple[str, ...] = field(default=())


def seen(*results: Result) -> Seen:
    """What a series of commands said."""
    findings: list[Mapping[str, Any]] = []
    started: bool | None = None
    for result in results:
        data = result.data
        if isinstance(data, dict):
            findings += data.get("findings", [])
            if "command_exit" in data:
                started = data["command_exit"] is not None
    return Seen(
        findings=tuple(findings),
        codes=tuple(result.code for result in results),
        text="\n".join(result.text() for result in results),
        started=started,
        seconds=sum(result.seconds for result in results),
    )


def run_and_see(project: Project, planted: Planted) -> Seen:
    """`truerun run` in enforce mode."""
    return seen(project.run(*planted.command, env=planted.env))


def observe_and_see(project: Project, planted: Planted) -> Seen:
    """`truerun run` in observe mode."""
    return seen(project.run(*planted.command, mode="observe", env=planted.env))


def judge(story: str, variant: Variant, planted: Planted, said: Seen) -> Judgement:
    """Was it caught, by the right rule, at the right place, with the right actor?"""
    missing: list[str] = []
    best: Mapping[str, Any] | None = None
    if planted.rules:
        hits = [finding for finding in said.at_least(planted.least) if finding["rule"] in planted.rules]
        graded = sorted(((_faults(finding, planted), finding) for finding in hits), key=lambda pair: len(pair[0]))
        if graded:
            missing, best = list(graded[0][0]), graded[0][1]
        else:
            others = sorted({f"{finding['rule']} ({finding['severity']})" for finding in said.findings})
            missing.append(
                f"no error of {', '.join(sorted(planted.rules))}; got {', '.join(others) or 'nothing'}; exit {said.codes}: {said.text[-300:]}"
            )
    elif said.refused is None:
        missing.append(f"not refused; exit {said.codes}: {said.text[-300:]}")
    if planted.started is False and said.started:
        missing.append("the training command was started")
    return Judgement(
        story=story,
        variant=variant.name,
        planted=planted.what,
        found=best["rule"] if best else (said.refused or ""),
        where=_where(best) if best else said.refused_at,
        who=_who(best),
        steps=_delay(best, planted),
        seconds=said.seconds,
        missing=tuple(missing),
    )


def alarms(said: Seen) -> tuple[str, ...]:
    """What an accept twin must not show."""
    found = [f"{finding['rule']} {_where(finding)}: {finding['message'][:200]}" for finding in said.at_least("error")]
    if said.refused is not None:
        found.append(said.refused)
    if any(said.codes) and not found:
        found.append(f"exit {said.codes}: {said.text[-400:]}")
    return tuple(found)


def _faults(finding: Mapping[str, Any], planted: Planted) -> list[str]:
    place, where = planted.place, finding["location"]
    faults = []
    named = [str(text) for text in (where["path"], finding["subject"]["name"]) if text]
    if place.path is not None and not any(text.endswith(place.path) or place.path in text for text in named):
        faults.append(f"names {named}, not {place.path}")
    if place.line is not None and where["line"] != place.line:
        faults.append(f"line {where['line']}, not {place.line}")
    if place.key is not None and place.key not in str(finding["subject"]["key"]):
        faults.append(f"key {finding['subject']['key']}, not {place.key}")
    if place.rows is not None:
        faults += _row_faults(where["rows"] or (), place.rows)
    if place.step is not None and not _in_time(where["step"], place):
        faults.append(f"step {where['step']}, not {place.step} (+{place.within})")
    if place.entry is not None and where["entry"] != place.entry:
        faults.append(f"entry {where['entry']}, not {place.entry}")
    text = json.dumps(finding, ensure_ascii=False).lower()
    faults += [f"does not say {word!r}" for word in place.words if word.lower() not in text]
    if planted.actors and (finding["actor"] or {}).get("id") not in planted.actors:
        faults.append(f"actor {_who(finding) or 'unknown'}, not {' or '.join(sorted(planted.actors))}")
    return faults


def _row_faults(found: Sequence[int], planted: frozenset[int]) -> list[str]:
    right = len(planted & set(found))
    faults = []
    if right * 2 < min(len(planted), 20):
        faults.append(f"{right} of {len(planted)} planted rows named")
    if len(found) - right > max(1, len(found) // 5):
        faults.append(f"{len(found) - right} of {len(found)} named rows were not planted")
    return faults


def _in_time(step: int | None, place: Place) -> bool:
    assert place.step is not None
    return step is not None and place.step <= step <= place.step + place.within


def _delay(finding: Mapping[str, Any] | None, planted: Planted) -> int | None:
    if finding is None or planted.place.step is None or finding["location"]["step"] is None:
        return None
    return int(finding["location"]["step"]) - planted.place.step


def _who(finding: Mapping[str, Any] | None) -> str:
    actor = finding["actor"] if finding else None
    return f"{actor['id']} ({actor['basis']})" if actor else ""


def _where(finding: Mapping[str, Any]) -> str:
    where, subject = finding["location"], finding["subject"]
    parts = [where["path"] or subject["name"]]
    if where["line"] is not None:
        parts[0] += f":{where['line']}"
    if subject["key"]:
        parts.append(subject["key"])
    parts += [f"{name} {where[name]}" for name in ("step", "rank", "entry") if where[name] is not None]
    if where["rows"]:
        parts.append(f"{len(where['rows'])} rows")
    return " ".join(str(part) for part in parts)


def tell(story: Story, variant: Variant, project: Project, seed: int) -> Judgement:
    """Plant *variant* in *project* and judge what Truerun says."""
    planted = variant.plant(project, random.Random(f"{seed} {story.id} {variant.name}"))
    began = time.monotonic()
    said = variant.look(project, planted)
    verdict = judge(story.id, variant, planted, said)
    extra = ("the payload was run",) if project.canary.exists() else ()
    return replace(
        verdict,
        where=verdict.where.replace(f"{project.home}{os.sep}", ""),
        seconds=time.monotonic() - began,
        missing=verdict.missing + extra,
    )


def tell_twin(story: Story, twin: Twin, project: Project, seed: int) -> tuple[str, ...]:
    """False alarms of *twin* in *project*."""
    planted = twin.act(project, random.Random(f"{seed} {story.id} twin {twin.what}")) or Planted(what=twin.what)
    return alarms(twin.look(project, planted))
