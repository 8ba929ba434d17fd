"""A tree head: how many entries the ledger has and their root hash (c2sp.org/tlog-checkpoint; "checkpoint" is a model's here).

```
truerun/digits/5f3a…      origin
1042                      size
CsUYapGGPo4dkMgI…=        root, base64

— truerun/digits/5f3a… base64
```

Extension lines are refused: nothing writes them and nothing could audit them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.merkle import HASH_BYTES
from truerun.ledger.note import Note, NoteKey, NoteSigner, parse_note, render_note, verify_note
from truerun.ledger.wire import parse_base64, render_base64

MAX_SIZE = 2**53 - 1
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """`size` entries under `root` (32 bytes) in the ledger called `origin`."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        """`size:root` with the root in base64: short, for results and reports."""
        return f"{self.size}:{render_base64(self.root)}"


def parse_tree_head(text: str) -> TreeHead:
    """Parse the three lines; raises FormatError. Laws: `parse(render(h)) == h`, `render(parse(t)) == t`."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise FormatError("not a tree head", got=repr(text[:80]), expected="three lines: origin, size, root")
    root = parse_base64(lines[2], "a tree head's root")
    if not _SIZE.fullmatch(lines[1]) or int(lines[1]) > MAX_SIZE or len(root) != HASH_BYTES:
        raise FormatError("a tree head with a wrong size or root", got=repr(text[-80:]), expected="a decimal number, 32 bytes")
    return TreeHead(origin=lines[0], size=int(lines[1]), root=root)


def render_tree_head(head: TreeHead) -> str:
    """Render the three lines."""
    return f"{head.origin}\n{head.size}\n{render_base64(head.root)}\n"


def sign_tree_head(head: TreeHead, signer: NoteSigner) -> bytes:
    """The signed note of *head*."""
    text = render_tree_head(head)
    return render_note(Note(text=text, signatures=(signer.sign(text),)))


def verify_tree_head(data: bytes, key: NoteKey) -> TreeHead:
    """The tree head in the signed note *data*; raises FormatError, or VerificationError unless *key* signed it as its own."""
    note = parse_note(data)
    verify_note(note, key)
    head = parse_tree_head(note.text)
    if head.origin != key.name:
        raise VerificationError("a tree head of another ledger", got=head.origin, expected=key.name)
    return head
