"""The rows of a data set as a list of digests, and how two such lists differ. Multiset-correct: a row twice is two rows.

The stored form is one JSON object, deterministic for the same rows:
`{"algorithm": "rows-blake3-1", "rows": ["<32 hex digits>", …], "contributors": ["ana", …], "by": [0, 0, 1, …]}`, where
`by` gives each row's contributor as a place in `contributors`; both are empty where no contributor column is declared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from truerun.core.errors import FormatError

ALGORITHM = "rows-blake3-1"
# Row digests and profile together: when either is computed in a new way, summaries kept under the old name are not reused.
SUMMARY = f"{ALGORITHM}/profile-1"
NOBODY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowList:
    """Each row's digest in order, and each row's contributor (`""` for a null), or no contributors at all."""

    digests: tuple[str, ...]
    contributors: tuple[str, ...] = ()

    def contributor(self, row: int) -> str:
        """Who added *row*, as its contributor column says; `""` when it does not say."""
        return self.contributors[row] if self.contributors else NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMoves:
    """Row numbers by contributor: `added` counts in the new list, `removed` in the old one; `reordered`: the rest moved."""

    added: Mapping[str, tuple[int, ...]]
    removed: Mapping[str, tuple[int, ...]]
    reordered: bool


def render_rows(rows: RowList) -> bytes:
    """Render for the object store. Law: parse_rows(render_rows(rows)) == rows."""
    names = sorted(set(rows.contributors))
    place = {name: index for index, name in enumerate(names)}
    value = {
        "algorithm": ALGORITHM,
        "rows": list(rows.digests),
        "contributors": names,
        "by": [place[name] for name in rows.contributors],
    }
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def parse_rows(data: bytes) -> RowList:
    """Parse what render_rows wrote; raises FormatError."""
    try:
        value = json.loads(data)
        if value["algorithm"] != ALGORITHM:
            raise FormatError("row digests of another algorithm", got=str(value["algorithm"])[:40], expected=ALGORITHM)
        names, by = value["contributors"], value["by"]
        rows = RowList(digests=tuple(value["rows"]), contributors=tuple(names[index] for index in by))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise FormatError("not a list of row digests", got=repr(data[:60])) from error
    if by and len(by) != len(rows.digests):
        raise FormatError("a list of row digests whose contributors do not fit", got=len(by), expected=len(rows.digests))
    return rows


def diff_rows(old: RowList, new: RowList) -> RowMoves:
    """
    How *new* differs from *old*.

    Of equal rows the last ones count as added or removed, since data sets grow at their end.
    """
    before, after = Counter(old.digests), Counter(new.digests)
    added = _surplus(new, after, before)
    removed = _surplus(old, before, after)
    gone, come = set(removed), set(added)
    reordered = [digest for row, digest in enumerate(old.digests) if row not in gone] != [
        digest for row, digest in enumerate(new.digests) if row not in come
    ]
    return RowMoves(added=_by_contributor(new, added), removed=_by_contributor(old, removed), reordered=reordered)


def _surplus(rows: RowList, own: Mapping[str, int], other: Mapping[str, int]) -> list[int]:
    surplus = {digest: count - other.get(digest, 0) for digest, count in own.items() if count > other.get(digest, 0)}
    found: list[int] = []
    for row in range(len(rows.digests) - 1, -1, -1):
        if surplus.get(rows.digests[row], 0):
            surplus[rows.digests[row]] -= 1
            found.append(row)
    return found[::-1]


def _by_contributor(rows: RowList, numbers: Sequence[int]) -> dict[str, tuple[int, ...]]:
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(rows.contributor(number), []).append(number)
    return {name: tuple(group) for name, group in sorted(groups.items())}
