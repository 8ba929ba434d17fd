"""Programs of many kinds: identical to the last bit with and without Truerun, and nothing found in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.programs.catalogue import FOLDER, PROGRAMS, alone, watched

from truerun.core.finding import Severity

STEPS = 60
NAMES = [
    pytest.param(
        name,
        marks=[] if program.cheap else [pytest.mark.slow],
        id=name,
    )
    for name, program in PROGRAMS.items()
]


def test_every_program_is_there() -> None:
    """The catalogue names scripts that exist, of fifteen kinds at least."""
    assert {name for name in PROGRAMS if not (FOLDER / f"{name}.py").is_file()} == set()
    assert len(PROGRAMS) >= 15


@pytest.mark.parametrize("name", NAMES)
def test_watching_changes_nothing_and_finds_nothing(name: str, tmp_path: Path) -> None:
    """Losses of every step, final weights and the state of every generator are the same; no finding at error level."""
    if name == "compiled" and shutil.which("gcc") is None:
        pytest.skip("torch.compile needs a C compiler")
    bare = alone(name, STEPS, tmp_path / "alone")
    assert sum(line.startswith(("0x", "-0x")) for lines in bare for line in lines) >= STEPS // 2
    cheap = PROGRAMS[name].cheap
    for how, monitoring in {"every step": {"every": 1}, **({} if cheap else {"by default": {}})}.items():
        for lines, (outcome, said) in zip(bare, watched(name, STEPS, tmp_path / how, monitoring=monitoring), strict=True):
            assert said == lines, how
            errors = [finding for finding in outcome.findings if finding.severity.rank >= Severity.ERROR.rank]
            assert errors == [], how
