"""Tables as locks see them: rows with a digest each, and a profile that data rules compare against. Needs the `data` extra.

Reads parquet, csv and jsonl; several files are one table, in the order of their names. A row's digest (`rows-blake3-1`)
does not depend on the file format, the order of columns, the width of numbers or the version of the engine:

    row  = BLAKE3(names || cell || cell …)[:16], cells in the order of the column names
    cell = one byte for its kind, 16 bytes for its value: integers (1, 1.0 and -0.0 are integers) as 8 bytes of two's
           complement where that is enough, other numbers as 8 bytes IEEE 754, everything else as BLAKE3[:16] of its
           text (dates as ISO 8601, lists and structs as JSON); null and NaN nothing
    names = BLAKE3 of the sorted column names as a JSON list

A number that a file stores with less precision (0.1 as float32) is another number. Does not read images, token shards
or archives.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from truerun.adapters.files import TABLE_SUFFIXES
from truerun.core.codec import to_json
from truerun.core.errors import InputError, MissingExtraError
from truerun.core.rows import RowList, render_rows

try:
    import numpy as np
    import polars as pl

    from truerun.inspection.data.profile import profile_of
except ImportError as error:
    raise MissingExtraError(
        "declared data sets cannot be read: polars is not installed", got=str(error), next_step="pip install 'truerun[data]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_TABLE_BYTES = 16 * 1024**3
MAX_CELLS = 4_000_000_000
MAX_CONTRIBUTORS = 10_000
MAX_CONTRIBUTOR_LENGTH = 200
_CHUNK_ROWS = 65_536
_CELL = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a lock keeps of a table: `row_list` and `profile` are bytes to be stored as objects."""

    rows: int
    file_rows: tuple[int, ...]
    columns: Mapping[str, str]
    contributors: Mapping[str, int]
    row_list: bytes
    profile: bytes


def load_table(files: Sequence[Path], name: str = "data") -> tuple[pl.DataFrame, tuple[int, ...]]:
    """
    The rows of *files* in order as one frame, and how many each file has.

    Raises InputError with the file's name for one that is missing, truncated, ragged or of another shape than the first.
    """
    frames: list[pl.DataFrame] = []
    for path in files:
        frame = _load_file(path)
        if frames and set(frame.columns) != set(frames[0].columns):
            odd = sorted(set(frame.columns) ^ set(frames[0].columns))
            raise InputError(f"{path}: its columns differ from those of {files[0].name}", got=", ".join(odd)[:200])
        frames.append(frame.select(frames[0].columns) if frames else frame)
    counts = tuple(frame.height for frame in frames)
    try:
        return (pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]), counts
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{name}: its files do not fit together: {_first_line(error)}") from error


def summarize(
    files: Sequence[Path],
    *,
    name: str,
    label: str | None = None,
    contributor: str | None = None,
    id: str | None = None,  # noqa: A002 (the key of the declaration)
) -> Summary:
    """The summary of the table in *files*; raises InputError, also for a declared column that is not there."""
    frame, counts = load_table(files, name)
    for role, column in (("label", label), ("contributor", contributor), ("id", id)):
        if column is not None and column not in frame.columns:
            raise InputError(
                f"[data.{name}]: there is no column {column!r} to be the {role}",
                got=", ".join(frame.columns)[:200],
                next_step=f"correct {role} in truerun.toml",
            )
    by = tuple(_contributors(frame[contributor], name)) if contributor else ()
    rows = RowList(digests=tuple(row_digests(frame)), contributors=by)
    return Summary(
        rows=frame.height,
        file_rows=counts,
        columns={column: str(kind) for column, kind in frame.schema.items()},
        contributors=dict(sorted(Counter(by).items())),
        row_list=render_rows(rows),
        profile=json.dumps(to_json(profile_of(frame)), sort_keys=True, separators=(",", ":"), allow_nan=False).encode(),
    )


def row_digests(frame: pl.DataFrame) -> list[str]:
    """One digest per row of *frame*: 32 hexadecimal digits, by the algorithm `rows-blake3-1` described above."""
    names = sorted(frame.columns)
    head = blake3(json.dumps(names, ensure_ascii=True, separators=(",", ":")).encode()).digest()
    width = len(head) + len(names) * _CELL
    digests: list[str] = []
    for start in range(0, frame.height, _CHUNK_ROWS):
        part = frame.slice(start, _CHUNK_ROWS)
        rows = np.zeros((part.height, width), dtype=np.uint8)
        rows[:, : len(head)] = np.frombuffer(head, dtype=np.uint8)
        cells = rows[:, len(head) :].reshape(part.height, len(names), _CELL)
        for position, name in enumerate(names):
            _encode(part[name], cells[:, position, :])
        flat = rows.tobytes()
        digests += [blake3(flat[offset : offset + width]).hexdigest(length=16) for offset in range(0, len(flat), width)]
    return digests


