"""The weeks before: legitimate changes of every kind, who made them and when; and where the two harmful ones fall among them.

Everything is drawn from the seed's generator. Legitimate changes are harmless because of what they are (a comment, a tuned
value within reason, right rows), not because they were tried out. Does no I/O.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from truerun.apps.demo.code_edits import CODE_EDITS
from truerun.apps.demo.edits import AddRows, Edit, SetValue
from truerun.apps.demo.harm import BadLot, Slip, choose_lot, choose_slip
from truerun.apps.demo.rows import Lot, Scanner
from truerun.apps.demo.team import Member, Team, choose_team

BASE_ROWS = 800
_Draft = tuple[Member, str, tuple[Edit, ...], str | None]
OPTIMIZERS = {"adamw": (0.006, 0.01), "sgd": (0.15, 0.0001)}  # learning rate, weight decay


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One lock: who proposes it, when, why, and what they did. `planted` names the harmful change in it, if any."""

    at: dt.datetime
    author: Member
    note: str
    edits: tuple[Edit, ...]
    planted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One seed's story: the team, the start of the project, the steps in order, and what was planted."""

    seed: int
    team: Team
    optimizer: str
    critical: bool
    start: dt.datetime
    first_files: tuple[Edit, ...]
    steps: tuple[Step, ...]
    slip: Slip
    bad_lot: BadLot


def make_plan(seed: int) -> Plan:
    """The plan of *seed*; raises MissingExtraError without numpy or scikit-learn."""
    random = _generator(seed)
    team, scanner = choose_team(random), Scanner(random)
    optimizer = ("adamw", "sgd")[int(random.integers(2))]
    first = _first_files(seed, optimizer, team, scanner, random)
    slip, bad_lot = choose_slip(optimizer, random), choose_lot(scanner, random)
    legitimate = list(_legitimate(team, scanner, optimizer, slip, random))
    trainee = team.trainee
    planted: list[_Draft] = [
        (trainee, slip.note, (SetValue(key=slip.key, value=slip.value),), "config"),
        (trainee, f"{len(bad_lot.lot)} new scans", (AddRows(table="train", contributor=trainee.id, lot=bad_lot.lot),), "data"),
    ]
    if random.random() < 0.5:
        planted.reverse()
    # Both fall among the last eight changes, between other people's. The maintainers changed nothing
    # in it, so that one of them can still answer for it as somebody who made none of the changes.
    tail = len(legitimate) - 6
    legitimate = _early(legitimate, team.maintainers, tail)
    places = sorted(int(place) for place in random.integers(tail, len(legitimate) + 1, 2))
    for offset, (place, step) in enumerate(zip(places, planted, strict=True)):
        legitimate.insert(place + offset, step)
    start = dt.datetime(2026, 9, 7, 9, 0, tzinfo=dt.UTC) + dt.timedelta(weeks=int(random.integers(4)))
    times = _working_times(start + dt.timedelta(days=1), len(legitimate), random)
    steps = [
        Step(at=at, author=author, note=note, edits=edits, planted=harm)
        for at, (author, note, edits, harm) in zip(times, legitimate, strict=True)
    ]
    return Plan(
        seed=seed,
        team=team,
        optimizer=optimizer,
        critical=bool(random.integers(2)),
        start=start,
        first_files=first,
        steps=tuple(steps),
        slip=slip,
        bad_lot=bad_lot,
    )


def _generator(seed: int) -> Any:
    try:
        import numpy as np
    except ImportError as error:
        from truerun.core.errors import MissingExtraError

        raise MissingExtraError(
            "the demo needs numpy, and it is not installed", next_step='pip install "truerun[data,torch,demo]"'
        ) from error
    return np.random.default_rng(seed)


def _first_files(seed: int, optimizer: str, team: Team, scanner: Scanner, random: Any) -> tuple[Edit, ...]:
    lr, decay = OPTIMIZERS[optimizer]
    chosen = {"name": optimizer, "lr": lr, "weight_decay": decay}
    values = [SetValue(key=f"optimizer.{key}", value=value) for key, value in chosen.items()]
    shares = random.multinomial(BASE_ROWS - 8 * 60, [1 / 8] * 8) + 60
    rows = [
        AddRows(table="train", contributor=member.id, lot=scanner.rows(int(count)))
        for member, count in zip(team.contributors, shares, strict=True)
    ]
    holdout = AddRows(table="holdout", contributor=team.maintainers[0].id, lot=scanner.holdout())
    return (SetValue(key="seed", value=int(seed) % 10000), *values, *rows, holdout)


