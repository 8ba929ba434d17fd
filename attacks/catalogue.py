"""All stories, in the order of the catalogue of threats."""

from __future__ import annotations

from attacks import config, data, environment, ledger, people, training, weights
from attacks.story import Story

STORIES: tuple[Story, ...] = (
    *data.STORIES,
    *config.STORIES,
    *environment.STORIES,
    *weights.STORIES,
    *training.STORIES,
    *ledger.STORIES,
    *people.STORIES,
)
