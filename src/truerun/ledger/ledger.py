"""The ledger: facts as signed entries under one Merkle tree and a signed tree head, over any store.

Appending trusts nothing it did not check: the stored head must be signed by the log key and fit the stored hashes before
it is built upon. Reading verifies each entry's author; `verify` checks everything there is.
It cannot see a tail that was cut off together with its tree head: someone else must have kept a newer one (`verify_extends`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from truerun.core.errors import FormatError, LedgerCorruptError, SigningKeyError, UsageError, VerificationError
from truerun.core.fact import Fact, LedgerCreated
from truerun.ledger import merkle
from truerun.ledger.audit import audit, log_key_of
from truerun.ledger.entry import Entry, verify_entry
from truerun.ledger.envelope import Statement, sign_statement
from truerun.ledger.note import NoteKey, NoteSigner, render_note_key
from truerun.ledger.signing import Signer
from truerun.ledger.store import Store, View, Writer
from truerun.ledger.tree_head import TreeHead, sign_tree_head, verify_tree_head

_PAGE = 256
_NEXT = "run truerun ledger verify; keep the file as evidence and restore a copy that verifies"


class Ledger:
    """
    One ledger in *store*.

    *log_key* signs tree heads and is needed to append only. The first fact must be a LedgerCreated that names it; it
    cannot be recorded twice. Many processes and threads may append at once: entries are put in order of arrival, each is
    durable and under a signed tree head when `append` returns.
    """

    def __init__(self, store: Store, log_key: NoteSigner | None = None) -> None:
        self._store = store
        self._log_key = log_key
        self._trusted_key: NoteKey | None = None

    def append(self, fact: Fact, signer: Signer) -> Entry:
        """Record *fact* in *signer*'s name; raises FormatError (too large), StorageError, SigningKeyError, LedgerCorruptError."""
        return self.append_all([fact], signer)[0]

    def append_all(self, facts: Sequence[Fact], signer: Signer) -> tuple[Entry, ...]:
        """
        Record *facts* in order, in one commit: all of them or none.

        The same fact, by the same key, on the same tree head is the same entry: it is not recorded twice.
        """
        if not facts:
            return ()
        if self._log_key is None:
            raise SigningKeyError(
                "nothing can be recorded: this ledger was opened to read, with no log key to sign its tree head",
                next_step="check that the project's .truerun folder is writable and holds log.key",
            )
        # Signed before the store is locked: a security key may wait for a touch, and nobody else should wait with it.
        seen = self._seen(facts[0])
        # Read back before it is written: nothing unreadable ever gets in.
        drafts = [verify_entry(seen.size, sign_statement(Statement(fact=fact, seen=seen), signer)) for fact in facts]
        with self._store.writing() as writer:
            return self._write(writer, drafts, seen)

    def _write(self, writer: Writer, drafts: Sequence[Entry], seen: TreeHead) -> tuple[Entry, ...]:
        assert self._log_key is not None
        frontier, size = self._continue(writer, seen)
        known = {envelope: index for index, envelope in writer.envelopes(seen.size)}
        fresh: list[tuple[int, bytes]] = []
        hashes: list[tuple[int, bytes]] = []
        for draft in drafts:
            if draft.envelope not in known:
                index = known[draft.envelope] = size + len(fresh)
                fresh.append((index, draft.envelope))
                leaf = merkle.leaf_hash(draft.envelope)
                hashes.extend(enumerate(merkle.new_hashes(index, leaf, frontier), merkle.stored_count(index)))
        if fresh:
            head = TreeHead(origin=seen.origin, size=size + len(fresh), root=merkle.fold(frontier))
            writer.write(fresh, hashes, sign_tree_head(head, self._log_key))
        return tuple(replace(draft, index=known[draft.envelope]) for draft in drafts)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """
        Entries from *start* on, each proved to be under the signed tree head and its author's signature verified.

        Raises LedgerCorruptError with the first index that does not hold, before anything of its page is given.
        """
        while page := self._page(start, _PAGE):
            yield from page
            start += len(page)

    def entry(self, index: int) -> Entry:
        """Entry *index*, verified as `entries` does; raises UsageError where there is none."""
        page = self._page(index, 1) if index >= 0 else []
        if not page:
            raise UsageError(f"no entry {index}", expected=f"0 to {len(self) - 1}", next_step="truerun ledger show lists them")
        return page[0]

    def __len__(self) -> int:
        with self._store.reading() as view:
            return self._head(view).size if view.head() is not None else 0

    @property
    def origin(self) -> str:
        """The name of this ledger for good; raises UsageError while it is empty."""
        return self.tree_head().origin

    @property
    def log_key(self) -> str:
        """The key that tree heads are verified with, `name+hash+base64`, as the first entry states it."""
        with self._store.reading() as view:
            return render_note_key(self._key(view))

    def tree_head(self) -> TreeHead:
        """The newest tree head, its signature verified; raises UsageError while the ledger is empty."""
        with self._store.reading() as view:
            return self._head(view)

    def signed_tree_head(self) -> bytes:
        """The newest tree head as the signed note that others keep (C2SP tlog-checkpoint)."""
        with self._store.reading() as view:
            self._head(view)
            return view.head() or b""

    def verify(self, progress: Callable[[int, int], None] | None = None, *, log_key: str | None = None) -> None:
        """
        Check every entry, signature, stored hash and the tree head; raises LedgerCorruptError with the first bad index.

        *progress* is called with entries done and entries in all. *log_key* (`name+hash+base64`), where given, must be
        the one the first entry names: what a reader who kept the key should always pass.
        """
        with self._store.reading() as view:
            audit(view, progress=progress, log_key=log_key)

    def verify_extends(self, older: bytes) -> None:
        """Raise VerificationError unless this ledger extends the signed tree head *older* that someone kept."""
        with self._store.reading() as view:
            kept, head = verify_tree_head(older, self._key(view)), self._head(view)
            if kept.size > head.size:
                raise VerificationError(
                    "the ledger is shorter than it was: entries were cut off", got=head.size, expected=kept.size
                )
            if kept.size:
                proof = merkle.consistency_proof(kept.size, head.size, view.hashes)
                merkle.verify_consistency(kept.size, kept.root, head.size, head.root, proof)

    def prove_inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Hashes that show entry *index* to be in the tree of *size* entries (default: all); ValueError for no such tree."""
        with self._store.reading() as view:
            return merkle.inclusion_proof(index, self._size(view, size), view.hashes)

    def prove_consistency(self, old_size: int, size: int | None = None) -> tuple[bytes, ...]:
        """Hashes that show the tree of *size* entries (default: all) to extend that of *old_size*; ValueError for no such tree."""
        with self._store.reading() as view:
            return merkle.consistency_proof(old_size, self._size(view, size), view.hashes)

    def _page(self, start: int, count: int) -> list[Entry]:
        with self._store.reading() as view:
            head = self._head(view) if view.head() is not None else None
            if head is None or start >= head.size:
                return []
            envelopes = list(view.envelopes(start, min(start + count, head.size)))
            try:
                _verify_page(view, head, start, envelopes)
            except VerificationError as error:
                audit(view)  # finds the exact index, where it is not only this page that is wrong
                raise _corrupt(error, start, f"entries from {start} on") from error
        return [_read_entry(index, envelope) for index, envelope in envelopes]

    def _size(self, view: View, size: int | None) -> int:
        newest = self._head(view).size
        if size is not None and not 0 < size <= newest:
            raise ValueError(f"no tree of {size} entries in a ledger of {newest}")
        return size or newest

    def _seen(self, fact: Fact) -> TreeHead:
        """The tree head that *fact* builds on; for the first fact of all, the empty tree's."""
        assert self._log_key is not None
        with self._store.reading() as view:
            if view.head() is not None:
                if isinstance(fact, LedgerCreated):
                    raise UsageError("this ledger exists already; it can be created only once")
                return self._head(view)
        key = self._log_key.key
        if not isinstance(fact, LedgerCreated) or (fact.origin, fact.log_key) != (key.name, render_note_key(key)):
            raise UsageError(
                "the first entry of a ledger must create it", expected=f"LedgerCreated with log key {render_note_key(key)}"
            )
        return TreeHead(origin=key.name, size=0, root=merkle.EMPTY_ROOT)

    def _continue(self, view: View, seen: TreeHead) -> tuple[list[bytes], int]:
        """The frontier and size to append to, proved to be what the signed head says and to extend *seen*."""
        assert self._log_key is not None
        if view.head() is None:
            return [], 0
        head, key = self._head(view), self._key(view)
        if key != self._log_key.key:
            got, expected = render_note_key(self._log_key.key), render_note_key(key)
            raise SigningKeyError("the log key is not this ledger's", got=got, expected=expected)
        if seen.size == 0:
            raise UsageError("another process has just created this ledger", next_step="run the command again")
        frontier = list(view.hashes(merkle.frontier_places(head.size)))
        if merkle.fold(frontier) != head.root:
            raise LedgerCorruptError("the stored hashes do not fit the tree head", index=head.size - 1, next_step=_NEXT)
        if seen.size > head.size or merkle.fold(view.hashes(merkle.frontier_places(seen.size))) != seen.root:
            raise LedgerCorruptError(
                "the ledger changed under this command: entries are gone", index=head.size - 1, next_step=_NEXT
            )
        return frontier, head.size

    def _key(self, view: View) -> NoteKey:
        if self._trusted_key is None:
            self._trusted_key = log_key_of(view)
        return self._trusted_key

    def _head(self, view: View) -> TreeHead:
        note = view.head()
        if note is None:
            raise UsageError("the ledger is empty", next_step="truerun init")
        try:
            return verify_tree_head(note, self._key(view))
        except (FormatError, VerificationError) as error:
            raise _corrupt(error, _last_index(view), "the tree head") from error


