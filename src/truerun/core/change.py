"""A change: one recorded modification between two locks. The unit that is approved, tried out and attributed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from truerun.core.actor import Actor
from truerun.core.codec import to_json
from truerun.core.digest import digest_value


class ChangeKind(enum.Enum):
    """What kind of input was modified."""

    CONFIG = "config"
    DATA = "data"
    CODE = "code"
    ENVIRONMENT = "environment"
    CHECKPOINT = "checkpoint"
    DECLARATION = "declaration"


class Action(enum.Enum):
    """What was done to it. Rows have their own words because they are added and removed in sets."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    ROWS_ADDED = "rows-added"
    ROWS_REMOVED = "rows-removed"
    FORMATTED = "formatted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One modification.

    `name` is the artifact (config path, data name, code path, distribution, checkpoint path); `key` the part of it
    (config key, contributor of the rows, hunk). `before` and `after` are plain JSON: config values, digests, versions,
    or for rows `{"count": n, "rows": "<digest of the stored list of row digests>"}`. `protected` says that the policy
    wants an approval for it. `line` is the line in `path` now.
    """

    kind: ChangeKind
    action: Action
    name: str
    key: str | None = None
    before: Any = None
    after: Any = None
    path: str | None = None
    line: int | None = None
    actor: Actor | None = None
    protected: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stable short id: depends on what was changed to what, not on who or when."""
        what = [self.kind.value, self.action.value, self.name, self.key, to_json(self.before), to_json(self.after)]
        return "c" + digest_value(what).value[:10]

    def attributed(self, actor: Actor | None) -> Change:
        """The same change with *actor* as the one who made it."""
        return replace(self, actor=actor)

    def title(self) -> str:
        """One line for people: `config.yaml optimizer.lr 0.003 -> 0.03`, `train +40 rows by ana`."""
        what = f"{self.name} {self.key}" if self.key and self.kind is not ChangeKind.DATA else self.name
        if self.action in (Action.ROWS_ADDED, Action.ROWS_REMOVED):
            sign, value = ("+", self.after) if self.action is Action.ROWS_ADDED else ("-", self.before)
            count = value["count"] if isinstance(value, Mapping) else "?"
            return f"{what} {sign}{count} rows" + (f" by {self.key}" if self.key else "")
        if self.kind is ChangeKind.DATA and self.key:
            return f"{self.name} column {self.key} {_plain(self.before)} -> {_plain(self.after)}"
        if self.kind in (ChangeKind.CONFIG, ChangeKind.ENVIRONMENT, ChangeKind.DECLARATION) and self.action is Action.MODIFIED:
            return f"{what} {_plain(self.before)} -> {_plain(self.after)}"
        return f"{what} {self.action.value}"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value if len(value) <= 60 else value[:57] + "..."
    text = str(to_json(value)) if value is not None else "(absent)"
    return text if len(text) <= 60 else text[:57] + "..."
