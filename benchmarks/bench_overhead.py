"""What watching costs: processor time of training with the probe over without, in interleaved blocks of one process.

Prints for an MLP and a small transformer: the ratio of the medians, a rough interval from the blocks, the agent's own time,
and what was looked at for it. The physical limit is 1.00. Blocks alternate so that a busy machine disturbs both sides alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

BLOCKS = 12


def build(kind: str):
    """(loss function, parameters) of one step on made-up data."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if kind == "mlp":
        model = nn.Sequential(nn.Linear(784, 800), nn.ReLU(), nn.Linear(800, 400), nn.ReLU(), nn.Linear(400, 10))
        return lambda: nn.functional.cross_entropy(model(torch.randn(128, 784)), torch.randint(0, 10, (128,))), model
    layer = nn.TransformerEncoderLayer(192, 6, 768, dropout=0.0, batch_first=True)
    model = nn.ModuleList([nn.Embedding(512, 192), nn.TransformerEncoder(layer, 4), nn.Linear(192, 512)])

    def loss():
        tokens = torch.randint(0, 512, (8, 65))
        logits = model[2](model[1](model[0](tokens[:, :-1])))
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return loss, model


def worker(kind: str, seconds: float) -> None:
    """Train in blocks with and without the probe; print the processor seconds a step of each block."""
    import torch

    from truerun.adapters.pytorch.probe import current

    probe = current()
    loss, model = build(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def steps(count: int) -> float:
        begun = time.process_time()
        for _ in range(count):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        return (time.process_time() - begun) / count

    steps(8)
    probe.uninstall()
    count = max(5, int(seconds / (2 * BLOCKS) / steps(5)))
    found = {True: [], False: []}
    for _ in range(BLOCKS):
        for on in (False, True):
            (probe.install if on else probe.uninstall)()
            paused = time.perf_counter()
            found[on].append(steps(count))
            if not on:  # the time without the probe is not time that its budget may use
                probe.budget._started += time.perf_counter() - paused  # noqa: SLF001
                probe.budget._last = None  # noqa: SLF001
                for known in probe.watched.values():
                    known.held = None
    print(json.dumps({"with": found[True], "without": found[False], "steps": count}))


def measure(kind: str, seconds: float, every: int | None) -> None:
    from truerun.apps.agent import WatchRequest, watch
    from truerun.core.declaration import MonitoringSection

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        command = (sys.executable, str(Path(__file__).resolve()), "--worker", kind, "--seconds", str(seconds))
        begun = time.process_time()
        outcome = watch(
            WatchRequest(
                command=command,
                cwd=Path(folder),
                folder=Path(folder) / "run",
                output=output,
                monitoring=MonitoringSection(every=every),
            )
        )
        agent = time.process_time() - begun
        lines = output.read_text().splitlines()
    if outcome.exit_code:
        raise SystemExit("\n".join(lines[-10:]))
    said = json.loads(lines[-1])
    bare, ours = statistics.median(said["without"]), statistics.median(said["with"])
    ratios = sorted(a / b for a, b in zip(said["with"], said["without"], strict=True))
    trained = bare * said["steps"] * BLOCKS
    looks = outcome.sampling
    print(
        f"{kind:<12} {looks['parameters'] / 1e6:5.2f} M parameters  step {1000 * bare:7.2f} ms  "
        f"with the probe x{ours / bare:.3f} (blocks {ratios[2]:.3f} to {ratios[-3]:.3f})  agent +{agent / trained:.3f}  "
        f"full checks {looks['samples']} of {looks['steps']} at {looks['coordinates']} coordinates"
        f"  {'every step' if every == 1 else 'budget 2 %'}  findings {len(outcome.findings)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=("mlp", "transformer"))
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.seconds)
        return
    for kind in ("mlp", "transformer"):
        for every in (None, 1):
            measure(kind, options.seconds, every)


if __name__ == "__main__":
    main()
