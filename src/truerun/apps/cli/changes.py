"""How changes are shown: grouped by kind, one line each, with who made it and how we know. Used by lock, diff and approve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from truerun.apps.cli.output import escape, say
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.codec import to_json

MAX_SHOWN = 40
_SIGNS = {
    Action.ADDED: "+",
    Action.REMOVED: "-",
    Action.MODIFIED: "~",
    Action.ROWS_ADDED: "+",
    Action.ROWS_REMOVED: "-",
    Action.FORMATTED: "=",
}
_COLORS = {"+": "green", "-": "red", "~": "yellow", "=": "cyan"}


def changes_as_json(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Changes with their ids and titles, as JSON output gives them."""
    return [{"id": change.id, "title": change.title(), **to_json(change)} for change in changes]


def show_changes(changes: Sequence[Change], *, verbose: bool = False) -> None:
    """Print *changes* by kind; at most 40 of a kind unless *verbose*."""
    for kind in ChangeKind:
        group = [change for change in changes if change.kind is kind]
        if not group:
            continue
        say(kind.value, bold=True)
        for change in group if verbose else group[:MAX_SHOWN]:
            sign = _SIGNS[change.action]
            say(f"  {sign} {escape(describe(change))}{_who(change)}", fg=_COLORS[sign])
        if len(group) > MAX_SHOWN and not verbose:
            say(f"  … and {len(group) - MAX_SHOWN} more (-v shows all)")


def describe(change: Change) -> str:
    """One line on *change*: what it is, from what to what, where."""
    text = change.title()
    named = change.key is not None or (change.kind is ChangeKind.ENVIRONMENT and change.name != "python")
    if change.action in (Action.ADDED, Action.REMOVED) and named and change.kind is not ChangeKind.DATA:
        value = change.after if change.action is Action.ADDED else change.before
        text = f"{text} ({_short(value)})"
    elif change.detail.get("what") and change.key is None:
        text = f"{change.name} {change.action.value}: {change.detail['what']}"
    places = [f"line {change.line}"] if change.line is not None and change.kind is not ChangeKind.CODE else []
    places += [" ".join(change.detail["lines"][:4])] if change.detail.get("lines") else []
    if change.path is not None and change.path != change.name:
        places.insert(0, change.path)
    if change.kind is ChangeKind.DATA and change.detail.get("first_rows"):
        places.append("rows " + ", ".join(map(str, change.detail["first_rows"][:4])) + " …")
    return text + (f"  ({'; '.join(places)})" if places else "") + ("" if change.protected else "  [not protected]")


def show_notes(notes: Iterable[str]) -> None:
    """Print what the reader should know besides, to standard error."""
    for note in notes:
        say(f"note: {escape(note)}", err=True)


def _who(change: Change) -> str:
    if change.actor is None:
        return ""
    git = change.detail.get("git_author")
    said = f", git says {escape(str(git))}" if git and git != change.actor.id else ""
    return f"  by {escape(change.actor.id)} ({change.actor.basis.value}){said}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else str(to_json(value))
    return text if len(text) <= 60 else text[:57] + "..."
