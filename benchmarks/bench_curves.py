"""How soon a slow degradation of the loss is told, and how often a healthy curve is, beside peers on the same curves.

Simulated: a falling loss of 4000 steps with noise of 3 % a step of five kinds; from step 2001 on it is 1, 2 or 5 % worse, or
gets worse by 5 % over 1000 steps. Every method has six healthy curves. Real: the losses of `tests/programs`, twelve seeds each,
three or six of them healthy ones, the others judged; 5, 10, 20 or 50 % is put on top of them from half way on.

Peers, by their usual settings: a rolling z-score on the raw loss (window 100, 4 deviations); an EWMA chart (weight 0.1,
4 deviations), a two-sided CUSUM (k 0.25, h 8) and ADWIN (river, delta 0.002) on block residuals in units of their healthy
spread; PELT (ruptures, l2, penalty 3 log n) on the same, which has its answer only when the run is over.

    pip install river ruptures; python benchmarks/bench_curves.py [--real]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import math
import os
import runpy
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from truerun.monitoring.block_means import BlockMeans, Curve
from truerun.monitoring.change_evidence import ChangeEvidence
from truerun.monitoring.curve_drift import Told, check_level
from truerun.monitoring.healthy_curves import HealthyModel, fit

STEPS, ONSET = 4000, 2000
TREND = np.log(2.3 * np.arange(1, STEPS + 1) ** -0.3 + 0.2)
KINDS = ("normal", "heavy", "correlated", "growing", "skewed")
PROGRAMS = Path(__file__).resolve().parents[1] / "tests" / "programs"
REAL = ("mlp", "cnn", "lstm", "transformer", "vae", "momentum_encoder")
DEGRADED: tuple[float | str, ...] = (0.01, 0.02, 0.05, "ramp")
DEGRADED_REAL: tuple[float | str, ...] = (0.05, 0.1, 0.2, 0.5)
Told_at = tuple[int, int] | None
TOLD = Told(name="loss", rank=0, source="", same_lock=True)


def simulated(random: np.random.Generator, kind: str, noise: float = 0.03) -> np.ndarray:
    """The logarithm of a healthy loss; `heavy` is Student's t with three degrees, `correlated` an AR(1) with 0.9."""
    drawn = random.standard_normal(STEPS)
    if kind == "heavy":
        drawn = random.standard_t(3, STEPS) / math.sqrt(3)
    if kind == "correlated":
        for i in range(1, STEPS):
            drawn[i] = 0.9 * drawn[i - 1] + math.sqrt(0.19) * drawn[i]
    if kind == "growing":
        drawn *= np.linspace(0.3, 2, STEPS)
    if kind == "skewed":
        drawn = random.exponential(1, STEPS) - 1
    return TREND + noise * drawn + 0.1 * noise * random.standard_normal()


def worse(values: np.ndarray, by: float | str) -> np.ndarray:
    """*values* degraded from half way on."""
    found, half = values.copy(), len(values) // 2
    found[half:] += np.minimum(np.arange(len(values) - half) / 1000, 1) * 0.05 if by == "ramp" else math.log1p(float(by))
    return found


def curve(values: np.ndarray) -> Curve:
    """As the agent keeps it."""
    blocks = BlockMeans(most=128, logarithmic=True)
    for place, value in enumerate(np.exp(values), start=1):
        blocks.add(place, float(value))
    return blocks.curve(len(values))


# Methods: (model of the healthy curves, logarithms of the loss) → (step at which it is told, onset) or None.


def truerun(model: HealthyModel, values: np.ndarray) -> Told_at:
    evidence, means = ChangeEvidence(model), _blocks(model, values)
    for block, mean in enumerate(means):
        change = evidence.take(float(mean))
        if change is not None:
            return (block + 1) * model.size, change.block * model.size
        if check_level(model, means[: block + 1], 0, TOLD):
            return (block + 1) * model.size, 0
    return None


def z_score(model: HealthyModel, values: np.ndarray) -> Told_at:
    raw = np.exp(values)
    windows = np.lib.stride_tricks.sliding_window_view(raw, 100)[:-1]
    distance = np.abs(raw[100:] - windows.mean(axis=1)) / windows.std(axis=1)
    far = np.flatnonzero(distance > 4)
    return (int(far[0]) + 101, int(far[0]) + 100) if len(far) else None


def ewma(model: HealthyModel, values: np.ndarray) -> Told_at:
    level, limit = 0.0, 4 * math.sqrt(0.1 / 1.9)
    for block, value in enumerate(_standard(model, values)):
        level += 0.1 * (value - level)
        if abs(level) > limit:
            return (block + 1) * model.size, block * model.size
    return None


def cusum(model: HealthyModel, values: np.ndarray) -> Told_at:
    sums, since = [0.0, 0.0], [0, 0]
    for block, value in enumerate(_standard(model, values)):
        for side, sign in enumerate((1, -1)):
            sums[side] += sign * value - 0.25
            if sums[side] <= 0:
                sums[side], since[side] = 0.0, block + 1
            if sums[side] > 8:
                return (block + 1) * model.size, since[side] * model.size
    return None


def adwin(model: HealthyModel, values: np.ndarray) -> Told_at:
    from river.drift import ADWIN

    detector = ADWIN(delta=0.002, clock=1)
    for block, value in enumerate(_standard(model, values)):
        detector.update(float(value))
        if detector.drift_detected:
            return (block + 1) * model.size, (block + 1 - int(detector.width)) * model.size
    return None


