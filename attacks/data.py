"""D1, D2, D4: erroneous rows among legitimate ones. The rows come from a person's own contributions, who also locks them."""

from __future__ import annotations

import random
from collections.abc import Callable

import polars as pl

from attacks.project import ENGINEER, TRAINEE, Project
from attacks.story import Place, Planted, Seen, Story, Twin, Variant, seen

LABELS = frozenset({"label-disagreement"})
VALUES = frozenset({"data-range", "data-nulls", "data-shift"})
COPIES = frozenset({"data-duplicates"})


def look(project: Project, planted: Planted) -> Seen:
    """Inspect the data, then try to run."""
    return seen(project.truerun("check", "data", "--format", "json"), project.run())


def _who(draw: random.Random) -> str:
    return draw.choice((ENGINEER, TRAINEE))


def _own_rows(table: pl.DataFrame, who: str) -> list[int]:
    return [row for row, name in enumerate(table["added_by"]) if name == who]


def _set(table: pl.DataFrame, column: str, values: dict[int, float | int | None]) -> pl.DataFrame:
    changed = table[column].to_list()
    for row, value in values.items():
        changed[row] = value
    return table.with_columns(pl.Series(column, changed, dtype=table[column].dtype))


def _wrong(label: int, draw: random.Random) -> int:
    return draw.choice([other for other in range(10) if other != label])


def _pixel(table: pl.DataFrame, draw: random.Random) -> str:
    """A pixel that is used: its value varies."""
    return draw.choice([f"p{number}" for number in range(64) if (table[f"p{number}"].std() or 0) > 3])


def _insert(table: pl.DataFrame, rows: pl.DataFrame, draw: random.Random) -> tuple[pl.DataFrame, list[int]]:
    """*rows* somewhere in *table*, and where they are then."""
    at = draw.randrange(len(table) + 1)
    return pl.concat([table[:at], rows.select(table.columns), table[at:]]), list(range(at, at + len(rows)))


def new_rows(project: Project, who: str, count: int, draw: random.Random) -> pl.DataFrame:
    """Good rows that are not in the project yet, contributed by *who*."""
    spare = project.spare()
    chosen = spare[draw.sample(range(len(spare)), count)]
    return chosen.with_columns(pl.lit(who).alias("added_by"))


def _flip_added(project: Project, draw: random.Random) -> Planted:
    who, count, share = _who(draw), draw.randrange(50, 140), draw.uniform(0.5, 1.0)
    rows = new_rows(project, who, count, draw)
    wrong = draw.sample(range(count), int(count * share))
    rows = _set(rows, "digit", {row: _wrong(rows["digit"][row], draw) for row in wrong})
    table, places = _insert(project.table(), rows, draw)
    project.save_table(table)
    project.lock(who, "more rows")
    what = f"{who} adds {count} rows, {len(wrong)} with a random wrong label"
    return _planted(what, LABELS, who, [places[row] for row in wrong])


def _flip_pair(project: Project, draw: random.Random) -> Planted:
    who, table = _who(draw), project.table()
    first, second = draw.sample(range(10), 2)
    own = [row for row in _own_rows(table, who) if table["digit"][row] == first]
    chosen = draw.sample(own, max(6, int(len(own) * draw.uniform(0.5, 1.0))))
    project.save_table(_set(table, "digit", dict.fromkeys(chosen, second)))
    project.lock(who, "corrections")
    return _planted(f"{who} relabels {len(chosen)} of their {first} as {second}", LABELS, who, chosen)


