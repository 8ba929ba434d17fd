"""`truerun lock`: resolve the declaration to digests, say what changed and who changed it, record the proposal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from truerun.core.decision import Decision


@click.command()
@click.option("--note", default="", help="Why, in a sentence; kept with the entry.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with.")
@options
def command(note: str, key: str | None, output_format: str, config_path: str | None, *, quiet: bool, verbose: bool) -> int:
    """Resolve the declaration to digests, show what changed and who changed it, record the proposal."""
    from truerun.apps.cli.changes import changes_as_json, show_changes, show_notes
    from truerun.apps.cli.output import say, say_json
    from truerun.apps.locking import decide, record_lock, resolve
    from truerun.apps.project import open_project

    project = open_project(config_path)
    signer = project.signer(key)
    resolved = resolve(project)
    recorded = record_lock(project, resolved, signer, note)
    decision = decide(project, resolved)
    entry = recorded.entry
    if output_format == "json":
        say_json(
            {
                "schema": 1,
                "lock": recorded.lock.digest,
                "entry": entry.index if entry else None,
                "changes": changes_as_json(recorded.changes),
                "decision": decision,
                "notes": resolved.notes,
            }
        )
        return 0
    if quiet:
        return 0
    show_notes(resolved.notes)
    show_changes(recorded.changes, verbose=verbose)
    if entry is None:
        say(f"nothing changed: lock {recorded.lock.digest.short} is the newest proposal")
    else:
        say(f"lock {recorded.lock.digest.short} proposed as entry {entry.index}; truerun.lock written", bold=True)
    _show_decision(decision)
    return 0


def _show_decision(decision: Decision) -> None:
    """What the policy wants before this lock runs."""
    from truerun.apps.cli.output import escape, say

    if not decision.needs:
        say(escape("; ".join(decision.reasons[:2])))
    for need in decision.needs:
        who = f" ({', '.join(need.who)})" if need.who else ""
        say(f"needs {escape(need.what + who)}", fg="yellow")
    if decision.needs:
        say(f"next: truerun approve {decision.lock.short}")
