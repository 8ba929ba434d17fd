"""`truerun watch [RUN]`: a live view of a run, from the files in its folder; it only looks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from truerun.apps.live_run import LiveRun

LOOK_SECONDS = 0.5
FRAMES_A_SECOND = 4


@click.command()
@click.argument("run", required=False)
@click.option("--once", is_flag=True, help="Show the state as it is and end.")
@options
def command(run: str | None, output_format: str, config_path: str | None, *, once: bool, quiet: bool, verbose: bool) -> int:
    """Show RUN (default: the newest) as it goes on: step, speed, curves, findings, cost. Ends with the run, or with Ctrl-C."""
    from truerun.apps.cli.output import say_json
    from truerun.apps.live_run import LiveRun
    from truerun.apps.project import open_project

    live = LiveRun(find_folder(open_project(config_path).folder / "runs", run))
    live.update()
    if output_format == "json":
        say_json(live.as_json())
        return 0
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if once:
        console.print(_frame(live, console, everything=verbose))
        return 0
    _follow(live, console, everything=verbose)
    return 0


def find_folder(runs: Path, name: str | None) -> Path:
    """The folder of the run that *name* is the id of, or the beginning of it; None: the newest. Raises UsageError."""
    from truerun.core.errors import UsageError

    found = sorted((path for path in runs.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    if name is not None:
        found = [path for path in found if path.name == name] or [path for path in found if path.name.startswith(name)]
    if not found:
        what = "no run was made here yet" if name is None else f"there is no run {name}"
        raise UsageError(what, next_step="truerun runs lists runs; truerun run -- CMD… makes one")
    if name is not None and len(found) > 1:
        names = ", ".join(path.name for path in found[:8])
        raise UsageError(f"{len(found)} runs begin with {name}", got=names, next_step="give more of its id")
    return found[-1]


def _frame(live: LiveRun, console: Console, *, everything: bool) -> RenderableType:
    from truerun.apps.cli.live_view import frame

    unicode = (console.encoding or "").lower().startswith("utf")
    return frame(live, time.time(), console.width, everything=everything, unicode=unicode)


def _follow(live: LiveRun, console: Console, *, everything: bool) -> None:
    """Show frame after frame until the run has ended; without a terminal only the last one."""
    from rich.live import Live

    with Live(console=console, refresh_per_second=FRAMES_A_SECOND, auto_refresh=False, transient=False) as view:
        try:
            while True:
                live.update()
                view.update(_frame(live, console, everything=everything), refresh=console.is_terminal)
                if live.state != "running":
                    return
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            view.update(_frame(live, console, everything=everything), refresh=console.is_terminal)
