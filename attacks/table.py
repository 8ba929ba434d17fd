"""The table of outcomes, for people and for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from attacks.theatre import Outcome

HEADINGS = ("story", "what", "expected", "caught", "found", "where (first variant)", "who", "detection", "false alarms")


def to_json(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "seed": seed,
        "caught": sum(outcome.caught == len(outcome.judgements) for outcome in outcomes),
        "stories": [
            {
                "id": outcome.story.id,
                "title": outcome.story.title,
                "expected": outcome.story.expected,
                "passed": outcome.passed,
                "variants": [dataclasses.asdict(judgement) for judgement in outcome.judgements],
                "twins": [{"what": what, "false_alarms": list(found)} for what, found in outcome.alarms],
            }
            for outcome in outcomes
        ],
    }


def render_text(outcomes: Sequence[Outcome]) -> str:
    rows = [HEADINGS, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", *_faults(outcomes), _summary(outcomes)])


def render_markdown(outcomes: Sequence[Outcome]) -> str:
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _row(outcome)) + " |" for outcome in outcomes]
    return "\n".join([*lines, "", *_faults(outcomes), _summary(outcomes)])


def _row(outcome: Outcome) -> tuple[str, ...]:
    judgements = outcome.judgements
    first = judgements[0] if judgements else None
    who = sorted({judgement.who for judgement in judgements if judgement.who})
    return (
        outcome.story.id,
        outcome.story.title,
        outcome.story.expected,
        f"{outcome.caught} of {len(judgements)}",
        ", ".join(sorted({judgement.found for judgement in judgements if judgement.found})),
        _short(first.where if first else "", 48),
        _short(", ".join(who), 40),
        _detection(outcome),
        str(outcome.false_alarms),
    )


def _detection(outcome: Outcome) -> str:
    steps = [judgement.steps for judgement in outcome.judgements if judgement.steps is not None]
    seconds = [judgement.seconds for judgement in outcome.judgements]
    if steps:
        return f"+{max(steps)} steps"
    return f"{max(seconds):.1f} s" if seconds else ""


def _faults(outcomes: Sequence[Outcome]) -> list[str]:
    lines = []
    for outcome in outcomes:
        for judgement in outcome.judgements:
            lines += [
                f"missed {outcome.story.id} ({judgement.variant}; {judgement.planted}): {text}" for text in judgement.missing
            ]
        for what, found in outcome.alarms:
            lines += [f"false alarm {outcome.story.id} ({what}): {text}" for text in found]
    return [*lines, ""] if lines else []


def _summary(outcomes: Sequence[Outcome]) -> str:
    caught = sum(outcome.caught == len(outcome.judgements) for outcome in outcomes)
    variants = sum(len(outcome.judgements) for outcome in outcomes)
    alarms = sum(outcome.false_alarms for outcome in outcomes)
    return f"{caught} of {len(outcomes)} stories caught in all their variants ({variants}), {alarms} false alarms on the twins"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
