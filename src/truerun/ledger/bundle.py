"""A whole ledger as one file of JSON lines, verifiable offline with nothing else: `truerun ledger export`.

```
{"kind": "truerun-ledger", "log_key": "name+hash+key", "schema": 1, "size": 2, "tree_head": "the signed note"}
{"envelope": "{…}", "index": 0, "proof": ["base64", …]}
{"envelope": "{…}", "index": 1, "proof": ["base64", …]}
```

Every line is canonical JSON. Whoever reads it should compare `log_key` with one they got another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from truerun.core.canonical import parse_canonical, render_canonical
from truerun.core.codec import from_json, to_json
from truerun.core.errors import FormatError, LedgerCorruptError, VerificationError
from truerun.ledger import merkle
from truerun.ledger.envelope import MAX_ENVELOPE_BYTES
from truerun.ledger.ledger import Ledger
from truerun.ledger.note import parse_note_key
from truerun.ledger.store import MemoryStore
from truerun.ledger.tree_head import verify_tree_head
from truerun.ledger.wire import parse_base64, render_base64

KIND = "truerun-ledger"
SCHEMA = 1
MAX_LINE_BYTES = 2 * MAX_ENVELOPE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class _First:
    kind: str
    log_key: str
    schema: int
    size: int
    tree_head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    envelope: str
    index: int
    proof: tuple[str, ...]


def render_bundle(ledger: Ledger) -> Iterator[bytes]:
    """The lines of *ledger*'s bundle, each with its newline: all entries under its newest tree head, each with its proof."""
    note = ledger.signed_tree_head()
    head = verify_tree_head(note, parse_note_key(ledger.log_key))
    first = _First(kind=KIND, log_key=ledger.log_key, schema=SCHEMA, size=head.size, tree_head=note.decode())
    yield render_canonical(to_json(first)) + b"\n"
    for entry in ledger.entries():
        if entry.index >= head.size:  # recorded since
            return
        proof = tuple(map(render_base64, ledger.prove_inclusion(entry.index, head.size)))
        yield render_canonical(to_json(_Line(envelope=entry.envelope.decode(), index=entry.index, proof=proof))) + b"\n"


def verify_bundle(
    lines: Iterable[bytes], *, log_key: str | None = None, progress: Callable[[int, int], None] | None = None
) -> Ledger:
    """
    Check a whole bundle and give its ledger, to read only.

    Raises FormatError where it is no bundle, LedgerCorruptError with the first bad index, VerificationError where it names
    another log key than *log_key*.
    """
    rows = iter(lines)
    first = _parse_first(next(rows, b""))
    store = MemoryStore()
    proofs: list[tuple[bytes, ...]] = []
    frontier: list[bytes] = []
    with store.writing() as writer:
        for index, row in enumerate(rows):
            envelope, proof = _parse_line(row, index)
            hashes = merkle.new_hashes(index, merkle.leaf_hash(envelope), frontier)
            writer.write([(index, envelope)], list(enumerate(hashes, merkle.stored_count(index))), first.tree_head.encode())
            proofs.append(proof)
        if len(proofs) != first.size:
            raise LedgerCorruptError(
                "the bundle is not whole", index=len(proofs), got=f"{len(proofs)} entries", expected=first.size
            )
    ledger = Ledger(store)
    ledger.verify(progress, log_key=log_key or first.log_key)
    root = ledger.tree_head().root
    for entry, proof in zip(ledger.entries(), proofs, strict=True):
        try:
            merkle.verify_inclusion(merkle.leaf_hash(entry.envelope), entry.index, first.size, proof, root)
        except VerificationError as error:
            raise _corrupt(error, entry.index) from error
    return ledger


def _parse_first(row: bytes) -> _First:
    first = from_json(_First, parse_canonical(_without_newline(row)), "the first line")
    if (first.kind, first.schema) != (KIND, SCHEMA) or first.size < 1:
        raise FormatError("not a bundle of a ledger", got=f"{first.kind[:40]} {first.schema}", expected=f"{KIND} {SCHEMA}")
    return first


def _parse_line(row: bytes, index: int) -> tuple[bytes, tuple[bytes, ...]]:
    try:
        line = from_json(_Line, parse_canonical(_without_newline(row)), f"entry {index}")
        if line.index != index:
            raise FormatError("entries out of order", got=line.index, expected=index)
        return line.envelope.encode(), tuple(parse_base64(text, "a proof's hash") for text in line.proof)
    except FormatError as error:
        raise _corrupt(error, index) from error


def _without_newline(row: bytes) -> bytes:
    if not row.endswith(b"\n") or len(row) > MAX_LINE_BYTES:
        raise FormatError("not a line of a bundle", got=repr(row[:60]), expected=f"at most {MAX_LINE_BYTES} bytes and a newline")
    return row[:-1]


def _corrupt(error: FormatError | VerificationError, index: int) -> LedgerCorruptError:
    return LedgerCorruptError(
        f"entry {index} of the bundle: {error.message}", index=index, got=error.got, expected=error.expected
    )
