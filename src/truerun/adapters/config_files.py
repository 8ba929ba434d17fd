"""Configuration files as dotted keys: what a key's value is and which line sets it. Formatting, comments and order do not show.

Reads yaml (as PyYAML's safe loader would, so `1e-3` is text there, as the script that reads it finds), toml and json.
Values become plain JSON: dates, NaN, infinities, binary and integers beyond 2**53 become text. Keys of nested tables are
joined by dots, list items are `key[0]`; a name that holds a dot, bracket or quote stands in JSON quotes.

Refuses what could mean two things or never end: duplicate keys, several documents, tags that build objects, aliases that
multiply, more than 50,000 leaves. Does not interpolate (`${…}`) and does not include other files.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from truerun.core.canonical import MAX_EXACT_INTEGER
from truerun.core.errors import FormatError
from truerun.core.lock import LockedKey

MAX_CONFIG_BYTES = 4 * 1024 * 1024
MAX_LEAVES = 50_000
MAX_DEPTH = 40
MAX_KEY_LENGTH = 1000
SUFFIXES = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
_BARE = re.compile(r"""[^.\[\]"'\s]+""")
Leaf = tuple[str, Any, int | None]


def parse_config(data: bytes, path: str) -> dict[str, LockedKey]:
    """The leaves of the configuration in *data*; *path* tells the format and names it in errors. Raises FormatError."""
    kind = SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        raise FormatError(f"{path}: not a configuration format Truerun reads", expected="a file ending in " + ", ".join(SUFFIXES))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = data[: error.start].count(b"\n") + 1
        raise FormatError(f"{path}:{place}: not UTF-8 text", next_step="save the file as UTF-8") from error
    parse = {"yaml": _parse_yaml, "toml": _parse_toml, "json": _parse_json}[kind]
    keys: dict[str, LockedKey] = {}
    for key, value, line in parse(text, path):
        if key in keys:
            raise FormatError(f"{path}:{line}: {key} is set twice", got=f"also on line {keys[key].line}", next_step="keep one")
        if len(key) > MAX_KEY_LENGTH:
            raise FormatError(
                f"{path}:{line}: a key that is too long", got=f"{len(key)} characters", expected=f"at most {MAX_KEY_LENGTH}"
            )
        if len(keys) >= MAX_LEAVES:
            raise FormatError(
                f"{path}: too many values", expected=f"at most {MAX_LEAVES}", next_step="declare it as data instead"
            )
        keys[key] = LockedKey(value=_plain(value), line=line)
    return keys


def key_path(parent: str, name: Any) -> str:
    """The dotted path of *name* under *parent*."""
    if isinstance(name, bool):
        name = str(name).lower()
    text = str(name)
    if not _BARE.fullmatch(text):
        text = json.dumps(text, ensure_ascii=False)
    return f"{parent}.{text}" if parent else text


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_EXACT_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, str):
        # A lone surrogate ("\\ud800" in JSON) has no UTF-8 and would have no digest.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _too_deep(path: str, line: int | None) -> FormatError:
    return FormatError(f"{path}:{line}: nested too deeply", expected=f"at most {MAX_DEPTH} levels")


# yaml


