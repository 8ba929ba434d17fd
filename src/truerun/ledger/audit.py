"""The audit of a whole ledger: every entry, author signature, stored hash and the tree head. `truerun ledger verify`.

Entries are read once, in order; what is wrong is reported with the first index that cannot be relied on:

- an entry that does not parse or whose signature does not hold: its own index;
- a stored hash: the first leaf it covers;
- an entry replaced by another valid one: found by the tree heads that later authors had seen and signed, even where the
  log's key was stolen and the tree recomputed; reported at the first entry that no later author vouches for;
- the tree head: the last index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from truerun.core.errors import FormatError, LedgerCorruptError, TruerunError, VerificationError
from truerun.core.fact import LedgerCreated
from truerun.ledger import merkle
from truerun.ledger.entry import Entry, verify_entry
from truerun.ledger.note import NoteKey, parse_note_key
from truerun.ledger.store import View
from truerun.ledger.tree_head import verify_tree_head

_NEXT = "keep the file as evidence; restore a copy that verifies, or compare with a tree head that someone kept"


def log_key_of(view: View) -> NoteKey:
    """The log key that entry 0 names; raises LedgerCorruptError unless entry 0 is a valid LedgerCreated."""
    first = next(view.envelopes(0, 1), None)
    if first is None:
        raise _corrupt("entry 0 is missing", 0)
    entry = _verified_entry(*first)
    return _named_key(entry)


def audit(view: View, *, progress: Callable[[int, int], None] | None = None, log_key: str | None = None) -> None:
    """Verify all of *view*; raises LedgerCorruptError with the first bad index, or VerificationError for another *log_key*."""
    note = view.head()
    if note is None:
        _require_nothing(view)
        return
    key = log_key_of(view)
    if log_key is not None and parse_note_key(log_key) != key:
        raise VerificationError("the ledger names another log key than the one expected", got=f"{key.name}", expected=log_key)
    replay = _Replay(view, key.name)
    size = _claimed_size(note)
    for index, envelope in view.envelopes():
        replay.take(index, envelope)
        if progress is not None:
            progress(index + 1, max(size, index + 1))
    replay.finish(note, key)


class _Replay:
    """Rebuilds the tree entry by entry beside the stored hashes."""

    def __init__(self, view: View, origin: str) -> None:
        self._stored = view.stored()
        self._origin = origin
        self._roots = [merkle.EMPTY_ROOT]
        self._frontier: list[bytes] = []
        self._leaves: set[bytes] = set()
        self._vouched = 0

    @property
    def _size(self) -> int:
        return len(self._roots) - 1

    def take(self, index: int, envelope: bytes) -> None:
        """The next entry and the hashes it completes."""
        if index != self._size:
            raise _corrupt(f"entry {self._size} is missing", self._size, got=f"entry {index} follows")
        entry = _verified_entry(index, envelope)
        leaf = merkle.leaf_hash(envelope)
        for place, expected in enumerate(merkle.new_hashes(index, leaf, self._frontier), merkle.stored_count(index)):
            self._check_stored(place, expected)
        self._check_fact(entry)
        self._check_seen(entry)
        if leaf in self._leaves:
            raise _corrupt(f"entry {index} repeats an earlier entry", index)
        self._leaves.add(leaf)
        self._roots.append(merkle.fold(self._frontier))

    def finish(self, note: bytes, key: NoteKey) -> None:
        """The tree head over all entries, and nothing left over."""
        last = max(self._size - 1, 0)
        try:
            head = verify_tree_head(note, key)
        except (FormatError, VerificationError) as error:
            raise _from(error, f"the tree head after entry {last}", last) from error
        if head.size != self._size:
            raise _corrupt(
                "the tree head is over another number of entries",
                min(head.size, self._size),
                got=f"{self._size} entries",
                expected=f"{head.size}",
            )
        if head.root != self._roots[-1]:
            raise _corrupt(
                f"entries from {self._vouched} on are not those that the tree head was signed over",
                self._vouched,
                got=self._roots[-1].hex(),
                expected=head.root.hex(),
            )
        for place, _ in self._stored:
            raise _corrupt(f"a stored hash too many (place {place})", merkle.first_leaf(place))

    def _check_fact(self, entry: Entry) -> None:
        if (entry.index == 0) != isinstance(entry.fact, LedgerCreated):
            raise _corrupt(f"entry {entry.index} is out of place: only entry 0 creates the ledger", entry.index)

    def _check_seen(self, entry: Entry) -> None:
        seen = entry.seen
        if seen.origin != self._origin:
            raise _corrupt(
                f"entry {entry.index} was signed for another ledger", entry.index, got=seen.origin, expected=self._origin
            )
        if seen.size > self._size:
            raise _corrupt(
                f"entry {entry.index} was signed on a longer history than the one before it: entries are missing",
                self._vouched,
                got=f"{self._size} entries",
                expected=f"{seen.size}",
            )
        if seen.root != self._roots[seen.size]:
            raise _corrupt(
                f"the history before entry {seen.size} is not the one that the author of entry {entry.index} signed on",
                min(self._vouched, max(seen.size - 1, 0)),
                got=self._roots[seen.size].hex(),
                expected=seen.root.hex(),
            )
        self._vouched = max(self._vouched, seen.size)

    def _check_stored(self, place: int, expected: bytes) -> None:
        found = next(self._stored, None)
        if found is None or found[0] != place:
            raise _corrupt(f"a stored hash is missing (place {place})", merkle.first_leaf(place))
        if found[1] != expected:
            raise _corrupt(
                f"a stored hash is not that of its entries (place {place})",
                merkle.first_leaf(place),
                got=found[1].hex(),
                expected=expected.hex(),
            )


def _named_key(entry: Entry) -> NoteKey:
    if not isinstance(entry.fact, LedgerCreated):
        raise _corrupt("entry 0 does not create the ledger", 0)
    try:
        key = parse_note_key(entry.fact.log_key)
    except FormatError as error:
        raise _from(error, "entry 0", 0) from error
    if key.name != entry.fact.origin:
        raise _corrupt("entry 0 names a log key of another ledger", 0, got=key.name, expected=entry.fact.origin)
    return key


def _verified_entry(index: int, envelope: bytes) -> Entry:
    try:
        return verify_entry(index, envelope)
    except (FormatError, VerificationError) as error:
        raise _from(error, f"entry {index}", index) from error


def _require_nothing(view: View) -> None:
    leftovers: tuple[Iterator[tuple[int, bytes]], ...] = (view.envelopes(), view.stored())
    if any(next(rows, None) is not None for rows in leftovers):
        raise _corrupt("the tree head is missing", 0)


def _claimed_size(note: bytes) -> int:
    """The size in *note*, for the progress bar alone: unverified, 0 where it cannot be read."""
    parts = note.split(b"\n", 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() and len(parts[1]) < 16 else 0


def _from(error: TruerunError, what: str, index: int) -> LedgerCorruptError:
    return _corrupt(f"{what}: {error.message}", index, got=error.got, expected=error.expected)


def _corrupt(message: str, index: int, *, got: object = None, expected: object = None) -> LedgerCorruptError:
    return LedgerCorruptError(message, index=index, got=got, expected=expected, next_step=_NEXT)
