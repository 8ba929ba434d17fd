"""The gradient sense end to end: a real process, the script unchanged."""

from __future__ import annotations

import sys
from pathlib import Path

from truerun.apps.agent import WatchRequest, watch
from truerun.core.declaration import MonitoringSection
from truerun.core.finding import Severity

TRAIN = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 3))
optimizer = torch.optim.AdamW(model.parameters())
{attack}
for step in range(1, 31):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))
    optimizer.zero_grad(); loss.backward(); optimizer.step()
print(loss.item().hex(), torch.rand(1).item())
"""


def test_a_hook_in_a_real_process(tmp_path: Path) -> None:
    """A gradient turned round by a hook is seen within the first steps; the twin without it has no findings, and says what was learned."""
    found = {}
    for name, attack in {"attack": "model[3].weight.register_hook(lambda gradient: -gradient)", "twin": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.py").write_text(TRAIN.format(attack=attack))
        request = WatchRequest(
            monitoring=MonitoringSection(every=1),
            command=(sys.executable, "train.py"),
            cwd=tmp_path / name,
            folder=tmp_path / name / "run",
            output=tmp_path / f"{name}.txt",
        )
        found[name] = watch(request)
    attacked = [f for f in found["attack"].findings if f.rule == "gradient-mismatch"]
    assert [(f.severity, f.subject.key) for f in attacked] == [(Severity.WARNING, "3.weight")]
    assert "train.py:6" in attacked[0].message
    assert attacked[0].location.step == 2
    assert found["twin"].findings == ()
    learned = found["twin"].effective["learned"]["gradient"]
    assert learned["looks"] >= 1
    assert learned["losses"][0][0][0] == "cross_entropy"
