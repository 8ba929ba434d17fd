"""Wrong rows are told from right ones by their neighbours and their values; right rows are left alone."""

from __future__ import annotations

import numpy as np

from truerun.attribution.sources import Rows, rank_rows, wilson


def clusters(count: int, seed: int, labels: int = 4) -> Rows:
    generator = np.random.default_rng(seed)
    label = generator.integers(labels, size=count)
    points = np.stack([label * 5.0, label % 2 * 7.0], axis=1) + generator.normal(size=(count, 2))
    return Rows(
        columns={"a": points[:, 0], "b": points[:, 1]},
        labels=[str(item) for item in label],
        numbers=list(range(1000, 1000 + count)),
    )


def test_flipped_labels_are_found_and_right_rows_are_not() -> None:
    """A contributor flips the labels of every third row."""
    reference, added = clusters(800, 0), clusters(300, 1)
    labels = [str((int(label) + 1) % 4) if row % 3 == 0 else label for row, label in enumerate(added.labels or ())]
    source, rows = rank_rows("train", "eve", reference, Rows(columns=added.columns, labels=labels, numbers=added.numbers))
    assert source.rows == 300
    assert 96 <= source.rows_suspect <= 104
    assert source.interval[0] <= 1 / 3 <= source.interval[1]
    wrong = {1000 + row for row in range(0, 300, 3)}
    assert sum(row.row in wrong for row in rows) >= 96
    assert "nearest reference rows are" in rows[0].reason


def test_right_rows_are_left_alone() -> None:
    """The accept twin."""
    source, rows = rank_rows("train", "ben", clusters(800, 0), clusters(300, 2))
    assert source.rows_suspect <= 6
    assert len(rows) <= 6


def test_another_unit_a_sentinel_and_missing_values_are_named_with_their_column() -> None:
    reference, added = clusters(400, 0), clusters(60, 3)
    a, b = np.array(added.columns["a"]), np.array(added.columns["b"])
    a[:5] *= 1000
    a[:5] += 2000
    b[5:10] = -999
    b[10:15] = np.nan
    _, rows = rank_rows("train", None, reference, Rows(columns={"a": a, "b": b}, labels=None, numbers=added.numbers))
    reasons = {row.row - 1000: row.reason for row in rows}
    assert all(reasons[row].startswith("a is") for row in range(5))
    assert all("b is -999; the reference's rows lie between" in reasons[row] for row in range(5, 10))
    assert all(reasons[row] == "b is missing" for row in range(10, 15))
    assert set(reasons) == set(range(15))


def test_where_labels_are_noise_anyway_neighbours_say_nothing() -> None:
    generator = np.random.default_rng(4)
    reference = clusters(400, 0)
    noise = [str(item) for item in generator.integers(4, size=400)]
    source, _ = rank_rows(
        "train", "eve", Rows(columns=reference.columns, labels=noise, numbers=reference.numbers), clusters(100, 5)
    )
    assert source.rows_suspect == 0


def test_no_features_and_no_rows_are_no_error() -> None:
    nothing = Rows(columns={}, labels=[], numbers=[])
    source, rows = rank_rows("train", "eve", clusters(50, 0), nothing)
    assert (source.rows, source.rows_suspect, rows) == (0, 0, ())


def test_the_interval_holds_the_share() -> None:
    low, high = wilson(5, 50)
    assert low < 0.1 < high
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
