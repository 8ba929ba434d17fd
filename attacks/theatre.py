"""Performs stories: one base project a seed, a fresh copy for every variant and every twin, several at a time."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from attacks.project import Project, StoryError, build
from attacks.story import Judgement, Story, Twin, Variant, tell, tell_twin


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One story performed: a judgement per variant, and what each twin was wrongly told."""

    story: Story
    judgements: tuple[Judgement, ...]
    alarms: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def caught(self) -> int:
        return sum(not judgement.missing for judgement in self.judgements)

    @property
    def false_alarms(self) -> int:
        return sum(len(found) for _, found in self.alarms)

    @property
    def passed(self) -> bool:
        return self.caught == len(self.judgements) and not self.false_alarms


def perform(
    stories: Sequence[Story],
    folder: Path,
    *,
    seed: int,
    jobs: int = 1,
    one: bool = False,
    only_variant: str | None = None,
    keep: bool = False,
) -> list[Outcome]:
    """Perform *stories* in *folder*; with *one* a single variant of each, which one is drawn by *seed*."""
    os.environ.setdefault("TRUERUN_CACHE", str(folder / "cache"))
    base = build(folder / "base", seed)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = []
        for story in stories:
            chosen = _choose(story, seed, one, only_variant)
            told = [pool.submit(_tell, base, story, variant, seed, keep) for variant in chosen]
            twins = [(twin.what, pool.submit(_tell_twin, base, story, twin, seed, keep)) for twin in story.twins]
            waiting.append((story, told, twins))
        return [_collect(story, told, twins) for story, told, twins in waiting]


def _choose(story: Story, seed: int, one: bool, only_variant: str | None) -> list[Variant]:
    if only_variant is not None:
        return [variant for variant in story.variants if only_variant in variant.name]
    if one:
        return [random.Random(f"{seed} {story.id}").choice(story.variants)]
    return list(story.variants)


def _collect(story: Story, told: list[Future[Judgement]], twins: list[tuple[str, Future[tuple[str, ...]]]]) -> Outcome:
    outcome = Outcome(
        story=story,
        judgements=tuple(future.result() for future in told),
        alarms=tuple((what, future.result()) for what, future in twins),
    )
    print(f"{story.id}: {outcome.caught} of {len(told)} caught, {outcome.false_alarms} false alarms", file=sys.stderr, flush=True)
    return outcome


def _fresh(base: Project, story: Story, name: str) -> Project:
    plain = "".join(character if character.isalnum() else "-" for character in name)
    return base.copy(base.home.parent / f"{story.id}-{plain}" / "home")


def _tell(base: Project, story: Story, variant: Variant, seed: int, keep: bool) -> Judgement:
    project = _fresh(base, story, variant.name)
    try:
        return tell(story, variant, project, seed)
    except StoryError as error:
        return Judgement(story=story.id, variant=variant.name, planted="could not be planted", missing=(str(error),))
    finally:
        _leave(project, keep)


def _tell_twin(base: Project, story: Story, twin: Twin, seed: int, keep: bool) -> tuple[str, ...]:
    project = _fresh(base, story, f"twin {twin.what}")
    try:
        return tell_twin(story, twin, project, seed)
    except StoryError as error:
        return (str(error),)
    finally:
        _leave(project, keep)


def _leave(project: Project, keep: bool) -> None:
    if not keep:
        shutil.rmtree(project.home.parent, ignore_errors=True)
