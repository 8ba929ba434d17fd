"""One frame of `truerun watch`: a run's state as lines of styled text, for a terminal of a given width. Everything is escaped."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from truerun.core.visible import make_visible

if TYPE_CHECKING:
    from truerun.apps.live_run import Curve, LiveRun
    from truerun.core.finding import Finding

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
ODD = "×"
FIRST_CURVES = ("loss", "lr")
SHOWN_CURVES, SHOWN_FINDINGS = 8, 6
SILENT_SECONDS = 30.0
STATES = {"running": "bold cyan", "pass": "bold green", "fail": "bold red", "lost": "bold red"}
LEVELS = {"note": "cyan", "warning": "yellow", "error": "bold red", "critical": "bold magenta"}


def frame(run: LiveRun, now: float, width: int = 80, *, everything: bool = False, unicode: bool = True) -> RenderableType:
    """The state of *run* at *now* (seconds since the epoch) for a terminal *width* columns wide."""
    parts: list[RenderableType] = [_head(run, now), _command(run, width), Text(), _pace(run), Text()]
    if run.curves:
        parts += [_curves(run, width, everything=everything, unicode=unicode), Text()]
    parts += _findings(run, everything=everything)
    return Group(*parts)


def sparkline(curve: Curve, width: int, bars: str = BARS) -> str:
    """*curve* as one line of *width* characters at most; what was not finite is ×."""
    values = [value for _, value in curve.points(width)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    top = len(bars) - 1
    return "".join(
        ODD if not math.isfinite(value) else bars[round((value - low) / (high - low) * top)] if high > low else bars[0]
        for value in values
    )


def number(value: float | None) -> str:
    """Four significant digits, short enough for a column."""
    return "" if value is None else f"{value:.4g}"


def span(seconds: float) -> str:
    """A time as people say it: `41 s`, `3 min 12 s`, `2 h 05 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _head(run: LiveRun, now: float) -> Text:
    state = run.state
    said = {"lost": "lost: its agent is gone and left no verdict"}.get(state, state)
    text = Text.assemble(
        ("run ", "bold"), (_line(run.folder.name), "bold"), "  ", (_line(said), STATES.get(state, "bold yellow"))
    )
    if run.seconds:
        text.append(f"  after {span(run.seconds)}" if state != "running" else f"  for {span(run.seconds)}", "dim")
    mode, project = run.start.get("mode"), run.start.get("project")
    text.append("".join(f"  {_line(str(item))}" for item in (project, mode and f"{mode} mode") if item), "dim")
    silent = run.silent_seconds(now)
    if state == "running" and silent > SILENT_SECONDS:
        text.append(f"  silent for {span(silent)}", "yellow")
    return text


def _command(run: LiveRun, width: int) -> Text:
    command = run.start.get("command", ())
    text = Text("  " + _line(shlex.join(map(str, command))), "dim", no_wrap=True, overflow="ellipsis")
    text.truncate(width, overflow="ellipsis")
    return text


def _pace(run: LiveRun) -> Text:
    """Step, speed, ranks, looks and cost, in one line."""
    parts: list[tuple[str, str]] = [(f"step {run.step:,}", "bold")]
    if run.rate is not None:
        parts.append((f"{run.rate:,.3g} steps/s" if run.rate < 100 else f"{run.rate:,.0f} steps/s", ""))
    if len(run.reach) > 1:
        slow, fast = min(run.reach.values()), max(run.reach.values())
        behind = f", the last at step {slow:,}" if slow < fast else ""
        parts.append((f"{len(run.reach)} ranks{behind}", ""))
    if run.recorded:
        parts.append((f"{run.checked:,} of {run.recorded:,} updates checked", ""))
    if run.seconds:
        parts.append((f"watching costs {run.spent / run.seconds:.1%}", ""))
    return Text("  ").append(Text(" · ").join(Text(said, style) for said, style in parts))


def _curves(run: LiveRun, width: int, *, everything: bool, unicode: bool) -> Table:
    names = sorted(
        run.curves, key=lambda name: (name not in FIRST_CURVES, FIRST_CURVES.index(name) if name in FIRST_CURVES else 0)
    )
    shown = names if everything else names[:SHOWN_CURVES]
    widest = min(24, max(len(_line(name)) for name in shown))
    room = max(10, min(60, width - widest - 38))
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(width=widest + 2, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", width=10, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name in shown:
        curve = run.curves[name]
        value = Text(number(curve.last), "bold" if curve.last is not None and math.isfinite(curve.last) else "bold red")
        line = Text(sparkline(curve, room, BARS if unicode else PLAIN_BARS), "cyan")
        line.highlight_words([ODD], "bold red")
        table.add_row(Text("  " + _line(name)), value, line, Text(_range(curve), "dim"))
    if len(shown) < len(names):
        table.add_row(Text("  …"), Text(), Text(f"and {len(names) - len(shown)} more; -v shows all", "dim"), Text())
    return table


def _range(curve: Curve) -> str:
    if curve.odd:
        return f"{curve.odd} not finite"
    if curve.least == curve.most:
        return "constant"
    return f"{number(curve.least)} to {number(curve.most)}"


def _findings(run: LiveRun, *, everything: bool) -> Iterator[RenderableType]:
    found = run.findings
    if not found:
        yield Text("  nothing found" + (" so far" if run.state == "running" else ""), "green")
        return
    yield Text(f"  {_counted(found)}", "bold")
    shown = found if everything else found[:SHOWN_FINDINGS]
    for finding in shown:
        yield from _finding(finding)
    if len(shown) < len(found):
        yield Text(f"  … and {len(found) - len(shown)} more; -v shows all", "dim")


def _finding(finding: Finding) -> Iterator[RenderableType]:
    where = finding.location
    place = [f"{name} {value}" for name, value in (("step", where.step), ("rank", where.rank)) if value is not None]
    level = finding.severity.value
    head = Text.assemble("  ", (f"{level:<8}", LEVELS[level]), " ", (finding.rule, "bold"))
    head.append("".join(f"  {item}" for item in place), "dim")
    yield head
    yield _indented(finding.message, "")
    if finding.remedy:
        yield _indented(f"next: {finding.remedy}", "dim")


def _indented(text: str, style: str) -> Table:
    table = Table.grid()
    table.add_column(width=11)
    table.add_column(overflow="fold")
    table.add_row("", Text(_line(text), style))
    return table


def _counted(found: Sequence[Finding]) -> str:
    counts = {level: sum(finding.severity.value == level for finding in found) for level in reversed(LEVELS)}
    names = {"critical": ("critical", "critical"), "error": ("error", "errors"), "warning": ("warning", "warnings")}
    said = [(count, *names.get(level, (level, f"{level}s"))) for level, count in counts.items() if count]
    return ", ".join(f"{count} {many if count > 1 else one}" for count, one, many in said)


def _line(text: str) -> str:
    """*text* on one line, with what could act on the terminal made visible."""
    return make_visible(text.replace("\n", " ").replace("\t", " "))
