"""What every test may rely on: no settings of the person who runs them, one thread a process, a shared cache of digests."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Iterator

import hypothesis
import pytest

# A loaded machine is slow, not wrong: how long one example takes is no property of the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

ROOT = pathlib.Path(__file__).parent.parent

for name in [name for name in os.environ if name.startswith("TRUERUN_") and name != "TRUERUN_REQUIRE_BROWSER"]:
    del os.environ[name]
os.environ.pop("SSH_AUTH_SOCK", None)
os.environ["NO_COLOR"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
# Digests of the virtual environment's 20,000 files are computed once and shared by all tests; the cache is keyed by
# size, inode, mtime and ctime, so a stale entry cannot be taken for a fresh one.
os.environ["TRUERUN_CACHE"] = str(ROOT / ".pytest_cache" / "truerun")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty home folder, so that no key of the person who runs the tests is ever found."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """A test that compiles something does not make the programs of later tests compiled ones."""
    yield
    compiler = sys.modules.get("torch._dynamo.utils")
    if compiler is not None:
        compiler.counters.clear()
