"""Writes the JSON schemas (draft 2020-12) of Truerun's JSON output from the types themselves: `python docs/reference/schema/generate.py`."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from truerun.core.digest import Digest
from truerun.core.finding import Finding
from truerun.core.run import RunResult

BASE = "urn:truerun:schema"
DIGEST = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{1,40}:[0-9a-f]{32,128}$"}
PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}
SCHEMAS: dict[str, type] = {"finding": Finding, "run-result": RunResult}


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of *kind*, by the rules of `truerun/core/codec.py`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if kind is types.NoneType:
        return {"type": "null"}
    if kind is Digest:
        return DIGEST
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(option) for option in arguments]}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()).replace("`", ""),
        "properties": {name: schema_of(hints[name]) for name in fields},
        "required": fields,
        "additionalProperties": False,
    }


def document(name: str) -> str:
    """The schema called *name* as the text of its file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{BASE}:{name}:1", "title": name}
    return json.dumps({**head, **schema_of(SCHEMAS[name])}, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every schema beside this file."""
    for name in SCHEMAS:
        (Path(__file__).parent / f"{name}.schema.json").write_text(document(name))


if __name__ == "__main__":
    main()
