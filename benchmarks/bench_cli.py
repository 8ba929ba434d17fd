"""CPU seconds of `truerun --help`, beside an empty interpreter and one that imports click alone: the limits it cannot beat."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median

TARGET_SECONDS = 0.15
RUNS = 15


def cpu_seconds(*code: str) -> float:
    """User and system seconds of one interpreter that runs *code*, children aside."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", *code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    cases = {
        "truerun --help": ("from truerun.apps.cli.main import main; main()", "--help"),
        "import click": ("import click",),
        "empty interpreter": ("pass",),
    }
    seconds = {name: median(cpu_seconds(*code) for _ in range(RUNS)) for name, code in cases.items()}
    for name, value in seconds.items():
        print(f"{name:20} {value:.3f} s CPU, median of {RUNS}; {value / seconds['empty interpreter']:.2f} x an empty interpreter")
    met = seconds["truerun --help"] < TARGET_SECONDS
    print(f"target {TARGET_SECONDS} s: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
