"""A small project in a folder, with a key of its own, on which tests act as people do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from truerun.adapters.keys import create_key
from truerun.apps.beginning import begin, first_owner
from truerun.apps.locking import Recorded, record_lock, resolve
from truerun.apps.project import Project, open_project

DECLARATION = """\
[project]
name = "small"
command = "python train.py"

[data.train]
path = "data/train.csv"
label = "label"
contributor = "added_by"

[config]
files = ["config.yaml"]
protected = ["optimizer.*"]

[environment]
packages = "none"
"""
CONFIG = "optimizer:\n  lr: 0.003\nseed: 1\n"
CODE = 'import os\nscale = os.environ.get("LR_SCALE")\ntoken = os.environ["HF_TOKEN"]\n'
ROWS = ["x,label,added_by", "1,cat,ana", "2,dog,bo", "3,cat,ana", "4,dog,bo"]


class Small:
    """A project: `write` edits a file, `lock` proposes, `project` opens it anew as a command would."""

    def __init__(self, root: Path, key: Path) -> None:
        self.root = root
        self.key = key
        self.write("truerun.toml", DECLARATION)
        self.write("config.yaml", CONFIG)
        self.write("train.py", CODE)
        self.rows(*ROWS)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def rows(self, *lines: str) -> None:
        self.write("data/train.csv", "\n".join(lines) + "\n")

    @property
    def project(self) -> Project:
        return open_project(str(self.root / "truerun.toml"))

    def begin(self) -> Small:
        signer = create_key(self.key)
        begin(self.root, None, signer, first_owner(self.root, signer.public_key, "ana", "Ana (made up)"))
        return self

    def lock(self, note: str = "") -> Recorded:
        project = self.project
        return record_lock(project, resolve(project, {"PATH": os.environ["PATH"]}), project.signer(self.key), note)

    def titles(self, note: str = "") -> list[str]:
        return [change.title() for change in self.lock(note).changes]


@pytest.fixture
def bare(tmp_path: Path) -> Small:
    """The files of a project, without a ledger."""
    (tmp_path / "project").mkdir()
    return Small(tmp_path / "project", tmp_path / "key")


@pytest.fixture
def small(bare: Small) -> Small:
    """A project with a ledger whose owner is ana."""
    return bare.begin()
