"""A decision: allow, hold or deny, and the reasons. Missing evidence never allows."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from truerun.core.digest import Digest


class Outcome(enum.Enum):
    """`hold` waits for people; `deny` is an answer that waiting does not change."""

    ALLOW = "allow"
    HOLD = "hold"
    DENY = "deny"


class Answer(enum.Enum):
    """What an approver says to a lock."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One approval that is still missing: in words, and the ids of the people who can give it."""

    what: str
    who: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy makes of a lock: `reasons` in plain words, `needs` what is missing, `approvals` the entries that count."""

    outcome: Outcome
    lock: Digest
    reasons: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    approvals: tuple[int, ...] = ()
    policy: str = "built-in-1"
