"""`truerun diff`: the changes between two locks, runs or approved states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from truerun.apps.locking import Resolved
    from truerun.apps.project import Project
    from truerun.core.change import Change
    from truerun.core.lock import Lock


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@options
def command(a: str | None, b: str | None, output_format: str, config_path: str | None, *, quiet: bool, verbose: bool) -> int:
    """
    Changes between two locks, runs or approved states: keys, rows, code, packages, weights, people.

    A and B are the start of a lock's digest, a run's id, approved, head (the newest proposal) or . (the files as they
    are). Default: from what is approved (else the newest proposal) to the files as they are.
    """
    from truerun.apps.cli.changes import changes_as_json, show_changes, show_notes
    from truerun.apps.cli.output import say, say_json
    from truerun.apps.locking import resolve
    from truerun.apps.project import open_project

    project = open_project(config_path)
    name_a = a or _default_base(project)
    name_b = b or "."
    resolved = resolve(project) if "." in (name_a, name_b) else None
    old, new = (_lock(project, name, resolved) for name in (name_a, name_b))
    changes = _changes(project, old, new, resolved if name_b == "." else None)
    if output_format == "json":
        names = {"from": {"name": name_a, "lock": old.digest}, "to": {"name": name_b, "lock": new.digest}}
        say_json({"schema": 1, **names, "changes": changes_as_json(changes)})
        return 0
    if not quiet:
        say(f"from {name_a} ({old.digest.short}) to {name_b} ({new.digest.short})", bold=True)
        show_notes(resolved.notes if resolved else ())
    show_changes(changes, verbose=verbose)
    if not changes and not quiet:
        say("no difference")
    return 0


def _default_base(project: Project) -> str:
    return "approved" if project.approved_lock() is not None else "head"


def _lock(project: Project, name: str, resolved: Resolved | None) -> Lock:
    return resolved.lock if name == "." and resolved is not None else project.named_lock(name)


def _changes(project: Project, old: Lock, new: Lock, tree: Resolved | None) -> tuple[Change, ...]:
    """The changes with the strongest evidence for who made each: a signed proposal, else what the tree shows."""
    from truerun.apps.comparing import compare_locks, recorded_by
    from truerun.apps.locking import compare

    if tree is not None:
        return recorded_by(project, compare(project, old, tree).changes, old, None)
    return recorded_by(project, compare_locks(project, old, new).changes, old, new.digest)
