"""An entry: one recorded fact with its place in the ledger and the key that signed it."""

from __future__ import annotations

from dataclasses import dataclass

from truerun.core.fact import Fact
from truerun.ledger.envelope import parse_envelope, verify_envelope
from truerun.ledger.signing import key_id
from truerun.ledger.tree_head import TreeHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    `index` counts from 0. `key` is the author's public key line, whose signature over `envelope` was verified.

    `seen` is the tree head the author had seen when signing; everything before it is what they built on.
    """

    index: int
    key: str
    fact: Fact
    envelope: bytes
    seen: TreeHead

    @property
    def key_id(self) -> str:
        """The author's key as `SHA256:…`."""
        return key_id(self.key)


def verify_entry(index: int, envelope: bytes) -> Entry:
    """Parse *envelope* strictly and verify its author's signature; raises FormatError or VerificationError."""
    parsed = parse_envelope(envelope)
    statement = verify_envelope(parsed)
    return Entry(index=index, key=parsed.key, fact=statement.fact, envelope=envelope, seen=statement.seen)
