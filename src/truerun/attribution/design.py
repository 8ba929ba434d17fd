"""Which subset to rerun next: the one whose outcome is hardest to foretell, among few that make sense.

Proposals: halves of the suspicion, a suspect alone, everything but the suspects, prefixes of the history (states that really
existed) and random subsets drawn from a generator seeded by the reruns so far, so that the same evidence asks the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from truerun.attribution.hypotheses import Shape
from truerun.attribution.posterior import Beliefs, Floats

Subset = frozenset[int]
RANDOM_PROPOSALS = 96
CONSIDERED = 3000  # explanations weighed when a subset is chosen
CONFIRMING = 0.1  # bits that a rerun is worth because the answer must be shown it anyway


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """`closed` adds what a subset needs to apply; `refused` are subsets not to try (measured, or known not to run)."""

    closed: Callable[[Subset], Subset]
    refused: Collection[Subset] = ()
    only_prefixes: bool = False


def confirmations(beliefs: Beliefs, constraints: Constraints) -> tuple[Subset, ...]:
    """The reruns that show the best explanation: its members (alone, or together if only together), and all but them."""
    members = beliefs.members(beliefs.best)
    if not members:
        return ()
    alone = [frozenset({member}) for member in members]
    if beliefs.space.shape[beliefs.best] in (Shape.TOGETHER, Shape.WORSENS):
        alone.append(frozenset(members))
    rest = frozenset(range(beliefs.space.count)) - frozenset(members)
    return tuple(dict.fromkeys(constraints.closed(subset) for subset in (*alone, _without(rest, members, constraints))))


def choose(beliefs: Beliefs, many: int, constraints: Constraints, seed: int) -> tuple[Subset, ...]:
    """Up to *many* subsets to rerun at the same time, chosen one after the other for what they say together."""
    confirming = set(confirmations(beliefs, constraints))
    proposals = [subset for subset in _proposals(beliefs, constraints, seed) if subset not in constraints.refused]
    if not proposals:
        return ()
    top = np.argsort(-beliefs.log_posterior)[:CONSIDERED]
    weight = np.exp(beliefs.log_posterior[top])
    weight /= weight.sum()
    outcome = _degrades(beliefs, top, proposals)
    bonus = np.asarray([CONFIRMING if subset in confirming else 0.0 for subset in proposals])
    chosen: list[int] = []
    cells: npt.NDArray[np.int64] = np.zeros(len(top), dtype=np.int64)
    for _ in range(min(many, len(proposals))):
        gain = _joint_entropy(cells, len(chosen), outcome, weight) + bonus
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        cells = cells * 2 + outcome[:, best]
    return tuple(proposals[index] for index in chosen)


def _joint_entropy(cells: npt.NDArray[np.int64], rounds: int, outcome: npt.NDArray[np.bool_], weight: Floats) -> Floats:
    """Bits of the outcomes of the subsets chosen so far (coded in *cells*) together with each proposal's."""
    entropy = np.zeros(outcome.shape[1])
    for cell in range(2**rounds):
        here = weight * (cells == cell)
        degraded = here @ outcome
        for mass in (degraded, here.sum() - degraded):
            entropy -= np.where(mass > 1e-12, mass * np.log2(np.maximum(mass, 1e-300)), 0.0)
    return entropy


def _degrades(beliefs: Beliefs, rows: npt.NDArray[np.int64], proposals: list[Subset]) -> npt.NDArray[np.bool_]:
    """(rows, proposals): does a subset degrade under an explanation?"""
    space = beliefs.space
    inside: npt.NDArray[np.bool_] = np.zeros((space.count + 1, len(proposals)), dtype=bool)
    for column, subset in enumerate(proposals):
        inside[list(subset), column] = True
    shape, members = space.shape[rows], space.members[rows]
    every: npt.NDArray[np.bool_] = np.ones((len(rows), len(proposals)), dtype=bool)
    some: npt.NDArray[np.bool_] = np.zeros((len(rows), len(proposals)), dtype=bool)
    for column in range(3):
        here = inside[members[:, column]]
        absent = members[:, column] < 0
        every &= here | absent[:, None]
        some |= here & ~absent[:, None]
    result = np.where((shape == Shape.TOGETHER)[:, None], every, some)
    worsens = shape == Shape.WORSENS
    result[worsens] = inside[members[worsens, 0]]
    return result


def _proposals(beliefs: Beliefs, constraints: Constraints, seed: int) -> list[Subset]:
    count = beliefs.space.count
    everything = frozenset(range(count))
    prefixes = [frozenset(range(end)) for end in range(1, count)]
    if constraints.only_prefixes:
        return list(dict.fromkeys(constraints.closed(subset) for subset in (*confirmations(beliefs, constraints), *prefixes)))
    marginals = beliefs.marginals
    suspects = [int(i) for i in np.argsort(-marginals) if marginals[i] > 0.05][:6]
    plain: list[Subset] = [*confirmations(beliefs, constraints), *prefixes, *(everything - prefix for prefix in prefixes)]
    for suspect in suspects:
        plain += [frozenset({suspect}), _without(everything, (suspect,), constraints)]
    plain.append(_without(everything, tuple(suspects), constraints))
    plain += _random_subsets(beliefs, suspects, np.random.default_rng(seed))
    whole = {frozenset(), everything}
    return [subset for subset in dict.fromkeys(map(constraints.closed, plain)) if subset not in whole]


def _random_subsets(beliefs: Beliefs, suspects: list[int], generator: np.random.Generator) -> list[Subset]:
    """Random halves, thirds and quarters of the candidates, each with and without the present suspects."""
    count = beliefs.space.count
    result: list[Subset] = []
    for share in (0.5, 0.3, 0.2, 0.65) * (RANDOM_PROPOSALS // 4):
        drawn = frozenset(np.flatnonzero(generator.random(count) < share).tolist())
        result.append(drawn)
        result.extend(drawn - {suspect} for suspect in suspects[:3])
    return result


def _without(subset: Subset, members: tuple[int, ...], constraints: Constraints) -> Subset:
    """*subset* without *members* and without everything that needs one of them."""
    gone = set(members)
    return frozenset(item for item in subset if not constraints.closed(frozenset({item})) & gone)