def _verify_page(view: View, head: TreeHead, start: int, envelopes: Sequence[tuple[int, bytes]]) -> None:
    """Raise VerificationError unless *envelopes* are what the tree of *head* has from *start* on, without a gap."""
    frontier = list(view.hashes(merkle.frontier_places(start)))
    stop = start
    for index, envelope in envelopes:
        if index == stop:
            merkle.new_hashes(index, merkle.leaf_hash(envelope), frontier)
            stop += 1
    if stop == start or stop <= envelopes[-1][0]:
        raise LedgerCorruptError(f"entry {stop} is missing", index=stop, next_step=_NEXT)
    proof = merkle.consistency_proof(stop, head.size, view.hashes)
    merkle.verify_consistency(stop, merkle.fold(frontier), head.size, head.root, proof)


def _read_entry(index: int, envelope: bytes) -> Entry:
    try:
        return verify_entry(index, envelope)
    except (FormatError, VerificationError) as error:
        raise _corrupt(error, index, f"entry {index}") from error


def _last_index(view: View) -> int:
    return max((index for index, _ in view.envelopes()), default=0)


def _corrupt(error: FormatError | VerificationError, index: int, what: str) -> LedgerCorruptError:
    if isinstance(error, LedgerCorruptError):
        return error
    return LedgerCorruptError(f"{what}: {error.message}", index=index, got=error.got, expected=error.expected, next_step=_NEXT)
