"""E3: what Python would meet at start-up, found without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from truerun.adapters import startup
from truerun.adapters.packages import Interpreter
from truerun.adapters.startup import read_startup


@pytest.fixture
def python(tmp_path):
    """An interpreter whose site-packages holds one package."""
    site = tmp_path / "lib/python3.11/site-packages"
    (site / "yaml").mkdir(parents=True)
    (site / "yaml/__init__.py").touch()
    return Interpreter(path=tmp_path / "bin/python", version="3.11.7", site_packages=(site,))


def test_a_clean_interpreter_meets_nothing(python, tmp_path):
    found = read_startup(python, {}, {}, tmp_path)
    assert (found.unrecorded, found.shadows, found.startup) == ((), (), None)


def test_pth_files_and_custom_modules_are_found_also_through_added_folders(python, tmp_path):
    """A path-only .pth adds a folder with a usercustomize in it."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "usercustomize.py").write_text("x = 1\n")
    site = python.site_packages[0]
    (site / "ours.pth").write_text(f"{own}\n")
    (site / "zz.pth").write_text("import os\n")
    (site / "sitecustomize").mkdir()
    (site / "sitecustomize/__init__.py").touch()
    found = read_startup(python, {}, {}, tmp_path)
    assert {file.name for file in found.unrecorded} == {"zz.pth", "usercustomize.py", "sitecustomize/__init__.py"}


def test_pythonpath_that_shadows_the_library_or_a_package(python, tmp_path):
    own = tmp_path / "own"
    (own / "yaml").mkdir(parents=True)
    (own / "yaml/__init__.py").touch()
    (own / "random.py").touch()
    (own / "plots.py").touch()
    found = read_startup(python, {"PYTHONPATH": f"{own}"}, {}, tmp_path)
    assert {module for _, module in found.shadows} == {"yaml", "random"}


def test_our_own_probe_and_relative_folders_are_understood(python, tmp_path):
    """Accept twins: the probe's folder on PYTHONPATH, and a folder of the project."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/model.py").touch()
    entries = f"{Path(startup.__file__).parent / 'pytorch' / 'startup'}:src:missing"
    found = read_startup(python, {"PYTHONPATH": entries}, {}, tmp_path)
    assert (found.unrecorded, found.shadows) == ((), ())


def test_a_huge_pth_counts_as_code(python, tmp_path):
    (python.site_packages[0] / "big.pth").write_bytes(b"#" * (startup.MAX_PATH_FILE_BYTES + 1))
    assert [file.name for file in read_startup(python, {}, {}, tmp_path).unrecorded] == ["big.pth"]
