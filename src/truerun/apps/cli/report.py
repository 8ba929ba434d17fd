"""`truerun report RUN`: the story of a run as one self-contained page, as Markdown or as JSON."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["html", "markdown", "json", "text"]),
    default="html",
    show_default=True,
    help="Form of the report; text is Markdown.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it here; default: standard output.")
@click.option(
    "--config", "config_path", type=click.Path(dir_okay=False), help="The declaration; default: truerun.toml, here or above."
)
@click.option("-q", "--quiet", is_flag=True, help="Only what is wrong.")
@click.option("-v", "--verbose", is_flag=True, help="More detail.")
def command(run: str, output_format: str, output: Path | None, config_path: str | None, *, quiet: bool, verbose: bool) -> int:
    """What happened in RUN, which changes explain it, who can say more, what it cost, and what would have stopped it."""
    from truerun.adapters.files import write_whole
    from truerun.apps.cli.output import escape, say
    from truerun.apps.project import open_project
    from truerun.apps.reporting import gather_incident
    from truerun.response.report import render_html, render_json, render_markdown

    incident = gather_incident(open_project(config_path), run)
    render = {"html": render_html, "json": render_json}.get(output_format, render_markdown)
    text = render(incident)
    if output is None:
        click.echo(text, nl=False)
        return 0
    write_whole(output, lambda stream: stream.write(text.encode()))
    if not quiet:
        say(escape(incident.headline), bold=True)
        for sentence in incident.summary:
            say(f"  {escape(sentence)}")
        say(f"written to {output} ({len(text.encode()) // 1024 + 1} KiB, one file, nothing to load)")
    return 0