def _encode(column: pl.Series, cells: NDArray[np.uint8]) -> None:
    """Write kind and value of each cell of *column* into *cells* (rows, 17)."""
    kind = column.dtype
    present = column.is_not_null().to_numpy()
    if kind == pl.Boolean:
        cells[:, 0] = np.where(present, ord("b"), 0)
        cells[:, 1] = column.fill_null(value=False).to_numpy()
    elif kind.is_integer():
        wide = column.cast(pl.Int64, strict=False)  # null where 64 bits are too few: UInt64 and Int128
        fits = wide.is_not_null().to_numpy()
        cells[:, 0] = np.where(fits, ord("i"), 0)
        cells[:, 1:9] = _bytes_of(wide.fill_null(0).to_numpy().astype(">i8"))
        if not np.array_equal(fits, present):
            _encode_texts(column, present & ~fits, cells)
    elif kind.is_float():
        _encode_floats(column.fill_null(0.0).cast(pl.Float64).to_numpy(), present, cells)
    else:
        _encode_texts(column, present, cells)


def _encode_floats(values: NDArray[np.float64], present: NDArray[np.bool_], cells: NDArray[np.uint8]) -> None:
    nan = np.isnan(values)
    with np.errstate(invalid="ignore"):
        whole = ~nan & (np.abs(values) < 2.0**63) & (np.trunc(values) == values)
    cells[:, 0] = np.select([~present, nan, whole], [0, ord("n"), ord("i")], ord("f"))
    cells[:, 1:9] = _bytes_of(values.astype(">f8"))
    cells[whole, 1:9] = _bytes_of(values[whole].astype(np.int64).astype(">i8"))
    cells[~present | nan, 1:9] = 0


def _encode_texts(column: pl.Series, present: NDArray[np.bool_], cells: NDArray[np.uint8]) -> None:
    cells[present, 0] = ord("s")
    if column.dtype == pl.String:
        # Each different text is digested once, and rows look theirs up.
        table = pl.DataFrame({"text": column})
        texts = table.unique(maintain_order=True).with_row_index("place")
        places = table.join(texts, on="text", how="left", nulls_equal=True, maintain_order="left")["place"].to_numpy()
        values = texts["text"].to_list()
    else:
        places, values = np.arange(len(column)), column.to_list()
    digests = b"".join(_text_digest(value) for value in values)
    cells[present, 1:] = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)[places[present]]


def _text_digest(value: Any) -> bytes:
    text = value if isinstance(value, str) else "" if value is None else _canonical(value)
    return bytes(blake3(text.encode("utf-8", "surrogatepass")).digest(length=16))


def _canonical(value: Any) -> str:
    """A text for a value that is not text: dates in ISO 8601, lists and structs as JSON, numbers without a needless `.0`."""
    simple = _simplified(value)
    if isinstance(simple, str):
        return simple
    return json.dumps(simple, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _simplified(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 2.0**63 and value.is_integer() else repr(value)  # noqa: PLR0124 (NaN)
    if isinstance(value, Mapping):
        return {str(key): _simplified(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simplified(item) for item in value]
    if isinstance(value, pl.Series):
        return [_simplified(item) for item in value.to_list()]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _bytes_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(values.tobytes(), dtype=np.uint8).reshape(len(values), 8)


def _contributors(column: pl.Series, name: str) -> list[str]:
    """Each row's contributor as text; raises InputError for a column that cannot be one: too many names, or too long ones."""
    names = ["" if value is None else str(value) for value in column.to_list()]
    distinct = set(names)
    longest = max(distinct, key=len, default="")
    if len(distinct) > MAX_CONTRIBUTORS or len(longest) > MAX_CONTRIBUTOR_LENGTH:
        got = f"{len(distinct)} different values, the longest with {len(longest)} characters (row {names.index(longest)})"
        raise InputError(
            f"[data.{name}]: the column {column.name!r} does not say who added a row",
            got=got,
            expected=f"at most {MAX_CONTRIBUTORS} names of at most {MAX_CONTRIBUTOR_LENGTH} characters",
            next_step="correct contributor in truerun.toml, or the rows",
        )
    return names


def _load_file(path: Path) -> pl.DataFrame:
    suffix = path.suffix.lower()
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise InputError(f"{path} is too large to be read here", expected=f"at most {MAX_TABLE_BYTES} bytes")
        if suffix in (".parquet", ".pq"):
            frame = _load_parquet(path)
        elif suffix in (".csv", ".tsv"):
            frame = pl.read_csv(
                path, separator="\t" if suffix == ".tsv" else ",", infer_schema_length=None, truncate_ragged_lines=False
            )
        elif suffix in (".jsonl", ".ndjson"):
            frame = pl.read_ndjson(path, infer_schema_length=None)
        else:
            raise InputError(f"{path}: not a table Truerun reads", expected=", ".join(TABLE_SUFFIXES))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or _first_line(error)}") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError) as error:
        raise InputError(
            f"{path} cannot be read as {suffix[1:]}: {_first_line(error)}", next_step="restore the file or correct the rows"
        ) from error
    return frame


def _load_parquet(path: Path) -> pl.DataFrame:
    # The footer states the rows: a small file that unpacks to billions is refused before it is unpacked.
    scan = pl.scan_parquet(path, glob=False)
    rows = scan.select(pl.len()).collect().item()
    if rows * max(1, len(scan.collect_schema())) > MAX_CELLS:
        raise InputError(f"{path} holds too many cells", got=f"{rows} rows", expected=f"at most {MAX_CELLS} cells")
    return pl.read_parquet(path, glob=False)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
