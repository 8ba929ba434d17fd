"""Setting keys in a configuration file by their dotted path, so that a file can be rebuilt with some of its changes.

The inverse of `config_files.py` as far as values go; formatting, comments and anchors are not kept. Paths are the ones that
module gives: `optimizer.lr`, `layers[0]`, `"a.b"`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from truerun.adapters.config_files import SUFFIXES, key_path
from truerun.core.errors import FormatError

_TOKEN = re.compile(r"""\.?(?:\[(\d+)\]|("(?:[^"\\]|\\.)*")|([^.\[\]"'\s]+))""")
Steps = tuple[str | int, ...]


def load_config(data: bytes, path: str) -> Any:
    """The values of a configuration file that `parse_config` has accepted; *path* tells the format."""
    text = data.decode("utf-8-sig")
    match SUFFIXES.get(Path(path).suffix.lower()):
        case "yaml":
            import yaml

            loaded = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (the safe loader, in C)
            return {} if loaded is None else loaded
        case "toml":
            return tomllib.loads(text)
        case "json":
            return json.loads(text)
        case _:
            raise FormatError(f"{path}: not a configuration format Truerun writes", expected=", ".join(SUFFIXES))


def dump_config(value: Any, path: str) -> bytes:
    """*value* in the format that *path* names. Law: load_config(dump_config(v, p), p) == v."""
    match SUFFIXES.get(Path(path).suffix.lower()):
        case "yaml":
            import yaml

            text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        case "toml":
            text = _toml(value)
        case _:
            text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.encode()


def parse_key(key: str) -> Steps:
    """The steps of a dotted path; raises FormatError. Law: joining them as `config_files.key_path` does gives *key*."""
    steps: list[str | int] = []
    end = 0
    while end < len(key):
        match = _TOKEN.match(key, end)
        if match is None:
            raise FormatError("not a configuration key", got=key[:80], expected='names joined by dots, items as "[0]"')
        index, quoted, bare = match.groups()
        steps.append(int(index) if index is not None else json.loads(quoted) if quoted is not None else bare)
        end = match.end()
    return tuple(steps)


def get_key(tree: Any, key: str) -> Any:
    """The value at *key*; raises KeyError."""
    for step in parse_key(key):
        tree = tree[_name_in(tree, step)]
    return tree


def set_key(tree: Any, key: str, value: Any) -> None:
    """Set *key* in *tree* in place, making the tables on the way; an item past a list's end is appended."""
    steps = parse_key(key)
    for step, following in itertools.pairwise(steps):
        try:
            name = _name_in(tree, step)
            if not isinstance(tree[name], dict | list) or isinstance(tree[name], list) != isinstance(following, int):
                raise KeyError(step)
        except (KeyError, IndexError):
            name = _put(tree, step, [] if isinstance(following, int) else {})
        tree = tree[name]
    _put(tree, steps[-1], value)


def remove_key(tree: Any, key: str) -> None:
    """Remove *key* where it is set, and the tables that it leaves empty."""
    *parents, last = parse_key(key)
    trail = []
    for step in parents:
        try:
            name = _name_in(tree, step)
        except (KeyError, IndexError):
            return
        trail.append((tree, name))
        tree = tree[name]
    try:
        del tree[_name_in(tree, last)]
    except (KeyError, IndexError):
        return
    for parent, name in reversed(trail):
        if parent[name]:
            return
        del parent[name]


def _put(tree: Any, step: str | int, value: Any) -> Any:
    if isinstance(tree, list):
        if not isinstance(step, int):
            raise FormatError("a list where a table was expected", got=str(step)[:40])
        if step >= len(tree):
            tree.append(value)
            return len(tree) - 1
        tree[step] = value
        return step
    try:
        name = _name_in(tree, step)
    except KeyError:
        name = step
    tree[name] = value
    return name


def _name_in(tree: Any, step: str | int) -> Any:
    """The key of *tree* that *step* stands for: yaml has keys that are numbers or booleans."""
    if isinstance(tree, list):
        if not isinstance(step, int) or step >= len(tree):
            raise IndexError(step)
        return step
    if not isinstance(tree, dict):
        raise KeyError(step)
    if step in tree:
        return step
    for name in tree:
        if not isinstance(name, str) and key_path("", name) == key_path("", step):
            return name
    raise KeyError(step)


def _toml(table: Mapping[str, Any]) -> str:
    lines: list[str] = []
    _toml_table(table, "", lines)
    return "\n".join(lines).strip() + "\n"


def _toml_table(table: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    lines += [f"{_toml_name(name)} = {_toml_value(value)}" for name, value in table.items() if name not in inner]
    for name, value in inner.items():
        full = f"{prefix}.{_toml_name(name)}" if prefix else _toml_name(name)
        lines += ["", f"[{full}]"]
        _toml_table(value, full, lines)


def _toml_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_value(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_name(name)} = {_toml_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return repr(value)
