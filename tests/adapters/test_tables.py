"""Row digests tell rows, not formats; a file that cannot be read is named with the reason."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.adapters.tables import load_table, row_digests, summarize
from truerun.core.errors import InputError
from truerun.core.rows import parse_rows

CELLS = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-(2**53), 2**53),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "t": st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5),
        "b": st.none() | st.booleans(),
    }
)
SCHEMA = {"n": pl.Int64, "x": pl.Float64, "t": pl.String, "b": pl.Boolean}
FRAME = pl.DataFrame(
    {"x": [1.0, 2.5, None], "label": ["cat", "dog", "cat"], "by": ["ana", None, "ana"], "n": [1, 2, 3]},
    schema={"x": pl.Float64, "label": pl.String, "by": pl.String, "n": pl.Int64},
)


def frame(rows):
    return pl.DataFrame(rows, schema=SCHEMA)


@given(st.lists(CELLS, min_size=1, max_size=6))
def test_equal_rows_have_equal_digests_and_others_do_not(rows):
    digests = row_digests(frame(rows))
    texts = [
        json.dumps({name: value + 0.0 if isinstance(value, float) else value for name, value in row.items()}, sort_keys=True)
        for row in rows
    ]
    assert len(set(digests)) == len(set(texts))


@given(st.lists(CELLS, min_size=1, max_size=6))
def test_column_order_and_storage_do_not_show(rows):
    table = frame(rows)
    assert row_digests(table.select("b", "t", "x", "n")) == row_digests(table)
    assert row_digests(table.with_columns(pl.col("n").cast(pl.Int128))) == row_digests(table)
    assert row_digests(pl.concat([table.head(1), table]).slice(1)) == row_digests(table)


def test_the_algorithm_is_the_one_documented():
    """A vector: the digests of `rows-blake3-1` may never change under that name."""
    assert row_digests(FRAME) == [
        "bdcca2f2ad74152dc47324ea4ad4c8d7",
        "67ad62ba6b46cfd58ee3c26ae05e222b",
        "77688ade4aad1238a9d3f9e2ef94441c",
    ]


def test_whole_floats_are_integers_and_null_is_not_nan():
    assert row_digests(pl.DataFrame({"a": [1.0, -0.0]})) == row_digests(pl.DataFrame({"a": [1, 0]}))
    nothing = pl.DataFrame({"a": [None, float("nan"), 0.0, float("inf")]}, schema={"a": pl.Float64})
    assert len(set(row_digests(nothing))) == 4


def test_wide_integers_dates_and_nested_values_have_digests():
    wide = pl.DataFrame({"a": pl.Series([1, 2**63 + 1], dtype=pl.UInt64)})
    assert row_digests(wide)[0] == row_digests(pl.DataFrame({"a": [1]}))[0]
    dates = pl.DataFrame({"d": ["2024-01-01"]})
    assert row_digests(dates.with_columns(pl.col("d").str.to_date())) == row_digests(dates)
    nested = pl.DataFrame({"v": [[1.0, 2.5], None, [1.0, 2.0]], "s": [{"k": 1}, {"k": None}, {"k": 2}]})
    assert len(set(row_digests(nested))) == 3


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.tsv"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    path = tmp_path / name
    writers = {
        "parquet": FRAME.write_parquet,
        "csv": FRAME.write_csv,
        "jsonl": FRAME.write_ndjson,
        "tsv": lambda path: FRAME.write_csv(path, separator="\t"),
    }
    writers[path.suffix[1:]](path)
    assert row_digests(load_table([path])[0]) == row_digests(FRAME)


def test_a_summary_counts_rows_by_file_and_contributor(tmp_path):
    FRAME.head(2).write_parquet(tmp_path / "a.parquet")
    FRAME.tail(1).select("n", "by", "label", "x").write_parquet(tmp_path / "b.parquet")
    summary = summarize([tmp_path / "a.parquet", tmp_path / "b.parquet"], name="train", label="label", contributor="by")
    assert (summary.rows, summary.file_rows) == (3, (2, 1))
    assert summary.contributors == {"": 1, "ana": 2}
    rows = parse_rows(summary.row_list)
    assert list(rows.digests) == row_digests(FRAME)
    assert rows.contributors == ("ana", "", "ana")
    assert json.loads(summary.profile)["rows"] == 3


def test_a_declared_column_that_is_not_there_is_named(tmp_path):
    FRAME.write_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"\[data.train\]: there is no column 'target' to be the label"):
        summarize([tmp_path / "a.csv"], name="train", label="target")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ragged.csv", b"a,b\n1,2\n3,4,5\n"),
        ("binary.csv", b"a,b\n\xff\xfe,2\n"),
        ("quote.csv", b'a,b\n"x,2\n3,4\n'),
        ("empty.csv", b""),
        ("cut.jsonl", b'{"a":1}\n{"a":'),
        ("array.jsonl", b"[1,2]\n"),
        ("empty.parquet", b""),
        ("cut.parquet", None),
        ("odd.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1"),
        ("table.xlsx", b"PK"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        FRAME.write_parquet(path)
        content = path.read_bytes()[:-9]
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_table([path])
    assert name in caught.value.message
    assert caught.value.exit_code == 3


def test_a_missing_file_and_files_of_two_shapes_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: No such file"):
        load_table([tmp_path / "absent.csv"])
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.drop("n").write_csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"b\.csv: its columns differ"):
        load_table([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_a_table_of_too_many_cells_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    pl.DataFrame({"a": [0] * 1000}).write_parquet(tmp_path / "bomb.parquet")
    monkeypatch.setattr("truerun.adapters.tables.MAX_CELLS", 999)
    with pytest.raises(InputError, match="too many cells"):
        load_table([tmp_path / "bomb.parquet"])


def test_empty_columns_and_empty_tables_have_digests():
    nothing = pl.DataFrame({"t": [None, None], "n": [None, None]}, schema={"t": pl.String, "n": pl.Null})
    assert len(set(row_digests(nothing))) == 1
    assert row_digests(nothing.clear()) == []


@pytest.mark.parametrize("names", [[str(number) for number in range(10_001)], ["ana", "x" * 201]], ids=["too many", "too long"])
def test_a_column_that_names_nobody_is_no_contributor_column(tmp_path, names):
    """P11: a hostile row must not fill the ledger with its name."""
    pl.DataFrame({"by": names}).write_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match="does not say who added a row"):
        summarize([tmp_path / "a.csv"], name="train", contributor="by")
