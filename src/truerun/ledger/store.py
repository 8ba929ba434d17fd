"""Where a ledger's bytes live: the Protocol, and a store in memory.

A store keeps three things and understands none of them: envelopes by index, hashes by place (`merkle.py`), and one signed
tree head. It promises atomicity, durability and order; integrity is the ledger's business.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from truerun.core.errors import LedgerCorruptError
from truerun.ledger.merkle import first_leaf


class View(Protocol):
    """One consistent state of a store; valid inside the `with` that gave it."""

    def head(self) -> bytes | None:
        """The signed tree head, or None in an empty store."""
        ...

    def envelopes(self, start: int | None = None, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """
        Stored envelopes with their index, ascending, from *start* up to but without *stop*.

        Gaps show as missing numbers; without *start*, even what has no business there is given, such as negative indices.
        """
        ...

    def hashes(self, places: Sequence[int]) -> tuple[bytes, ...]:
        """The hashes at *places*, in that order; raises LedgerCorruptError where one is missing."""
        ...

    def stored(self) -> Iterator[tuple[int, bytes]]:
        """Every stored hash with its place, ascending."""
        ...


class Writer(View, Protocol):
    """The only writer while it lives; sees every earlier commit."""

    def write(self, envelopes: Sequence[tuple[int, bytes]], hashes: Sequence[tuple[int, bytes]], head: bytes) -> None:
        """Add envelopes and hashes and replace the head. Nothing of it is visible or kept before the `with` ends well."""
        ...


class Store(Protocol):
    """
    Storage for one ledger.

    `writing` is exclusive among threads and processes and waits its turn in order of arrival; when its block ends without
    an exception, what was written has reached the disk; otherwise nothing has changed. Raises StorageError when the store
    cannot be written (full disk, read-only folder, a lock that never comes free).
    """

    def reading(self) -> AbstractContextManager[View]:
        """A consistent state to read from; never waits for a writer."""
        ...

    def writing(self) -> AbstractContextManager[Writer]:
        """The next state to write."""
        ...


class MemoryStore:
    """A store that lives as long as its process: for tests, offline bundles and dry runs. Durable to nothing."""

    def __init__(self) -> None:
        self._state = _MemoryState({}, {}, None)
        self._lock = threading.RLock()

    @contextmanager
    def reading(self) -> Iterator[View]:
        """The state as it is now."""
        yield self._state

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A copy that replaces the state when the block ends well."""
        with self._lock:
            draft = _MemoryState(dict(self._state.entries), dict(self._state.nodes), self._state.note)
            yield draft
            self._state = draft


class _MemoryState:
    def __init__(self, entries: dict[int, bytes], nodes: dict[int, bytes], note: bytes | None) -> None:
        self.entries = entries
        self.nodes = nodes
        self.note = note

    def head(self) -> bytes | None:
        return self.note

    def envelopes(self, start: int | None = None, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        for index in sorted(self.entries):
            if (start is None or index >= start) and (stop is None or index < stop):
                yield index, self.entries[index]

    def hashes(self, places: Sequence[int]) -> tuple[bytes, ...]:
        return ordered_hashes(self.nodes, places)

    def stored(self) -> Iterator[tuple[int, bytes]]:
        yield from sorted(self.nodes.items())

    def write(self, envelopes: Sequence[tuple[int, bytes]], hashes: Sequence[tuple[int, bytes]], head: bytes) -> None:
        self.entries.update(envelopes)
        self.nodes.update(hashes)
        self.note = head


def ordered_hashes(found: dict[int, bytes], places: Sequence[int]) -> tuple[bytes, ...]:
    """The hashes of *found* in the order of *places*; raises LedgerCorruptError for one that is missing."""
    for place in places:
        if place not in found:
            raise LedgerCorruptError(f"a stored hash is missing (place {place})", index=first_leaf(place))
    return tuple(found[place] for place in places)