def _legitimate(team: Team, scanner: Scanner, optimizer: str, slip: Slip, random: Any) -> Iterator[_Draft]:
    """Thirty-three to thirty-seven changes in random order; edits of one file keep theirs."""
    config = list(_tuning(optimizer, slip, random))
    lots = list(_lots(team, scanner, random))
    authors = [*team.engineers, *team.maintainers]
    config = [config[int(i)] for i in random.permutation(len(config))[: int(random.integers(9, 11))]]
    count = int(random.integers(10, len(CODE_EDITS) + 1))
    chosen = sorted(int(i) for i in random.permutation(len(CODE_EDITS))[:count])
    code = [CODE_EDITS[i] for i in chosen]
    kinds = ["config"] * len(config) + ["rows"] * len(lots) + ["code"] * len(code)
    for i in random.permutation(len(kinds)):
        author = authors[int(random.integers(len(authors)))]
        match kinds[int(i)]:
            case "config":
                note, value = config.pop()
                yield author, note, (value,), None
            case "rows":
                by, lot = lots.pop()
                yield by, f"{len(lot)} new scans", (AddRows(table="train", contributor=by.id, lot=lot),), None
            case _:
                note, edit = code.pop(0)
                yield author, note, (edit,), None


def _early(drafts: list[_Draft], who: tuple[Member, ...], tail: int) -> list[_Draft]:
    """*drafts* in the same order, but what *who* made comes before position *tail*."""
    late = [number for number in range(tail, len(drafts)) if drafts[number][0] in who]
    others = [number for number in range(tail - 1, -1, -1) if drafts[number][0] not in who]
    ordered = list(drafts)
    for one, other in zip(late, others, strict=False):
        ordered[one], ordered[other] = ordered[other], ordered[one]
    return ordered


def _lots(team: Team, scanner: Scanner, random: Any) -> Iterator[tuple[Member, Lot]]:
    """Fourteen lots of right rows: two from each of the seven who are not the trainee, and one from the trainee."""
    for member in (*team.contributors, *team.contributors[:-1]):
        yield member, scanner.rows(int(random.integers(10, 26)))


def _tuning(optimizer: str, slip: Slip, random: Any) -> Iterator[tuple[str, SetValue]]:
    """Harmless settings. The key of the slip is left alone, so that nobody undoes it by accident."""
    lr, decay = OPTIMIZERS[optimizer]
    settings = (
        ("log less often", "logging.every_steps", int(random.choice([20, 25, 40]))),
        ("evaluate more often", "evaluation.every_epochs", int(random.choice([2, 3]))),
        ("a clearer name", "name", str(random.choice(["digits-weekly-v2", "digits-autumn", "digits-main"]))),
        ("one epoch more", "training.epochs", int(random.choice([25, 26]))),
        ("slightly different learning rate", "optimizer.lr", round(lr * float(random.uniform(0.9, 1.1)), 6)),
        ("slightly more weight decay", "optimizer.weight_decay", round(decay * float(random.uniform(1, 1.3)), 7)),
        ("less smoothing", "training.label_smoothing", round(float(random.uniform(0.03, 0.045)), 3)),
        ("a little more dropout", "model.dropout", round(float(random.uniform(0.11, 0.13)), 3)),
        ("a little wider", "model.hidden", int(random.choice([100, 104, 112]))),
        ("shorter warmup", "optimizer.warmup_steps", int(random.choice([20, 30, 50]))),
        ("clip a little later", "training.clip_norm", round(float(random.uniform(1.1, 1.5)), 2)),
    )
    for note, key, value in settings:
        if key != slip.key:
            yield note, SetValue(key=key, value=value)


def _working_times(start: dt.datetime, count: int, random: Any) -> list[dt.datetime]:
    """*count* times in order over five weeks, on weekdays between nine and six."""
    found: list[dt.datetime] = []
    for share in sorted(random.random(count)):
        day = start + dt.timedelta(days=int(float(share) * 35))
        day += dt.timedelta(days=max(0, day.weekday() - 4))  # Saturday and Sunday become Sunday and Monday, then Monday
        day += dt.timedelta(days=1 if day.weekday() == 6 else 0)
        found.append(day.replace(hour=9, minute=0) + dt.timedelta(minutes=int(random.integers(0, 540))))
    return sorted(found)
