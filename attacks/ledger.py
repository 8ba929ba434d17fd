"""P1: one bit of the ledger's database changed: in an entry, its signature, a stored hash, or the tree head."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace

from attacks.forgery import decide
from attacks.project import ENGINEER, MAINTAINER, Project
from attacks.story import Place, Planted, Seen, Story, Twin, Variant, seen

Choice = Callable[[sqlite3.Connection, random.Random], tuple[str, str, int, bytes, int, int]]


def verify(project: Project, planted: Planted) -> Seen:
    """`truerun ledger verify`, which must end with exit 5 and name the first bad index."""
    done = project.truerun("ledger", "verify", "--format", "json")
    said = seen(done)
    if done.code != 5:
        return said
    named = {int(number) for number in re.findall(r"(?:entry|index)\D{0,4}(\d+)", done.text())}
    if planted.place.entry not in named:
        return replace(said, text=f"names {sorted(named)}, not {planted.place.entry}: {said.text}")
    return replace(said, refused="exit 5", refused_at=f"entry {planted.place.entry}")


def _entry(connection: sqlite3.Connection, draw: random.Random) -> tuple[str, str, int, bytes, int, int]:
    """A bit of what an entry says."""
    index, envelope = draw.choice(connection.execute("SELECT idx, envelope FROM entries").fetchall())
    payload = json.loads(envelope)["payload"].encode()
    at = envelope.index(payload) + draw.randrange(len(payload))
    return "entries", "envelope", index, envelope, at, index


def _signature(connection: sqlite3.Connection, draw: random.Random) -> tuple[str, str, int, bytes, int, int]:
    """A bit of an entry's signature."""
    index, envelope = draw.choice(connection.execute("SELECT idx, envelope FROM entries").fetchall())
    signature = json.loads(envelope)["signatures"][0]["sig"].encode()
    return "entries", "envelope", index, envelope, envelope.index(signature) + draw.randrange(len(signature)), index


def _leaf(connection: sqlite3.Connection, draw: random.Random) -> tuple[str, str, int, bytes, int, int]:
    """A bit of a stored leaf hash."""
    from truerun.ledger.merkle import place

    size = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    index = draw.randrange(size)
    stored = connection.execute("SELECT hash FROM nodes WHERE place = ?", (place(0, index),)).fetchone()[0]
    return "nodes", "hash", place(0, index), stored, draw.randrange(len(stored)), index


def _node(connection: sqlite3.Connection, draw: random.Random) -> tuple[str, str, int, bytes, int, int]:
    """A bit of a stored interior hash; the first entry under it is the first that cannot be relied on."""
    from truerun.ledger.merkle import first_leaf, place

    size = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    leaves = {place(0, index) for index in range(size)}
    inner = [row for row in connection.execute("SELECT place, hash FROM nodes").fetchall() if row[0] not in leaves]
    where, stored = draw.choice(inner)
    return "nodes", "hash", where, stored, draw.randrange(len(stored)), first_leaf(where)


def _head(connection: sqlite3.Connection, draw: random.Random) -> tuple[str, str, int, bytes, int, int]:
    """A bit of the signed tree head; no entry is known to be covered any more, the newest is named."""
    note = connection.execute("SELECT note FROM head").fetchone()[0]
    size = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    return "head", "note", 0, note, draw.randrange(len(note)), size - 1


def _flip(name: str, choose: Choice) -> Variant:
    def plant(project: Project, draw: random.Random) -> Planted:
        for _ in range(draw.randrange(0, 4)):
            decide(project, MAINTAINER)
        connection = sqlite3.connect(project.root / ".truerun" / "ledger.db")
        table, column, key, data, at, entry = choose(connection, draw)
        changed = bytearray(data)
        bit = draw.randrange(8)
        changed[at] ^= 1 << bit
        names = {"entries": "idx", "nodes": "place", "head": "id"}
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {names[table]} = ?", (bytes(changed), key))
        connection.commit()
        connection.close()
        return Planted(what=f"{name}: bit {bit} of byte {at} in {table} row {key}", place=Place(entry=entry))

    return Variant(name=name, plant=plant, look=verify)


def _removed(project: Project, draw: random.Random) -> Planted:
    """An entry in the middle is gone."""
    connection = sqlite3.connect(project.root / ".truerun" / "ledger.db")
    size = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    index = draw.randrange(1, size - 1)
    connection.execute("DELETE FROM entries WHERE idx = ?", (index,))
    connection.commit()
    connection.close()
    return Planted(what=f"entry {index} deleted", place=Place(entry=index))


def _grow(project: Project, draw: random.Random) -> None:
    """More legitimate history, then the whole project folder copied elsewhere and back, as a backup is."""
    project.replace("config.yaml", "steps: 120", f"steps: {draw.randrange(121, 160)}")
    project.agree(ENGINEER, "longer")
    folder = project.root / ".truerun"
    copied = project.home / "backup"
    folder.rename(copied)
    copied.rename(folder)


def _verify_good(project: Project, planted: Planted) -> Seen:
    return seen(project.truerun("ledger", "verify", "--format", "json"), project.run())


STORIES = (
    Story(
        id="P1",
        title="a bit of the ledger's database changed",
        expected="exit 5 and the first bad entry",
        variants=(
            _flip("entry", _entry),
            _flip("signature", _signature),
            _flip("leaf hash", _leaf),
            _flip("interior hash", _node),
            _flip("tree head", _head),
            Variant(name="entry deleted", plant=_removed, look=verify),
        ),
        twins=(Twin(what="more history, moved and moved back", act=_grow, look=_verify_good),),
    ),
)
