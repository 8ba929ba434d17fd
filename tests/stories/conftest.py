"""One base project a session; every story gets a fresh copy of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where stories are performed in this session."""
    return tmp_path_factory.mktemp("stories")
