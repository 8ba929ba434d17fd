"""Taking keys of a configuration file back with as little change to its text as possible, so that comments stay.

Replaces whole lines with those of an older version of the file; where the result does not hold exactly the wanted values,
the file is written anew from its values.
"""

from __future__ import annotations

from collections.abc import Sequence

from truerun.adapters.config_edits import dump_config, load_config
from truerun.adapters.config_files import parse_config
from truerun.core.errors import FormatError


def revert_keys(current: bytes, wanted: bytes, older: Sequence[bytes], path: str) -> bytes:
    """
    The text of *current* with the values of *wanted*; lines come from *older* versions (newest first) that have them.

    *wanted* is any text with exactly the values that are wanted, its formatting does not matter.
    """
    values = {key: item.value for key, item in parse_config(wanted, path).items()}
    try:
        text = _by_lines(current.decode(), values, older, path)
    except (FormatError, UnicodeDecodeError):
        text = None
    if text is not None and _values(text, path) == values:
        return text
    return dump_config(load_config(wanted, path), path)


def _by_lines(current: str, values: dict[str, object], older: Sequence[bytes], path: str) -> bytes | None:
    lines: list[str | None] = list(current.splitlines(keepends=True))
    have = parse_config(current.encode(), path)
    for key, item in have.items():
        if item.line is None or item.line > len(lines):
            return None
        if key not in values:
            lines[item.line - 1] = None
        elif values[key] != item.value:
            line = _line_with(key, values[key], older, path)
            if line is None:
                return None
            lines[item.line - 1] = line
    return "".join(line for line in lines if line is not None).encode()


def _line_with(key: str, value: object, older: Sequence[bytes], path: str) -> str | None:
    for data in older:
        keys = parse_config(data, path)
        item = keys.get(key)
        if item is not None and item.line is not None and item.value == value:
            line = data.decode().splitlines(keepends=True)[item.line - 1]
            return line if line.endswith("\n") else line + "\n"
    return None


def _values(text: bytes, path: str) -> dict[str, object] | None:
    try:
        return {key: item.value for key, item in parse_config(text, path).items()}
    except FormatError:
        return None
