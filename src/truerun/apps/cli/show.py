"""`truerun show RUN`: what happened in a run, in plain words, from the ledger and the run's own files."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from truerun.core.finding import Finding
    from truerun.ledger.history import RunHistory
    from truerun.oversight.people import People

EDITED_SHARE = 0.001
MISS = 0.01


@click.command()
@click.argument("run")
@options
def command(run: str, output_format: str, config_path: str | None, *, quiet: bool, verbose: bool) -> int:
    """Say what happened in RUN: verdict, lock, people, findings by step, metrics, cost, ledger entries."""
    from truerun.apps.cli.output import say_json
    from truerun.apps.project import open_project

    project = open_project(config_path)
    history = project.history().run(run)
    found = list(history.findings)
    looks = _looks(project.folder / "runs" / history.id)
    if output_format == "json":
        say_json(_as_json(history, found, looks))
        return 0
    _show(history, found, looks, project.people(), quiet=quiet, verbose=verbose)
    return 0


def _looks(folder: Any) -> dict[str, Any]:
    """How densely was looked, from the records of rank 0; empty without them."""
    import json

    path = folder / "steps-rank0.jsonl"
    if not path.is_file():
        return {}
    steps = checked = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # the last line of a run that was killed may be cut short
                break
            steps, checked = steps + 1, checked + bool(record.get("checked"))
    return {"steps": steps, "checked": checked}


def _as_json(history: RunHistory, found: list[Finding], looks: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "started": history.started.fact,
        "finished": history.finished.fact if history.finished is not None else None,
        "findings": found,
        "looks": looks,
        "entries": [history.started.index, *(item.index for item in history.observed)]
        + ([history.finished.index] if history.finished is not None else []),
    }


def _show(
    history: RunHistory, found: list[Finding], looks: dict[str, Any], people: People, *, quiet: bool, verbose: bool
) -> None:
    from truerun.apps.cli.output import Some, escape, say

    started, finished = history.started.fact, history.finished.fact if history.finished is not None else None
    verdict = finished.verdict.value if finished is not None else "unfinished"
    say(f"run {escape(history.id)}: {verdict}", bold=True)
    say(f"  command   {escape(shlex.join(started.command))}  ({started.mode.value} mode)")
    say(f"  lock      {started.lock.short if started.lock is not None else 'none'}")
    person = people.resolve(history.started.key, history.started.index)
    who = f"{person.id} ({person.role.value})" if person is not None else "nobody: only the run's own key signed"
    say(f"  started   {started.at} by {escape(who)}")
    if started.decision is not None:
        say(f"  admission {started.decision.outcome.value}")
        for reason in started.decision.reasons:
            say(f"            {escape(reason)}")
        for need in started.decision.needs:
            say(f"            needed: {escape(need.what)}" + (f" ({escape(', '.join(need.who))})" if need.who else ""))
    if finished is not None:
        _show_end(finished, looks)
    else:
        last = max((item.fact.last_step for item in history.observed), default=0)
        say(f"  ended     not recorded; the last record is of step {last}")
        say("            it goes on, or truerun was killed: then nothing after that was watched")
    say(f"  ledger    entries {history.started.index} to {history.last_index}")
    say(f"  findings  {len(found) or 'none'}")
    some = Some(everything=verbose)
    for finding in sorted(found, key=lambda item: item.location.step or 0):
        if not quiet or finding.severity.rank:
            some.show(finding)
    some.show_rest()


def _show_end(finished: Any, looks: dict[str, Any]) -> None:
    from truerun.apps.cli.output import escape, say

    if finished.command_exit is None:
        say("  command   was not started")
        return
    say(f"  ended     {finished.at}, exit code {finished.command_exit}, {finished.steps} steps in {finished.seconds:.1f} s")
    for name, value in finished.metrics.items():
        say(f"  metric    {escape(name)} {value:.6g}")
    for name, value in finished.effective.items():
        if name not in ("groups", "learned"):
            say(f"  used      {escape(name)} {escape(str(value))}")
    say(f"  watching  cost {finished.overhead.seconds:.2f} s, {finished.overhead.fraction:.1%} of the run")
    for line in (_costs(finished.overhead), *power(finished.steps, finished.overhead.looks or _older(looks))):
        if line:
            say(f"            {escape(line)}")


def _costs(overhead: Any) -> str:
    """What each sense cost, dearest first."""
    parts = sorted(overhead.by.items(), key=lambda part: -part[1])
    update = overhead.seconds - sum(overhead.by.values())
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in [("update", update), *parts]) if parts else ""


def _older(looks: dict[str, Any]) -> dict[str, int]:
    """The same of a run whose record does not hold it yet, from its step records."""
    return {"update": looks["checked"], "coordinates": 256} if looks.get("checked") else {}


def power(steps: int, looks: Mapping[str, int]) -> list[str]:
    """What the looking bought, in words: how soon an edit of one weight in a thousand is seen, and what else follows."""
    lines = []
    if looks.get("update") and looks.get("coordinates"):
        every = steps / looks["update"]
        seen = 1 - (1 - EDITED_SHARE) ** looks["coordinates"]
        lines.append(
            f"checked {looks['update']} of {steps} updates at about {looks['coordinates']} secret coordinates: an update altered "
            f"as a whole (a wrong sign; in float32 a learning rate 0.1 % off) is seen at the next look, in {every:.0f} steps "
            f"or so; one that alters 0.1 % of the weights within about {_steps(seen, every):.0f} steps (99 %)"
        )
    if looks.get("continuity"):
        held = looks["held"] / looks["continuity"]
        seen = 1 - (1 - EDITED_SHARE) ** held
        within = _steps(seen, steps / looks["continuity"])
        lines.append(
            f"found about {held:.0f} values as the step before left them at {looks['continuity']} of {steps} steps: 0.1 % of the "
            f"weights edited between two steps is seen with probability {seen:.2g}, edited again and again within about "
            f"{within:.0f} steps (99 %)"
        )
    known = {"update", "coordinates", "continuity", "held"}
    others = [f"{name} {count}" for name, count in sorted(looks.items()) if name not in known]
    return [*lines, f"looks besides: {', '.join(others)}"] if others else lines


def _steps(seen: float, every: float) -> float:
    """Steps until 99 % of what one look in *every* steps sees with probability *seen* has been seen."""
    return math.ceil(math.log(MISS) / math.log1p(-seen)) * every if seen < 1 else every
