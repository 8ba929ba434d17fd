"""How the command line speaks: findings and errors for people on a terminal, JSON for programs. Everything shown is escaped."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from truerun.core.codec import to_json
from truerun.core.errors import TruerunError
from truerun.core.finding import Finding, Location, Severity
from truerun.core.visible import make_visible

SHOWN_OF_A_RULE = 2
F = TypeVar("F", bound=Callable[..., Any])
COLORS = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "red", Severity.CRITICAL: "magenta"}


def escape(text: str) -> str:
    """*text* with control and bidirectional characters made visible, so that nothing shown can act on the terminal."""
    return make_visible(text)


def options(function: F) -> F:
    """The options every command takes: `--format`, `--config`, `-q`, `-v`; passed on as keyword arguments."""
    decorators = (
        click.option(
            "--format", "output_format", type=click.Choice(["text", "json"]), default="text", help="Form of the output."
        ),
        click.option(
            "--config",
            "config_path",
            type=click.Path(dir_okay=False),
            help="The declaration; default: truerun.toml, here or above.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Only what is wrong."),
        click.option("-v", "--verbose", is_flag=True, help="More detail."),
    )
    return functools.reduce(lambda inner, decorate: decorate(inner), reversed(decorators), function)


def say(text: str = "", *, err: bool = False, **style: Any) -> None:
    """Print one line; colours only on a terminal and never under NO_COLOR."""
    stream = sys.stderr if err else sys.stdout
    plain = not style or "NO_COLOR" in os.environ or not stream.isatty()
    click.echo(text if plain else click.style(text, **style), err=err)


def say_json(value: Any) -> None:
    """Print *value* as JSON with stable order."""
    click.echo(json.dumps(to_json(value), indent=2, ensure_ascii=False, default=str))


def show_error(error: TruerunError) -> None:
    """Print *error* to standard error: what is wrong, got, expected, what to do next."""
    say(f"truerun: {escape(error.message)}", err=True, fg="red")
    for label, value in (("got", error.got), ("expected", error.expected), ("next", error.next_step)):
        if value is not None:
            say(f"  {label + ':':<10}{escape(str(value))}", err=True)


def show_findings(findings: Sequence[Finding], *, err: bool = False) -> None:
    """Print findings, worst first."""
    for finding in sorted(findings, key=lambda item: -item.severity.rank):
        show_finding(finding, err=err)


class Some:
    """Shows the first few findings of each rule and counts the rest, so that ten of one rule do not bury the one of another."""

    def __init__(self, *, everything: bool = False, err: bool = False) -> None:
        self._everything, self._err = everything, err
        self._seen: Counter[str] = Counter()

    def show(self, finding: Finding) -> None:
        """Show *finding*, or count it."""
        self._seen[finding.rule] += 1
        if self._everything or self._seen[finding.rule] <= SHOWN_OF_A_RULE:
            show_finding(finding, err=self._err)

    def show_rest(self) -> None:
        """Say how many were only counted."""
        for rule, count in self._seen.items():
            if count > SHOWN_OF_A_RULE and not self._everything:
                say(f"… and {count - SHOWN_OF_A_RULE} more of {rule}; -v shows all", err=self._err)


def show_finding(finding: Finding, *, err: bool = False) -> None:
    """Print one finding: severity, rule, place, message, who can say more, what to do."""
    say(f"{finding.severity.value}: {finding.rule}{_place(finding)}", err=err, fg=COLORS[finding.severity], bold=True)
    say(f"  {escape(finding.message)}", err=err)
    if finding.actor is not None:
        say(f"  who can say more: {escape(finding.actor.id)} (known from: {finding.actor.basis.value})", err=err)
    if finding.remedy:
        say(f"  next: {escape(finding.remedy)}", err=err)


def _place(finding: Finding) -> str:
    where = finding.location
    path = where.path or finding.subject.name
    parts = [escape(path) + (f":{where.line}" if where.line is not None else "")]
    if finding.subject.key:
        parts.append(escape(finding.subject.key))
    parts += [f"{name} {value}" for name, value in _numbers(where) if value is not None]
    return "  " + "  ".join(parts)


def _numbers(where: Location) -> tuple[tuple[str, Any], ...]:
    rows = None if where.rows is None else (", ".join(map(str, where.rows[:8])) + (" …" if len(where.rows) > 8 else ""))
    return (("step", where.step), ("rank", where.rank), ("entry", where.entry), ("rows", rows))