def _flip_few(project: Project, draw: random.Random) -> Planted:
    who, table = _who(draw), project.table()
    chosen = draw.sample(_own_rows(table, who), max(10, len(table) // 100))
    project.save_table(_set(table, "digit", {row: _wrong(table["digit"][row], draw) for row in chosen}))
    project.lock(who, "corrections")
    return _planted(f"{who} relabels {len(chosen)} of {len(table)} rows at random", LABELS, who, chosen)


def _planted(what: str, rules: frozenset[str], who: str, rows: list[int], column: str | None = None) -> Planted:
    place = Place(path="train", rows=frozenset(rows), key=column, words=(who,))
    return Planted(what=what, rules=rules, place=place, actors=frozenset({who}), started=False)


def _values(what: str, new: Callable[[float, random.Random], float | None]) -> Variant:
    def plant(project: Project, draw: random.Random) -> Planted:
        who, table = _who(draw), project.table()
        column = _pixel(table, draw)
        own = [row for row in _own_rows(table, who) if table[column][row]]
        chosen = draw.sample(own, max(8, int(len(own) * draw.uniform(0.2, 0.6))))
        project.save_table(_set(table, column, {row: new(table[column][row], draw) for row in chosen}))
        project.lock(who, "rescanned")
        return _planted(f"{column}: {what} in {len(chosen)} rows of {who}", VALUES, who, chosen, column)

    return Variant(name=what, plant=plant, look=look)


def _stuck(project: Project, draw: random.Random) -> Planted:
    who, count = _who(draw), draw.randrange(40, 100)
    table, rows = project.table(), new_rows(project, who, count, draw)
    column = _pixel(table, draw)
    value = float(draw.randrange(5, 12))
    rows = rows.with_columns(pl.lit(value).alias(column))
    table, places = _insert(table, rows, draw)
    project.save_table(table)
    project.lock(who, "more rows")
    return _planted(f"{column}: stuck at {value:g} in {count} added rows of {who}", VALUES, who, places, column)


def _copies(project: Project, draw: random.Random, near: float = 0.0) -> Planted:
    who, table = _who(draw), project.table()
    few, times = draw.randrange(3, 9), draw.randrange(10, 30)
    rows = pl.concat([table[draw.sample(range(len(table)), few)]] * times).with_columns(pl.lit(who).alias("added_by"))
    if near:
        used = [f"p{number}" for number in draw.sample(range(64), 5)]
        noise = [pl.Series(name, [draw.uniform(0, near) for _ in range(len(rows))]) for name in used]
        rows = rows.with_columns(*(rows[series.name] + series for series in noise))
    table, places = _insert(table, rows, draw)
    project.save_table(table)
    project.lock(who, "more rows")
    how = "near-duplicates" if near else "exact copies"
    return _planted(f"{who} adds {few} rows {times} times as {how}", COPIES, who, places)


def _add_good(project: Project, draw: random.Random) -> None:
    who = _who(draw)
    table, _ = _insert(project.table(), new_rows(project, who, draw.randrange(50, 140), draw), draw)
    project.save_table(table)
    project.agree(who, "more rows")


def _correct_good(project: Project, draw: random.Random) -> None:
    """Values within what the column may hold, up to its very limits."""
    who, table = _who(draw), project.table()
    column = _pixel(table, draw)
    chosen = draw.sample(_own_rows(table, who), 25)
    low, high = table[column].min(), table[column].max()
    project.save_table(_set(table, column, {row: draw.choice((low, high, table[column][row])) for row in chosen}))
    project.agree(who, "rescanned")


def _add_few_copies(project: Project, draw: random.Random) -> None:
    """Good rows, and two rows that happen to be there already."""
    who, table = _who(draw), project.table()
    again = table[draw.sample(range(len(table)), 2)].with_columns(pl.lit(who).alias("added_by"))
    rows = pl.concat([new_rows(project, who, 60, draw).select(table.columns), again])
    table, _ = _insert(table, rows, draw)
    project.save_table(table)
    project.agree(who, "more rows")


STORIES = (
    Story(
        id="D1",
        title="labels flipped by a contributor",
        expected="the rows and who contributed them",
        variants=(
            Variant(name="added rows, random", plant=_flip_added, look=look),
            Variant(name="one class pair", plant=_flip_pair, look=look),
            Variant(name="one percent", plant=_flip_few, look=look),
        ),
        twins=(Twin(what="good rows added and approved", act=_add_good, look=look),),
    ),
    Story(
        id="D2",
        title="erroneous values",
        expected="the column, the rows and who contributed them",
        variants=(
            _values("unit x1000", lambda value, _: value * 1000),
            _values("sign", lambda value, _: -value),
            _values("sentinel -999", lambda _, __: -999.0),
            _values("nulls", lambda _, __: None),
            Variant(name="stuck constant", plant=_stuck, look=look),
        ),
        twins=(Twin(what="values corrected within limits and approved", act=_correct_good, look=look),),
    ),
    Story(
        id="D4",
        title="flooding with duplicates",
        expected="the rows and who contributed them",
        variants=(
            Variant(name="exact copies", plant=_copies, look=look),
            Variant(name="near-duplicates", plant=lambda project, draw: _copies(project, draw, near=0.3), look=look),
        ),
        twins=(Twin(what="good rows and two repeats, approved", act=_add_few_copies, look=look),),
    ),
)
