"""From frozen values to plain JSON and back, driven by the types alone, so that a noun is written down once.

Supported: None, bool, int, float, str, Enum (by value), Digest (as text), `X | None`, `tuple[X, ...]`, `Mapping[str, X]`,
`Any` (JSON as it is) and dataclasses of these. Reading is strict: a missing field without a default, a field too many
or a value of the wrong kind raises FormatError that names the path.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union, cast

from truerun.core.digest import Digest
from truerun.core.errors import FormatError

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Plain JSON of *value*: mappings, lists, text, numbers, booleans and None."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Digest):
        return value.render()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[T], data: Any, path: str = "$") -> T:
    """Read *data* as *kind*; raises FormatError with the path of what does not fit. Law: from_json(K, to_json(k)) == k."""
    return cast(T, _read(kind, data, path))


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind)
    absent = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is absent and field.default_factory is absent)
        for field in dataclasses.fields(kind)
    }


def _read(kind: Any, data: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        return _read_union(kind, data, path)
    if origin is tuple:
        return tuple(_read(typing.get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(_expect(list, data, path)))
    if origin in (Mapping, dict):
        return {key: _read(typing.get_args(kind)[1], item, f"{path}.{key}") for key, item in _expect(dict, data, path).items()}
    if kind is Digest:
        return Digest.parse(_expect(str, data, path))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(data)
        except ValueError as error:
            allowed = ", ".join(str(member.value) for member in kind)
            raise FormatError(f"unknown value at {path}", got=repr(data)[:80], expected=allowed) from error
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(cast(type, kind), data, path)
    if kind is float:
        return float(_expect((int, float), data, path))
    return _expect(kind, data, path)


def _read_union(kind: Any, data: Any, path: str) -> Any:
    options = [option for option in typing.get_args(kind) if option is not types.NoneType]
    if data is None and len(options) < len(typing.get_args(kind)):
        return None
    error: FormatError | None = None
    for option in options:
        try:
            return _read(option, data, path)
        except FormatError as mismatch:
            error = mismatch
    raise error or FormatError(f"nothing fits at {path}", got=repr(data)[:80])


def _read_dataclass(kind: type, data: Any, path: str) -> Any:
    fields = _fields(kind)
    given = _expect(dict, data, path)
    extra = sorted(set(given) - set(fields))
    if extra:
        raise FormatError(f"unknown field at {path}", got=", ".join(map(str, extra)), expected=", ".join(fields))
    missing = [name for name, (_, required) in fields.items() if required and name not in given]
    if missing:
        raise FormatError(f"missing field at {path}", expected=", ".join(missing))
    return kind(**{name: _read(fields[name][0], item, f"{path}.{name}") for name, item in given.items()})


def _expect(kind: Any, data: Any, path: str) -> Any:
    allowed = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(data, allowed) or (isinstance(data, bool) and bool not in allowed):
        wanted = " or ".join(option.__name__ for option in allowed)
        raise FormatError(f"wrong kind at {path}", got=repr(data)[:80], expected=wanted)
    return data
