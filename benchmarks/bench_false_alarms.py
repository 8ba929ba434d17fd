"""False alarms over clean training: every program of `tests/programs`, several seeds, each run compared with those before it.

Prints for each rule how often it spoke, at which level, and the bound that silence gives: with no alarm in N steps the rate is
below 3/N a step with 95 % confidence (the rule of three, Hanley and Lippman-Hand 1983), taking steps as the trials they are not
quite. Exit code 1 when anything was found at error level.

    python benchmarks/bench_false_alarms.py                 # 100,000 steps by default settings
    python benchmarks/bench_false_alarms.py --every 1       # every step looked at in full
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.programs.catalogue import PROGRAMS, watched

import truerun.monitoring
from truerun.monitoring.reference import Reference

RUNS = 4


@dataclass
class Clean:
    """What watching one program came to: its steps, findings by (rule, severity), what the first of each said."""

    name: str
    steps: int = 0
    seconds: float = 0.0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    said: dict[tuple[str, str], str] = field(default_factory=dict)
    trouble: str = ""


def follow(name: str, steps: int, runs: int, every: int | None) -> Clean:
    """Run program *name* with *runs* seeds; each run is compared with what the ones before it learned."""
    found, begun = Clean(name), time.monotonic()
    learned: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(runs):
            reference = Reference(learned=learned, learned_from=f"run {seed - 1}", same_program=bool(seed), same_lock=bool(seed))
            request = {"reference": reference, "env": {"SEED": str(seed)}, "monitoring": {"every": every}}
            try:
                for outcome, _ in watched(name, steps, Path(folder) / str(seed), **request):
                    found.steps += outcome.steps
                    for finding in outcome.findings:
                        key = finding.rule, finding.severity.value
                        found.findings[key] += 1
                        found.said.setdefault(key, finding.message)
                    learned = json.loads(json.dumps(outcome.effective.get("learned", {})))
            except Exception as error:  # one program that cannot run here must not hide the others
                found.trouble = f"{type(error).__name__}: {error}"[-300:]
                break
    found.seconds = time.monotonic() - begun
    return found


def rules() -> list[str]:
    """Every rule of `monitoring`."""
    modules = pkgutil.iter_modules(truerun.monitoring.__path__, "truerun.monitoring.")
    found = (getattr(importlib.import_module(module.name), "RULE", None) for module in modules)
    return sorted(rule.id for rule in found if rule is not None)


def show(clean: list[Clean]) -> bool:
    """The tables; whether nothing was found at error level."""
    total = sum(item.steps for item in clean)
    watched_runs = sum(1 for item in clean if item.steps)
    print(f"\n{total:,} clean steps in {watched_runs} programs")
    everything: Counter[tuple[str, str]] = Counter()
    for item in clean:
        everything.update(item.findings)
    severities = ("critical", "error", "warning", "note")
    print(f"{'rule':<28}" + "".join(f"{severity:>10}" for severity in severities) + "   errors a step, 95 % bound")
    for rule in sorted({*rules(), *(rule for rule, _ in everything)}):
        counts = [everything[rule, severity] for severity in severities]
        errors = counts[0] + counts[1]
        bound = f"below {3 / total:.1e}" if not errors else f"{errors} in {total:,}"
        print(f"{rule:<28}" + "".join(f"{count or '-':>10}" for count in counts) + f"   {bound}")
    for item in clean:
        for (rule, severity), message in item.said.items():
            if severity != "note":
                print(f"  {item.name}: {severity} {rule} x{item.findings[rule, severity]}: {message[:300]}")
        if item.trouble:
            print(f"  {item.name}: did not run: {item.trouble}")
    return not any(everything[key] for key in everything if key[1] in ("critical", "error"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="clean steps in all")
    parser.add_argument("--runs", type=int, default=RUNS, help="seeds of each program")
    parser.add_argument("--every", type=int, help="distance between full checks; default: what the budget affords")
    parser.add_argument("--workers", type=int, default=2, help="programs at a time")
    parser.add_argument("programs", nargs="*", help="only these")
    options = parser.parse_args()
    names = options.programs or list(PROGRAMS)
    part = options.steps / options.runs / sum(PROGRAMS[name].share for name in names if name != "by_hand")
    clean = []
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [pool.submit(follow, name, int(part * PROGRAMS[name].share) + 2, options.runs, options.every) for name in names]
        for job in as_completed(jobs):
            item = job.result()
            clean.append(item)
            spoke = ", ".join(f"{rule} ({severity}) x{n}" for (rule, severity), n in item.findings.items())
            print(
                f"{item.name:<18} {item.steps:>7} steps {item.seconds:>6.0f} s  {spoke or item.trouble or 'nothing found'}",
                flush=True,
            )
    return 0 if show(clean) else 1


if __name__ == "__main__":
    raise SystemExit(main())
