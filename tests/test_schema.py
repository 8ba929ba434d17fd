"""The published schemas are those of the types, and real values follow them."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import re
from typing import Any

import pytest

from truerun.core.actor import Actor, Basis
from truerun.core.codec import to_json
from truerun.core.digest import digest_bytes
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.run import Mode, RunResult, Verdict

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "schema"
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}

FINDING = Finding(
    rule="config-drift",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    subject=Subject(kind="config", name="config.yaml", key="lr"),
    message="lr is 0.03",
    evidence={"declared": 0.003, "list": [1, None, {"a": "b"}]},
    location=Location(path="config.yaml", line=7, rows=(1, 2)),
    actor=Actor(id="ana", basis=Basis.SIGNED),
)
RESULT = RunResult(
    run="r1", lock=digest_bytes(b""), verdict=Verdict.FAIL, mode=Mode.OBSERVE, findings=(FINDING,), metrics={"accuracy": 0.9}
)


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problems(schema: dict[str, Any], value: Any, path: str = "$") -> list[str]:
    """What of *value* does not follow *schema*: the few keywords that our schemas use."""
    if "anyOf" in schema:
        tried = [problems(option, value, path) for option in schema["anyOf"]]
        return [] if not all(tried) else [f"{path}: none of {len(tried)} forms"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: {value!r}"]
    kind = schema.get("type")
    if kind == "null":
        return [] if value is None else [f"{path}: not null"]
    if kind is not None and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{path}: not {kind}"]
    found: list[str] = []
    if kind == "string" and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path}: {value!r}")
    if kind == "array":
        found += [text for i, item in enumerate(value) for text in problems(schema["items"], item, f"{path}[{i}]")]
    if kind == "object":
        known = schema.get("properties", {})
        found += [f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            rest = schema.get("additionalProperties")
            if name not in known and rest is False:
                found.append(f"{path}.{name}: unknown")
            else:
                found += problems(known.get(name, rest or {}), item, f"{path}.{name}")
    return found


@pytest.mark.parametrize("name", ["finding", "run-result"])
def test_the_published_schema_is_the_one_of_the_types(name):
    """`python docs/reference/schema/generate.py` was run after the types changed."""
    assert (FOLDER / f"{name}.schema.json").read_text() == generator().document(name)


@pytest.mark.parametrize(("name", "value"), [("finding", FINDING), ("run-result", RESULT)])
def test_real_values_follow_it(name, value):
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    assert problems(schema, json.loads(json.dumps(to_json(value)))) == []


def test_a_wrong_value_does_not_follow_it():
    """Reject twin: an unknown severity, a missing message, a field too many."""
    schema = json.loads((FOLDER / "finding.schema.json").read_text())
    good = to_json(FINDING)
    assert problems(schema, {**good, "severity": "fatal"})
    assert problems(schema, {key: item for key, item in good.items() if key != "message"})
    assert problems(schema, {**good, "blame": "nobody"})


def test_the_example_in_the_reference_follows_it():
    page = (FOLDER.parent / "findings.md").read_text()
    example = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    assert problems(json.loads((FOLDER / "finding.schema.json").read_text()), example) == []
