"""The tutorial is performed as it is written: its files, its commands, and the outcomes it tells of."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from truerun.adapters.keys import create_key

PAGE = Path(__file__).parent.parent / "docs" / "tutorial" / "first-run.md"
FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line[2:] for block in CONSOLE.findall(PAGE.read_text()) for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
@pytest.mark.torch
def test_the_tutorial_does_what_it_says(tmp_path):
    """Every command in order, in a new folder; Ben's approval with his key; the runs end as told."""
    for name in ("ana", "ben"):
        create_key(tmp_path / name, name)
    folder = tmp_path / "houses"
    folder.mkdir()
    for name, text in FILE.findall(PAGE.read_text()):
        (folder / name).write_text(text)
    (folder / "ben.pub").write_bytes((tmp_path / "ben.pub").read_bytes())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    codes = {}
    for command in commands():
        key = tmp_path / ("ben" if command.startswith("truerun approve") else "ana")
        line = command + (" --yes" if command.startswith(("truerun init", "truerun approve")) else "")
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env={**environment, "TRUERUN_KEY": str(key)},
            capture_output=True,
            text=True,
            check=False,
        )
        codes[command] = done.returncode
        expected = {"thursday -- ": 4, "trace tuesday": 1}
        wanted = next((code for part, code in expected.items() if part in command), 0)
        assert done.returncode == wanted, f"{command}\n{done.stdout}\n{done.stderr}"
    listed = subprocess.run(
        ["truerun", "runs", "--format", "json"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert "thursday" in json.dumps(json.loads(listed.stdout))
    assert "lr: 0.01\n" in (folder / "config.yaml").read_text()
    assert (folder / "report.html").stat().st_size > 10_000
