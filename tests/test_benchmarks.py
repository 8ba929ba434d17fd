"""The side-by-side benchmark is only as good as its stories and its judge: both are held to what its page says of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "benchmarks" / "monitoring"
AT = 21
ADAM = importlib.import_module("torch.optim.adam")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark's own module; torch's Adam and the import path are put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    original = ADAM.adam
    spec = importlib.util.spec_from_file_location("bench_monitoring", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    ADAM.adam = original
    for name in ("stories", "tools"):
        sys.modules.pop(name, None)


def weights(bench: Any, out: Path, monkeypatch: pytest.MonkeyPatch, story: str, steps: int, *, twin: bool = False) -> list[Any]:
    for name, value in bench.environment(FOLDER, "", story, twin=twin, out=out, steps=steps).items():
        monkeypatch.setenv(name, value)
    ran = runpy.run_path(str(FOLDER / "program.py"))
    assert len(json.loads(out.read_text())["times"]) == steps
    return [tensor.detach().clone() for tensor in ran["model"].parameters()]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_stories_begin_at_their_step(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each story leaves the training as it is until step 20 and changes it from step 21 on, or it would prove nothing."""
    original = ADAM.adam
    before, after = (weights(bench, tmp_path / "out", monkeypatch, "", steps) for steps in (AT - 2, AT + 3))
    for story in bench.stories.STORIES:
        early = weights(bench, tmp_path / "out", monkeypatch, story, AT - 2)
        late = weights(bench, tmp_path / "out", monkeypatch, story, AT + 3)
        ADAM.adam = original
        # Evaluation in training mode draws random numbers from its first time on: the tenth step.
        assert same(early, before) is (story != "dropout left on in evaluation"), story
        assert same(late, after) is (story == "random sleep"), story


def test_judge_counts_what_tells_story_and_twin_apart(bench: Any) -> None:
    """A tool that says the same of both has caught nothing; one that speaks before the change has not seen it."""
    found = {key: [] for key, _, _ in bench.plans()}
    first, second, third, fourth = list(bench.stories.STORIES)[:4]
    found[f"{first} / story"] = [["alarm", 1, AT + 2], ["alarm", 1, AT], ["chatter", 0, AT]]
    found[f"{second} / story"] = found[f"{second} / twin"] = [["always", 1, 1]]
    found[f"{third} / story"] = [["too early", 1, AT - 5]]
    found[f"{fourth} / story"] = [["afterwards", 1, None]]
    assert [bench.judge(found, story) for story in (first, second, third, fourth)] == [
        (True, 0),
        (False, None),
        (False, None),
        (True, None),
    ]
    assert bench.false_alarms(found) == (1, len(bench.stories.STORIES) + 1)


def test_page_holds_the_measured_table(bench: Any) -> None:
    """The table in the docs is the one that the kept results give."""
    shown = bench.PAGE.read_text().partition(bench.BEGIN)[2].partition(bench.END)[0].strip()
    assert shown == bench.table(json.loads((FOLDER / "results.json").read_text()))
    assert os.sep not in shown
