"""How many reruns a trace needs, beside plain bisect and the limit of information.

Simulated reruns: n changes, one or two of them harmful, Gaussian noise such that one rerun is judged right with probability
p by a threshold halfway. Our figures hold the whole trace: the reruns of reference and run, the search over every
explanation of up to two or three changes (not told how many), and the reruns that show the answer. Fano: the least mean
number of reruns for 5 % error without a prior, the search alone; for two changes over the n(n-1)/2 pairs.
Usage: python benchmarks/bench_trace.py [trials [n …]]
"""

import math
import pathlib
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "attribution"))
from simulated import Simulated

from truerun.attribution.convict import Ending, Question, convict

DROP = 0.10
SIZES = tuple(int(size) for size in sys.argv[2:]) or (16, 32, 64)
# distance between good and bad in standard deviations at which a halfway threshold is right with probability p
DISTANCE = {0.9: 2.563, 0.95: 3.290, 1.0: 20.0}


def effect(kind: str, harmful: list[int]):
    if kind == "together":
        return lambda subset: DROP * all(item in subset for item in harmful)
    return lambda subset: DROP * sum(item in subset for item in harmful)


def trace(n: int, kind: str, sd: float, seed: int) -> tuple[int, bool, float]:
    harmful = sorted(np.random.default_rng(seed).choice(n, 1 if kind == "one" else 2, replace=False).tolist())
    lab = Simulated(effect(kind, harmful), sd=sd, seed=seed + 10_000, parallel=1)
    question = Question(count=n, goal="max", tolerance=max(sd / 2, DROP / 12), noise=sd or None, budget=120)
    answer = convict(lab, question)
    innocent = max((p for place, p in enumerate(answer.probability) if place not in harmful), default=0.0)
    return len(answer.reruns), answer.ending is Ending.DECIDED and set(answer.members) == set(harmful), innocent


def bisect(n: int, sd: float, seed: int) -> tuple[int, bool]:
    """Plain bisect over prefixes, one rerun a probe, threshold halfway."""
    generator = np.random.default_rng(seed)
    harmful, low, high, runs = int(generator.integers(n)), 0, n - 1, 0
    while low < high:
        middle = (low + high) // 2
        value = DROP * (harmful <= middle) + sd * generator.standard_normal()
        low, high, runs = (low, middle, runs + 1) if value > DROP / 2 else (middle + 1, high, runs + 1)
    return runs, low == harmful


def capacity(distance: float) -> float:
    """Bits that one rerun can give: mutual information of a fair bit through the Gaussian."""
    if distance >= 10:
        return 1.0
    grid = np.linspace(-8, distance + 8, 20_001)
    good, bad = (np.exp(-0.5 * (grid - centre) ** 2) / math.sqrt(2 * math.pi) for centre in (0.0, distance))
    mixed = (good + bad) / 2
    parts = [np.sum(part * np.log2(np.maximum(part, 1e-300) / mixed)) for part in (good, bad)]
    return float(sum(parts) / 2 * (grid[1] - grid[0]))


def fano(hypotheses: float, distance: float) -> float:
    error = 0.05
    entropy = -error * math.log2(error) - (1 - error) * math.log2(1 - error)
    return (math.log2(hypotheses) - entropy - error * math.log2(hypotheses - 1)) / capacity(distance)


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(f"{trials} trials a line; reruns: median/95th percentile (share right)")
    print(
        f"{'n':>4} {'harmful':>9} {'p':>5}  {'truerun trace':>18} {'most innocent':>14} {'plain bisect':>14} {'Fano':>6} {'s':>6}"
    )
    for n in SIZES:
        for kind in ("one", "each", "together"):
            for p, distance in DISTANCE.items():
                sd = 0.0 if p == 1.0 else DROP / distance
                begun = time.perf_counter()
                ours = [trace(n, kind, sd, seed) for seed in range(trials)]
                seconds = (time.perf_counter() - begun) / trials
                plain = [bisect(n, sd, seed) for seed in range(200)] if kind == "one" else []
                limit = fano(n if kind == "one" else n * (n - 1) / 2, distance)
                print(f"{n:>4} {kind:>9} {p:>5.2f}  {cells(ours, plain)} {limit:>6.1f} {seconds:>6.2f}", flush=True)


def cells(ours: list[tuple[int, bool, float]], plain: list[tuple[int, bool]]) -> str:
    runs = [item[0] for item in ours]
    right = statistics.fmean(item[1] for item in ours)
    innocent = max(item[2] for item in ours)
    cell = f"{statistics.median(runs):.0f}/{np.percentile(runs, 95):.0f} ({right:.0%})"
    other = f"{statistics.median(r for r, _ in plain):.0f} ({statistics.fmean(ok for _, ok in plain):.0%})" if plain else "-"
    return f"{cell:>18} {innocent:>14.3f} {other:>14}"


if __name__ == "__main__":
    main()
