"""The start-up hook: loads the probe when torch is imported, and changes nothing else in any Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import truerun
from truerun.apps.agent import PACKAGE_ROOT, STARTUP

BARE = getattr(sys, "_base_executable", sys.executable)


def python(
    folder: Path, code: str, *paths: Path, executable: str = sys.executable, **env: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (STARTUP, *paths)))
    variables = {"PYTHONPATH": path, "TRUERUN_SOURCE": str(PACKAGE_ROOT), "PATH": os.environ["PATH"], **env}
    return subprocess.run(
        [executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("socket", [{}, {"TRUERUN_SOCKET": "/nowhere/probe"}])
def test_it_leaves_no_entry_and_no_module(tmp_path: Path, socket: dict[str, str]) -> None:
    """Its folder is off sys.path, and nothing of Truerun is imported before torch is."""
    code = f"import sys; print({str(STARTUP)!r} in sys.path, sorted(m for m in sys.modules if m.startswith('truerun')))"
    done = python(tmp_path, code, **socket)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False []\n", "")


def test_another_sitecustomize_still_runs(tmp_path: Path) -> None:
    """One that was there before runs as it did, under its own name; its errors are its own."""
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.before = __file__\n")
    done = python(tmp_path, "import sys; print(before, sys.modules['sitecustomize'].__file__)", tmp_path)
    assert done.stdout == f"{tmp_path}/sitecustomize.py {tmp_path}/sitecustomize.py\n"
    (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('mine')\n")
    assert "mine" in python(tmp_path, "print('on')", tmp_path, PYTHONVERBOSE="").stderr


def test_an_interpreter_without_truerun(tmp_path: Path) -> None:
    """There `truerun` alone is found in the given source, and no other package that lies beside it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "truerun").symlink_to(Path(truerun.__file__).parent)
    (tmp_path / "source" / "other.py").write_text("")
    code = "import importlib.util as u, truerun; truerun.log(x=1); print(truerun.__version__, u.find_spec('other'))"
    done = python(tmp_path, code, executable=BARE, TRUERUN_SOCKET="/nowhere/probe", TRUERUN_SOURCE=str(tmp_path / "source"))
    assert done.stdout == f"{truerun.__version__} None\n", done.stderr


def test_a_torch_that_is_not_as_expected(tmp_path: Path) -> None:
    """A broken or foreign torch imports as it would without the probe, with the same error if it has one."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("x = 1\n")
    code = "import torch; print(torch.x, type(torch.__loader__).__name__, type(torch.__spec__.loader).__name__)"
    done = python(tmp_path, code, executable=BARE, TRUERUN_SOCKET="/nowhere/probe")
    assert (done.stdout, done.stderr) == ("1 SourceFileLoader SourceFileLoader\n", "")
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('no such library')\n")
    done = python(tmp_path, "import torch", executable=BARE, TRUERUN_SOCKET="/nowhere/probe")
    assert done.returncode == 1
    assert "no such library" in done.stderr


def test_nobody_listens(tmp_path: Path) -> None:
    """Variables left over from a run that is over: torch trains as always, metrics go nowhere."""
    code = (
        "import torch, truerun; p = torch.nn.Parameter(torch.ones(2)); o = torch.optim.SGD([p], lr=0.5)\n"
        "p.sum().backward(); o.step(); truerun.log(loss=1.0); print(p.tolist())"
    )
    done = python(tmp_path, code, TRUERUN_SOCKET=str(tmp_path / "gone"))
    assert (done.stdout, done.stderr) == ("[0.5, 0.5]\n", "")
