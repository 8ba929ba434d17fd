"""Training programs of many kinds, none written for Truerun, and how each is run alone and watched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from truerun.apps.agent import WatchOutcome, WatchRequest, watch
from truerun.core.declaration import MonitoringSection

FOLDER = Path(__file__).parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SAID = re.compile(r"(-?0x|-?inf|nan|weights|generators|right|averaged|eval|scale)")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """
    One script: how it is launched, how often in a row, with which declared monitoring.

    `cheap` ones are run in every test run; `share` is how many of a benchmark's steps it gets, in parts of one.
    """

    launcher: tuple[str, ...] = (sys.executable,)
    invocations: int = 1
    monitoring: dict[str, Any] = field(default_factory=dict)
    cheap: bool = False
    share: float = 1.0


PROGRAMS: dict[str, Program] = {
    "mlp": Program(),
    "cnn": Program(),
    "lstm": Program(),
    "transformer": Program(),
    "gan": Program(cheap=True),
    "wgan": Program(),
    "vae": Program(),
    "reinforce": Program(),
    "lbfgs": Program(),
    "by_hand": Program(),
    "embedding_bag": Program(),
    "accumulation": Program(),
    "amp": Program(),
    "compiled": Program(share=0.3),
    "resume": Program(invocations=2),
    "workers": Program(share=0.3),
    "ddp": Program(launcher=TORCHRUN, share=0.3),
    "groups": Program(),
    "average": Program(),
    "weight_clipping": Program(monitoring={"between_steps": "allowed"}),
    "adversarial": Program(),
    "momentum_encoder": Program(),
    "fine_tuning": Program(),
    "curriculum": Program(),
}


def command(name: str, steps: int, folder: Path) -> tuple[str, ...]:
    """The command line of *name*; the last word is where it may keep a checkpoint."""
    return (*PROGRAMS[name].launcher, str(FOLDER / f"{name}.py"), str(steps), str(folder / "checkpoint.pt"))


def alone(name: str, steps: int, folder: Path) -> list[list[str]]:
    """What *name* says without Truerun, one list of lines for each time it is invoked."""
    folder.mkdir(parents=True)
    words, env = command(name, steps, folder), {**os.environ, **ENVIRONMENT}
    return [
        _said(subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout)
        for _ in range(PROGRAMS[name].invocations)
    ]


def watched(name: str, steps: int, folder: Path, **request: Any) -> Iterator[tuple[WatchOutcome, list[str]]]:
    """The same under watch: what was seen, and what it said."""
    folder.mkdir(parents=True)
    monitoring = MonitoringSection(**PROGRAMS[name].monitoring | request.pop("monitoring", {}))
    env = {**ENVIRONMENT, **request.pop("env", {})}
    for number in range(PROGRAMS[name].invocations):
        output = folder / f"output{number}.txt"
        outcome = watch(
            WatchRequest(
                command=command(name, steps, folder),
                cwd=folder,
                folder=folder / f"run{number}",
                output=output,
                env=env,
                monitoring=monitoring,
                **request,
            )
        )
        text = output.read_text(errors="replace")
        assert outcome.exit_code == 0, text[-2000:]
        yield outcome, _said(text)


def _said(text: str) -> list[str]:
    return [line for line in text.splitlines() if SAID.match(line)]