def _parse_yaml(text: str, path: str) -> Iterator[Leaf]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode | yaml.SequenceNode):
            raise FormatError(f"{path}:1: a single value, not a mapping", next_step="write `key: value` lines")
        yield from _Yaml(loader, path).leaves(node, "", 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise FormatError(f"{path}{place}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise FormatError(f"{path}: not valid YAML: {str(error)[:120]}") from error
    finally:
        loader.dispose()


class _Yaml:
    """One YAML document as leaves. Mappings are read once each, so that merge keys cannot multiply the work."""

    def __init__(self, loader: Any, path: str) -> None:
        self._loader = loader
        self._path = path
        self._mappings: dict[int, dict[str, Any]] = {}

    def leaves(self, node: Any, prefix: str, depth: int) -> Iterator[Leaf]:
        import yaml

        line = node.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _too_deep(self._path, line)
        if isinstance(node, yaml.ScalarNode):
            yield prefix, self._scalar(node), line
        elif isinstance(node, yaml.SequenceNode):
            self._expect_tag(node, "tag:yaml.org,2002:seq")
            if not node.value:
                yield prefix, [], line
            for position, item in enumerate(node.value):
                yield from self.leaves(item, f"{prefix}[{position}]", depth + 1)
        else:
            if not node.value and prefix:
                yield prefix, {}, line
            for name, item in self._pairs(node, depth).items():
                yield from self.leaves(item, f"{prefix}.{name}" if prefix else name, depth + 1)

    def _pairs(self, node: Any, depth: int) -> dict[str, Any]:
        """The pairs of a mapping, names rendered, merge keys (`<<`) resolved: a key's own value wins over a merged one."""
        import yaml

        self._expect_tag(node, "tag:yaml.org,2002:map")
        if id(node) in self._mappings:
            return self._mappings[id(node)]
        if depth > MAX_DEPTH:
            raise _too_deep(self._path, node.start_mark.line + 1)
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(source, yaml.MappingNode):
                        raise FormatError(f"{self._path}:{line}: `<<` merges mappings only")
                    for name, item in self._pairs(source, depth + 1).items():
                        merged.setdefault(name, item)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise FormatError(f"{self._path}:{line}: a key that is not a single value", next_step="use a text key")
            name = key_path("", self._scalar(key_node))
            if name in own:
                raise FormatError(
                    f"{self._path}:{line}: {name} is set twice", next_step="keep one; readers disagree which one counts"
                )
            own[name] = value_node
        self._mappings[id(node)] = merged | own
        return self._mappings[id(node)]

    def _scalar(self, node: Any) -> Any:
        line = node.start_mark.line + 1
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in ("str", "value", "merge"):
            return node.value
        if kind not in ("null", "bool", "int", "float", "binary", "timestamp"):
            raise FormatError(
                f"{self._path}:{line}: the tag {node.tag} is refused",
                expected="plain values",
                next_step="write the value without the tag",
            )
        try:
            return self._loader.yaml_constructors[node.tag](self._loader, node)
        except (ValueError, OverflowError) as error:
            raise FormatError(f"{self._path}:{line}: not a {kind}", got=repr(node.value)[:60]) from error

    def _expect_tag(self, node: Any, tag: str) -> None:
        if node.tag != tag:
            raise FormatError(f"{self._path}:{node.start_mark.line + 1}: the tag {node.tag} is refused", expected="plain values")


# toml


def _parse_toml(text: str, path: str) -> Iterator[Leaf]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise toml_error(error, path) from error
    except RecursionError as error:
        raise _too_deep(path, None) from error
    lines = _toml_lines(text)
    for key, value in _leaves(table, "", path, 0):
        yield key, value, _nearest(lines, key)


def toml_error(error: tomllib.TOMLDecodeError, path: str) -> FormatError:
    """*error* as ours, with `file:line:column`."""
    where = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    place = f":{where[1]}:{where[2]}" if where else ""
    reason = re.sub(r" \(at .*\)$", "", str(error))
    return FormatError(f"{path}{place}: not valid TOML: {reason}", next_step="correct this line")


def _leaves(value: Any, prefix: str, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MAX_DEPTH:
        raise _too_deep(path, None)
    if isinstance(value, Mapping) and (value or not prefix):
        for name, item in value.items():
            yield from _leaves(item, key_path(prefix, name), path, depth + 1)
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from _leaves(item, f"{prefix}[{position}]", path, depth + 1)
    else:
        yield prefix, value


_TOML_KEY = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_TOML_DOTTED = rf"{_TOML_KEY}(?:\s*\.\s*{_TOML_KEY})*"
_TOML_HEADER = re.compile(rf"\s*(\[\[?)\s*({_TOML_DOTTED})\s*\]\]?")
_TOML_PAIR = re.compile(rf"\s*({_TOML_DOTTED})\s*=")
_TOML_SKIP = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)


def _toml_lines(text: str) -> dict[str, int]:
    """Where each key of valid TOML is set; keys inside inline tables and arrays count as where their container is."""
    # Brackets are counted on a copy whose strings and comments are blanked; lines inside a long string set nothing.
    blank = _TOML_SKIP.sub(lambda match: re.sub(r"[^\n]", "~", match[0]), text)
    inside = {
        text.count("\n", 0, match.start()) + 2 + offset
        for match in _TOML_SKIP.finditer(text)
        for offset in range(match[0].count("\n"))
    }
    lines: dict[str, int] = {}
    arrays: dict[str, int] = {}
    table = ""
    brackets = 0
    for number, (line, shape) in enumerate(zip(text.split("\n"), blank.split("\n"), strict=True), start=1):
        fresh = brackets == 0 and number not in inside
        header = _TOML_HEADER.match(line) if fresh else None
        pair = _TOML_PAIR.match(line) if fresh and not header else None
        if header:
            parts = re.findall(_TOML_KEY, header[2])
            table = key_path(_dotted("", parts[:-1], arrays), _unquoted(parts[-1]))
            if header[1] == "[[":
                arrays[table] = arrays.get(table, -1) + 1
            if table in arrays:
                table = f"{table}[{arrays[table]}]"
            lines.setdefault(table, number)
            continue
        if pair:
            lines.setdefault(_dotted(table, re.findall(_TOML_KEY, pair[1]), arrays), number)
        brackets += _depth(shape)
    return lines


def _depth(shape: str) -> int:
    return sum(shape.count(mark) for mark in "[{") - sum(shape.count(mark) for mark in "]}")


def _dotted(parent: str, parts: list[str], arrays: Mapping[str, int]) -> str:
    for part in parts:
        parent = key_path(parent, _unquoted(part))
        if parent in arrays:
            parent = f"{parent}[{arrays[parent]}]"
    return parent


def _unquoted(part: str) -> str:
    return str(tomllib.loads(f"key = {part}")["key"]) if part[0] in "\"'" else part


def _nearest(lines: Mapping[str, int], key: str) -> int | None:
    while key:
        if key in lines:
            return lines[key]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return None


# json


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def _parse_json(text: str, path: str) -> Iterator[Leaf]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise FormatError(f"{path}: not valid JSON: {str(error)[:120]}") from error
    if not isinstance(value, dict | list):
        raise FormatError(f"{path}:1: a single value, not an object", expected='{"key": value, …}')
    tokens = _tokens(text)
    yield from _json_value(tokens, next(tokens), "", path, 0)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, last = 1, 0
    for match in _JSON_TOKEN.finditer(text):
        line += text.count("\n", last, match.start())
        last = match.start()
        yield match[0], line


def _json_value(tokens: Iterator[tuple[str, int]], at: tuple[str, int], prefix: str, path: str, depth: int) -> Iterator[Leaf]:
    """Walk tokens that the standard parser has accepted, so that only lines and duplicate keys are left to find."""
    token, line = at
    if depth > MAX_DEPTH:
        raise _too_deep(path, line)
    if token == "{":  # noqa: S105 (a JSON token, not a password)
        yield from _json_object(tokens, line, prefix, path, depth)
    elif token == "[":  # noqa: S105
        position = 0
        for item in tokens:
            if item[0] == "]":
                break
            if item[0] != ",":
                yield from _json_value(tokens, item, f"{prefix}[{position}]", path, depth + 1)
                position += 1
        if not position:
            yield prefix, [], line
    else:
        yield prefix, json.loads(token), line


def _json_object(tokens: Iterator[tuple[str, int]], line: int, prefix: str, path: str, depth: int) -> Iterator[Leaf]:
    names: set[str] = set()
    for token, token_line in tokens:
        if token == "}":  # noqa: S105
            break
        if token == ",":  # noqa: S105
            continue
        name = json.loads(token)
        if name in names:
            raise FormatError(f"{path}:{token_line}: the key {name!r} is set twice", next_step="keep one; readers disagree")
        names.add(name)
        next(tokens)
        yield from _json_value(tokens, next(tokens), key_path(prefix, name), path, depth + 1)
    if not names and prefix:
        yield prefix, {}, line
