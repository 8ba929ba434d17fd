"""Values become JSON and come back as themselves; what does not fit is refused with its path."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.codec import from_json, to_json
from truerun.core.digest import Digest, digest_bytes
from truerun.core.errors import FormatError
from truerun.core.finding import Confidence, Finding, Location, Severity, Subject


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: int
    share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    inner: Inner | None
    colours: tuple[Colour, ...] = ()
    digests: Mapping[str, Digest] = field(default_factory=dict)
    anything: Any = None
    choice: str | tuple[str, ...] = "all"


OUTERS = st.builds(
    Outer,
    name=st.text(),
    inner=st.none() | st.builds(Inner, number=st.integers(), share=st.floats(allow_nan=False)),
    colours=st.lists(st.sampled_from(Colour)).map(tuple),
    digests=st.dictionaries(st.text(), st.binary().map(digest_bytes)),
    anything=st.none() | st.lists(st.integers()),
    choice=st.text() | st.lists(st.text()).map(tuple),
)


@given(OUTERS)
def test_a_value_survives(outer):
    assert from_json(Outer, to_json(outer)) == outer


def test_a_finding_survives():
    finding = Finding(
        rule="config-drift",
        severity=Severity.ERROR,
        confidence=Confidence.CERTAIN,
        subject=Subject(kind="config", name="config.yaml", key="lr"),
        message="lr is 0.03",
        evidence={"declared": 0.003, "rows": [1, 2]},
        location=Location(path="config.yaml", line=7, rows=(1, 2)),
    )
    assert from_json(Finding, to_json(finding)) == finding


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"name": 1, "inner": None}, r"\$\.name"),
        ({"name": "a"}, r"\$"),
        ({"name": "a", "inner": None, "extra": 1}, r"unknown field"),
        ({"name": "a", "inner": {"number": True}}, r"\$\.inner\.number"),
        ({"name": "a", "inner": {"number": 1.5}}, r"\$\.inner\.number"),
        ({"name": "a", "inner": None, "colours": ["blue"]}, r"\$\.colours\[0\]"),
        ({"name": "a", "inner": None, "digests": {"x": "nonsense"}}, "not a digest"),
        ([], r"\$"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(data, path):
    with pytest.raises(FormatError, match=path):
        from_json(Outer, data)


def test_an_integer_fits_a_float_field_and_true_fits_neither():
    assert from_json(Inner, {"number": 1, "share": 1}).share == 1.0
    with pytest.raises(FormatError):
        from_json(Inner, {"number": 1, "share": True})
