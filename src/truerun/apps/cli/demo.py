"""`truerun demo`: a real training project goes wrong; watch it being caught, traced, brought back and, enforced, held."""

from __future__ import annotations

from pathlib import Path

import click

from truerun.apps.cli.output import options


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Another seed, another incident.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True, help="Where."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write what was planted and found, as JSON.")
@options
def command(
    seed: int, folder: Path, output: Path | None, output_format: str, config_path: str | None, *, quiet: bool, verbose: bool
) -> int:
    """A real training project goes wrong the way projects do; watch it being caught. Takes a minute or two."""
    import json

    from truerun.apps.cli.output import say, say_json
    from truerun.apps.demo.history import make_plan
    from truerun.apps.demo.story import Place, Story, prepare

    _require_torch()
    plan = make_plan(seed)
    place = Place(folder=folder.absolute())
    prepare(place)
    as_json = output_format == "json"
    outcome = Story(plan, place, quiet=quiet or as_json).tell()
    if output is not None:
        output.write_text(json.dumps(outcome.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        say_json(outcome.as_json())
    elif not quiet:
        say()
        for line in outcome.summary():
            say(line)
    for line in outcome.missing():
        say(f"truerun demo: {line}", err=True)
    return 1 if any(outcome.missing()) else 0


def _require_torch() -> None:
    import importlib.util

    from truerun.core.errors import MissingExtraError

    for name in ("numpy", "polars", "torch", "sklearn"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"the demo trains a real model, and {name} is not installed", next_step='pip install "truerun[data,torch,demo]"'
            )
