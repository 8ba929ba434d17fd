"""One entry's proof as text that stands alone (c2sp.org/tlog-proof): place, inclusion proof, signed tree head.

```
c2sp.org/tlog-proof@v1
extra base64 of the entry's envelope
index 42
one base64 hash per line, from the leaf's sibling up

the signed tree head
```

`extra` is optional in the specification and required here: it makes the file verifiable with the log key alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger import merkle
from truerun.ledger.entry import Entry, verify_entry
from truerun.ledger.envelope import MAX_ENVELOPE_BYTES
from truerun.ledger.note import MAX_NOTE_BYTES, NoteKey
from truerun.ledger.tree_head import MAX_SIZE, verify_tree_head
from truerun.ledger.wire import parse_base64, render_base64

_FIRST = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")
_MAX_BYTES = 2 * MAX_ENVELOPE_BYTES + MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """An envelope, its index, the hashes to the root, and the signed tree head. Law: `parse_proof(render_proof(p)) == p` and back."""

    index: int
    envelope: bytes
    hashes: tuple[bytes, ...]
    tree_head: bytes


def parse_proof(data: bytes) -> InclusionProof:
    """Parse strictly; raises FormatError."""
    if len(data) > _MAX_BYTES:
        raise FormatError("a proof that is too large", got=f"{len(data)} bytes", expected=f"at most {_MAX_BYTES}")
    body, separator, tree_head = data.partition(b"\n\n")
    try:
        lines = body.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError("a proof that is not text", got=repr(data[:40])) from error
    index = _INDEX.fullmatch(lines[2]) if len(lines) > 2 else None
    if not separator or lines[0] != _FIRST or not lines[1].startswith("extra ") or index is None or int(index[1]) > MAX_SIZE:
        raise FormatError("not a proof", got=repr(data[:60]), expected=f"{_FIRST}, extra, index")
    hashes = tuple(parse_base64(line, "a proof's hash") for line in lines[3:])
    if len(hashes) > merkle.MAX_PROOF_HASHES or any(len(value) != merkle.HASH_BYTES for value in hashes):
        raise FormatError(
            "a proof with wrong hashes", got=f"{len(hashes)} hashes", expected=f"at most {merkle.MAX_PROOF_HASHES}, 32 bytes each"
        )
    envelope = parse_base64(lines[1].removeprefix("extra "), "a proof's entry")
    return InclusionProof(index=int(index[1]), envelope=envelope, hashes=hashes, tree_head=tree_head)


def render_proof(proof: InclusionProof) -> bytes:
    """Render as text."""
    lines = (_FIRST, f"extra {render_base64(proof.envelope)}", f"index {proof.index}", *map(render_base64, proof.hashes))
    return "\n".join(lines).encode() + b"\n\n" + proof.tree_head


def verify_proof(proof: InclusionProof, key: NoteKey) -> Entry:
    """The entry, proved to be in the ledger whose log key is *key*; raises VerificationError or FormatError."""
    head = verify_tree_head(proof.tree_head, key)
    merkle.verify_inclusion(merkle.leaf_hash(proof.envelope), proof.index, head.size, proof.hashes, head.root)
    entry = verify_entry(proof.index, proof.envelope)
    if entry.seen.origin != head.origin:
        raise VerificationError("an entry that was signed for another ledger", got=entry.seen.origin, expected=head.origin)
    return entry
