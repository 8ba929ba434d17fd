"""A virtual environment of a story's own, and small real distributions in it: files, METADATA and RECORD (PEP 376, PEP 427).

The environment sees everything the surrounding one has, by a path-only `.pth` file; what a story edits is in its own folder.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import sysconfig
import venv
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

import truerun

BATCHES = '''"""Which rows make a batch."""

from collections.abc import Iterator

import torch


def shuffled(rows: int, size: int, steps: int) -> Iterator[torch.Tensor]:
    """Rows of *steps* batches; every row once before any twice."""
    order = torch.randperm(rows)
    at = 0
    for _ in range(steps):
        if at + size > rows:
            order, at = torch.randperm(rows), 0
        yield order[at : at + size]
        at += size
'''
DIGITKIT = {"digitkit/__init__.py": '"""Loading of handwritten digits."""\n', "digitkit/batches.py": BATCHES}


def create_environment(folder: Path) -> Path:
    """Make a virtual environment in *folder*, with `digitkit` installed; return its site-packages."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site = site_packages(folder)
    source = Path(truerun.__file__).parent.parent
    (site / "surrounding.pth").write_text(f"{sysconfig.get_path('purelib')}\n{source}\n")
    install(site, "digitkit", "1.0.0", DIGITKIT)
    return site


def site_packages(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def install(site: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    """Install a distribution, in place of an older version of it, as an installer would."""
    for old in site.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    shutil.rmtree(site / name, ignore_errors=True)
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: made up for an attack story\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: attacks\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/INSTALLER": "attacks\n",
    }
    for path, text in contents.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    write_record(site, info, list(contents))


def write_record(site: Path, info: str, paths: list[str]) -> None:
    """Write RECORD for *paths* as they are now."""
    lines = [f"{path},sha256={record_hash((site / path).read_bytes())},{(site / path).stat().st_size}" for path in paths]
    (site / info / "RECORD").write_text("\n".join([*lines, f"{info}/RECORD,,"]) + "\n")


def record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def copy_distribution(site: Path, name: str) -> str:
    """Copy an installed distribution into *site* with its own RECORD, so that it can be edited there; return its version."""
    original = distribution(name)
    for file in original.files or ():
        source = Path(str(original.locate_file(file)))
        if file.parts[0] == ".." or "__pycache__" in file.parts or not source.is_file():
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    return original.version
