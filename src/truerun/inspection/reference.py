"""What a project is compared with: an approved lock, or the newest proposed one where nothing has been approved yet."""

from __future__ import annotations

from dataclasses import dataclass

from truerun.core.lock import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A lock, when it was approved (or proposed), and the ledger entry that says so. `at` is RFC 3339 as its author claims it."""

    lock: Lock
    at: str
    entry: int | None
    approved: bool

    @property
    def since(self) -> str:
        """In words: `was approved on 2026-11-20 (entry 412)`."""
        entry = f" (entry {self.entry})" if self.entry is not None else ""
        return f"was {'approved' if self.approved else 'proposed'} on {self.at[:10]}{entry}"

    @property
    def remedy(self) -> str:
        """The command with which a change that is meant is made known."""
        return "truerun lock, then truerun approve" if self.approved else "truerun lock"


def shown(value: object) -> str:
    """*value* as a short piece of a message: text as it is, everything else as JSON would write it, at most 80 characters."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
