"""`truerun trace RUN`: which changes made a run worse, with a probability each, and what shows it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from truerun.apps.cli.output import escape, options, say, say_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from truerun.apps.tracing import Progress, Traced
    from truerun.core.attribution import Attribution, SourceSuspect, Suspect

SHOWN_SUSPECTS = 8
WORTH_SHOWING = 0.05


@click.command()
@click.argument("run")
@click.option("--against", help="The run to compare with; default: the newest better one on an approved lock before it.")
@click.option("--metric", help="The declared metric to judge by; default: the first in truerun.toml.")
@click.option("--budget", type=click.IntRange(min=4), default=40, show_default=True, help="The most full reruns.")
@click.option("--replay-steps", type=click.IntRange(min=0), default=20, show_default=True, help="Steps of a replay; 0: none.")
@click.option("--parallel", type=click.IntRange(min=1), help="Reruns at a time; default: 2 where there are two cores.")
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds that one rerun may take.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key that signs the recorded answer.")
@click.option("--output", type=click.Path(dir_okay=False), help="Also write the answer here, as JSON.")
@options
def command(
    run: str,
    key: str | None,
    output: str | None,
    output_format: str,
    config_path: str | None,
    *,
    quiet: bool,
    verbose: bool,
    **how: Any,
) -> int:
    """Which changes made RUN worse than a good run before it, and who can say more about them. Reruns the project to find out."""
    from truerun.apps.project import open_project
    from truerun.apps.tracing import TraceRequest, trace

    project = open_project(config_path)
    signer = project.signer(key)
    request = TraceRequest(
        run=run,
        against=how["against"],
        metric=how["metric"],
        budget=how["budget"],
        replay_steps=how["replay_steps"],
        parallel=how["parallel"],
        timeout_seconds=how["timeout"],
    )
    with _progress(show=not quiet) as on_progress:
        traced = trace(project, request, signer, on_progress)
    if output is not None:
        _write(Path(output), traced)
    if output_format == "json":
        say_json(traced.attribution)
    else:
        show_attribution(traced.attribution, len(traced.candidates), verbose=verbose)
        say(f"recorded as entry {traced.entry}; {traced.seconds:.0f} s")
    return exit_code(traced.attribution)


def exit_code(attribution: Attribution) -> int:
    """1 where changes were singled out, 0 where nothing got worse, 3 where it could not be told."""
    return {"attributed": 1, "no-degradation": 0, "cannot-tell": 3}[attribution.verdict.value]


def _write(path: Path, traced: Traced) -> None:
    import json

    from truerun.adapters.objects import write_whole
    from truerun.core.codec import to_json

    text = json.dumps(to_json(traced.attribution), indent=2, ensure_ascii=False) + "\n"
    write_whole(path, lambda stream: stream.write(text.encode()))


def show_attribution(attribution: Attribution, candidates: int, *, verbose: bool = False) -> None:
    """Print the answer first, then what shows it, who can say more, what was not singled out, what to do next."""
    convicted = [suspect for suspect in attribution.suspects if suspect.probability >= 0.9]
    metric = attribution.metric or {}
    say(_answer(attribution, convicted, candidates), bold=True)
    say(f"  {_degradation(attribution, metric)}")
    shown = [suspect for suspect in attribution.suspects if verbose or suspect.probability >= WORTH_SHOWING]
    for suspect in shown if verbose else shown[:SHOWN_SUSPECTS]:
        _show_suspect(suspect, metric.get("name"))
    for source in attribution.sources:
        _show_source(attribution, source)
    rest = len(attribution.suspects) - len(shown)
    if rest:
        say(f"{rest} other changes: below {WORTH_SHOWING:.0%} each")
    for note in attribution.notes:
        say(f"note: {escape(note)}")
    say(
        f"{attribution.runs_used} reruns"
        + (f", {attribution.replay_steps_used} replayed steps" if attribution.replay_steps_used else "")
    )
    say(f"next: {_next(attribution, convicted)}")


def _answer(attribution: Attribution, convicted: list[Suspect], candidates: int) -> str:
    if attribution.verdict.value == "no-degradation":
        return f"{attribution.run} is not worse than {attribution.against}"
    if attribution.verdict.value == "cannot-tell":
        return f"cannot tell which of {candidates} changes made {attribution.run} worse"
    verb = "explains" if len(convicted) == 1 else "explain"
    titles = "; ".join(escape(suspect.change.title()) for suspect in convicted)
    return f"{len(convicted)} of {candidates} changes {verb} it: {titles}"


def _degradation(attribution: Attribution, metric: Mapping[str, Any]) -> str:
    def number(key: str) -> str:
        value = metric.get(key)
        return "no value" if value is None else f"{value:.4g}"

    reruns = f"rerun here: {number('run_rerun')} against {number('reference_rerun')}"
    return (
        f"{metric.get('name')}: {number('run')} in {escape(attribution.run)}, {number('reference')} in "
        f"{escape(attribution.against)} (tolerance {metric.get('tolerance')}; {reruns})"
    )


def _show_suspect(suspect: Suspect, metric: str | None) -> None:
    colour = "red" if suspect.probability >= 0.9 else None
    say(f"{suspect.probability:7.1%}  {escape(suspect.change.title())}", fg=colour)
    if suspect.effect is not None:
        say(f"         moves {metric} by {suspect.effect:+.4g}")
    for fact in suspect.evidence:
        say(f"         {escape(str(fact.get('text') or fact.get('what') or ''))}")
    actor = suspect.change.actor
    if actor is not None:
        entry = f", entry {suspect.lock_entry}" if suspect.lock_entry is not None else ""
        say(f"         who can say more: {escape(actor.id)} (known from: {actor.basis.value}{entry})")


def _show_source(attribution: Attribution, source: SourceSuspect) -> None:
    share = f"{source.interval[0]:.0%} to {source.interval[1]:.0%}" if len(source.interval) == 2 else "?"
    who = f" by {escape(source.contributor)}" if source.contributor else ""
    say(f"of the {source.rows} rows added to {escape(source.data)}{who}, {source.rows_suspect} look wrong ({share}):")
    mine = [row for row in attribution.rows if row.data == source.data and (row.contributor or "") == source.contributor]
    for row in mine[:3]:
        say(f"         row {row.row}: {escape(row.reason)}")


def _next(attribution: Attribution, convicted: list[Suspect]) -> str:
    if attribution.verdict.value == "no-degradation":
        return "nothing to go back from"
    if attribution.verdict.value == "attributed":
        return f"truerun recover {attribution.run} shows the clean state; ask who made the changes what they were for"
    if convicted or attribution.suspects:
        return f"truerun trace {attribution.run} --budget {max(80, 2 * attribution.runs_used)}, or --against another run"
    return f"truerun show {attribution.run}: look at its findings, the environment and the machine"


@contextlib.contextmanager
def _progress(*, show: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not show or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape as escape_markup
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("tracing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda progress: bar.update(
            task, completed=progress.done, total=progress.budget, description=escape_markup(escape(progress.doing))
        )
