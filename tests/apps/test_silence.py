"""The probe silenced in a real process, in the ways that R13 lists; the accept twin is any clean run of test_agent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from truerun.adapters.stacks import sampler
from truerun.apps.agent import WatchOutcome, WatchRequest, watch

TRAIN = """
import os, sys, time, torch
import truerun.adapters.pytorch.probe as inside
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
x, y = torch.randn(64, 256), torch.randint(0, 3, (64,))
step = 0
while step <= 40 or time.process_time() - begun < SECONDS:
    loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    step += 1
    if step == 40:
        begun = time.process_time()
        ATTACK
"""
CLEAR = "[getattr(sys.modules['torch.optim.optimizer'], f'_global_optimizer_{x}_hooks').clear() for x in (NAMES)]"
UNWRAP = "torch.autograd.backward = torch.autograd.backward.__wrapped__"
STEPPING = "the process goes on stepping"
ATTACKS = {
    "its backward put back": (UNWRAP, 0.0, "torch.autograd.backward was undone"),
    "one hook removed": (CLEAR.replace("NAMES", "'post',"), 0.0, "hooks were taken out"),
    "the line closed": ("os.close(inside.current().channel._socket.fileno())", 6.0, "line was closed"),
    "hooks and backward": (CLEAR.replace("NAMES", "'pre', 'post'") + "; " + UNWRAP, 10.0, STEPPING),
    "told to be off": ("inside.current().off = True", 10.0, STEPPING),
    "its object replaced": ("inside.current().channel.send = lambda *a, **k: None", 10.0, STEPPING),
}
QUICK = ("its backward put back", "the line closed")


def run(folder: Path, attack: str, seconds: float) -> WatchOutcome:
    (folder / "train.py").write_text(TRAIN.replace("SECONDS", str(seconds)).replace("ATTACK", attack))
    return watch(WatchRequest(command=(sys.executable, "train.py"), cwd=folder, folder=folder / "run", output=folder / "out"))


@pytest.mark.parametrize("attack", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ATTACKS])
def test_silenced_from_inside(tmp_path: Path, attack: str) -> None:
    """Ten seconds of processor time at most go by before a finding says how."""
    code, seconds, words = ATTACKS[attack]
    if words == STEPPING and sampler() is None:
        pytest.skip("py-spy is not installed")
    outcome = run(tmp_path, code, seconds)
    assert outcome.exit_code == 0, (tmp_path / "out").read_text()
    assert any(words in finding.message for finding in outcome.findings if finding.rule == "probe-silent"), outcome.findings


@pytest.mark.slow
def test_a_long_evaluation_is_no_silence(tmp_path: Path) -> None:
    """The accept twin: after step 40 the model is evaluated for ten seconds of processor time."""
    code = "\n        while time.process_time() - begun < 10: model(x)"
    assert run(tmp_path, code, 0.0).findings == ()
