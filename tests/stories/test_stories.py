"""
Attack stories with their accept twins, through the command line.

The quick part performs one variant of every story, another one for every seed; the slow part performs all of them on
several seeds. `python -m attacks` prints the same as a table.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from attacks.catalogue import STORIES
from attacks.project import Project, build
from attacks.story import Story, tell, tell_twin
from attacks.theatre import perform

QUICK_SEED = 4
QUICK_TWINS = ("D1", "C5", "K1", "R3")


@pytest.fixture(scope="session")
def base(stage: Path) -> Project:
    """The project that every quick story starts from."""
    os.environ.setdefault("TRUERUN_CACHE", str(stage / "cache"))
    return build(stage / "base", QUICK_SEED)


@pytest.mark.torch
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.id)
def test_story_is_caught(story: Story, base: Project, tmp_path: Path) -> None:
    """What was planted is named: the rule, the place and, where recorded, the actor."""
    variant = random.Random(f"{QUICK_SEED} {story.id}").choice(story.variants)
    judgement = tell(story, variant, base.copy(tmp_path / "home"), QUICK_SEED)
    assert not judgement.missing, judgement


@pytest.mark.torch
@pytest.mark.parametrize("story", [story for story in STORIES if story.id in QUICK_TWINS], ids=lambda story: story.id)
def test_twin_is_left_alone(story: Story, base: Project, tmp_path: Path) -> None:
    """The same kind of change, made legitimately and approved, raises nothing at error level."""
    assert tell_twin(story, story.twins[0], base.copy(tmp_path / "home"), QUICK_SEED) == ()


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_every_variant_and_twin(seed: int, tmp_path: Path) -> None:
    """All variants are caught and all twins left alone, on projects that differ in data, sizes, places and onsets."""
    outcomes = perform(STORIES, tmp_path, seed=seed, jobs=2)
    failed = {outcome.story.id: (outcome.judgements, outcome.alarms) for outcome in outcomes if not outcome.passed}
    assert not failed


def test_catalogue_is_complete() -> None:
    """The seventeen stories that the main job asks for, each with a twin."""
    wanted = ["D1", "D2", "D4", "C1", "C2", "C5", "E1", "E3", "K1", "R1", "R2", "R3", "R5", "P1", "P4", "P5", "P6"]
    assert [story.id for story in STORIES] == wanted
    assert all(story.twins and story.variants for story in STORIES)