def pelt(model: HealthyModel, values: np.ndarray) -> Told_at:
    import ruptures

    residuals = _standard(model, values)
    found = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(residuals).predict(pen=3 * math.log(len(residuals)))
    return (len(values), found[0] * model.size) if len(found) > 1 else None


METHODS: dict[str, Callable[[HealthyModel, np.ndarray], Told_at]] = {
    "truerun": truerun,
    "z-score": z_score,
    "EWMA": ewma,
    "CUSUM": cusum,
    "ADWIN": adwin,
    "PELT (offline)": pelt,
}


def methods() -> dict[str, Callable[[HealthyModel, np.ndarray], Told_at]]:
    """Those that are installed."""
    needs = {"ADWIN": "river", "PELT (offline)": "ruptures"}
    absent = {name for name, package in needs.items() if importlib.util.find_spec(package) is None}
    for name in sorted(absent):
        print(f"{name}: left out, {needs[name]} is not installed")
    return {name: method for name, method in METHODS.items() if name not in absent}


def _blocks(model: HealthyModel, values: np.ndarray) -> np.ndarray:
    count = min(len(model.trend), len(values) // model.size)
    return values[: count * model.size].reshape(count, model.size).mean(axis=1)


def _standard(model: HealthyModel, values: np.ndarray) -> np.ndarray:
    means = _blocks(model, values)
    spread = np.sqrt(np.mean((model.curves - model.trend) ** 2)) * math.sqrt((model.runs + 1) / (model.runs - 1))
    return (means - model.trend[: len(means)]) / spread


def compare(
    told_by: dict[str, Callable[..., Told_at]],
    trials: list[tuple[HealthyModel, list[np.ndarray]]],
    label: str,
    degradations: tuple[float | str, ...],
) -> None:
    """One line a method: healthy curves told of, and for each degradation the share told of after its onset, delay, onset's error."""
    for name, method in told_by.items():
        parts = []
        healthy = [method(model, values) is not None for model, curves in trials for values in curves]
        for by in degradations:
            told = [(method(model, worse(curves[0], by)), len(curves[0]) // 2) for model, curves in trials]
            right = [(found[0] - half, found[1] - half) for found, half in told if found is not None and found[0] > half]
            delay = f"{statistics.median(item[0] for item in right):5.0f}" if right else "    -"
            off = f"{statistics.median(item[1] for item in right):+6.0f}" if right else "     -"
            parts.append(f"{len(right) / len(told):5.0%} {delay} {off}")
        print(f"{label:<22}{name:<16}{sum(healthy):>4}/{len(healthy):<5}  " + "   ".join(parts), flush=True)


def heading(degradations: tuple[float | str, ...]) -> None:
    titles = [f"{by:.0%} worse" if isinstance(by, float) else "ramp to 5 %" for by in degradations]
    print(f"{'':<38}{'healthy':>10}  " + "   ".join(f"{title:>18}" for title in titles))
    print(f"{'curves':<22}{'method':<16}{'told of':>10}  " + "   ".join([" told delay  onset"] * len(titles)))


def losses(name: str, seed: int, steps: int) -> list[float]:
    """The losses of a program of `tests/programs`, run in this very process."""
    said = io.StringIO()
    os.environ["SEED"] = str(seed)
    sys.path.insert(0, str(PROGRAMS))
    sys.modules.pop("said", None)
    sys.argv = [name, str(steps)]
    with contextlib.redirect_stdout(said):
        runpy.run_path(str(PROGRAMS / f"{name}.py"), run_name="__main__")
    return [float.fromhex(line) for line in said.getvalue().splitlines() if line.startswith("0x")]


def real(name: str, steps: int, seeds: int, peers: dict[str, Callable[..., Told_at]]) -> None:
    words = [sys.executable, __file__, "--losses", name, "--steps", str(steps), "--seeds", str(seeds)]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    values = [np.log(np.array([float(word) for word in line.split()])) for line in text.splitlines()]
    curves = [curve(row) for row in values]
    random = np.random.default_rng(0)
    for runs in (3, 6):
        trials = []
        for _ in range(12):
            order = random.permutation(len(curves))
            model = fit([curves[i] for i in order[:runs]])
            if model is not None:
                trials.append((model, [values[i] for i in order[runs : runs + 3]]))
        compare(peers if runs == 6 else {"truerun": truerun}, trials, f"{name}, {runs} runs", DEGRADED_REAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--real", action="store_true", help="real training losses instead of simulated ones")
    parser.add_argument("--programs", nargs="*", default=list(REAL))
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--losses", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.losses:
        for seed in range(options.seeds):
            print(*losses(options.losses, seed, options.steps))
        return
    found = methods()
    heading(DEGRADED_REAL if options.real else DEGRADED)
    for name in options.programs if options.real else ():
        real(name, options.steps, options.seeds, found)
    for number, kind in enumerate(KINDS if not options.real else ()):
        random, trials = np.random.default_rng(number), []
        for _ in range(options.trials):
            model = fit([curve(simulated(random, kind)) for _ in range(6)])
            assert model is not None
            trials.append((model, [simulated(random, kind) for _ in range(3)]))
        compare(found, trials, kind, DEGRADED)


if __name__ == "__main__":
    main()
