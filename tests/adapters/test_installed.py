"""Installed files against RECORD: what differs is found, what does not is not read again."""

from __future__ import annotations

import base64
import hashlib
import os

import pytest

from truerun.adapters import installed
from truerun.adapters.installed import covered_startup, inspect_installed
from truerun.adapters.packages import Distribution
from truerun.adapters.statcache import StatCache

FILES = {
    "kit/__init__.py": b"",
    "kit/step.py": b"def step(x):\n    return x\n",
    "kit.pth": b"import kit\n",
    "kit/data.bin": b"\0",
}


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUERUN_CACHE", str(tmp_path / "cache"))
    return StatCache()


@pytest.fixture
def kit(tmp_path):
    """A made-up distribution, installed an hour ago."""
    site = tmp_path / "site"
    info = site / "kit-1.0.dist-info"
    info.mkdir(parents=True)
    lines = []
    for name, data in FILES.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_bytes(data)
        lines.append(record_line(name, data))
    (info / "RECORD").write_text("\n".join([*lines, "kit-1.0.dist-info/RECORD,,", "kit/__pycache__/step.pyc,,"]) + "\n")
    return Distribution(name="kit", version="1.0", location=site, metadata=info)


def test_an_untouched_distribution_has_nothing_modified(kit, cache):
    result = inspect_installed([kit], {"kit"}, cache)
    assert (result.modified, result.compared) == ((), 4)
    assert set(result.covered) == {str(kit.location / "kit.pth")}
    assert covered_startup([kit]) == result.covered


def test_an_edit_is_found_with_its_line_even_with_size_and_mtime_restored(kit, cache):
    """E1: one character changed, size and modification time as before; an earlier inspection knows the original."""
    inspect_installed([kit], {"kit"}, cache)
    path = kit.location / "kit/step.py"
    before = path.stat()
    path.write_bytes(FILES["kit/step.py"].replace(b"return x", b"return 0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (found,) = inspect_installed([kit], {"kit"}, cache).modified
    assert (found.path, found.line, found.version) == ("kit/step.py", 2, "1.0")
    assert found.observed is not None


def test_without_an_earlier_inspection_the_file_is_named_without_a_line(kit, cache):
    (kit.location / "kit/step.py").write_bytes(b"changed")
    (found,) = inspect_installed([kit], {"kit"}, cache).modified
    assert (found.path, found.line) == ("kit/step.py", None)


def test_a_kept_original_that_was_edited_too_is_not_used(kit, cache):
    """The copy has to have the recorded hash."""
    inspect_installed([kit], {"kit"}, cache)
    for archive in (cache._file.parent / "originals").iterdir():
        archive.write_bytes(b"PK\x05\x06" + bytes(18))
    (kit.location / "kit/step.py").write_bytes(b"changed")
    (found,) = inspect_installed([kit], {"kit"}, cache).modified
    assert found.line is None


def test_a_second_look_reads_nothing(kit, cache, monkeypatch):
    """What has not changed is answered from the cache, but for a random share."""
    monkeypatch.setattr(installed, "SETTLED_NS", -1)
    monkeypatch.setattr(installed, "_still_agree", lambda _files: True)
    inspect_installed([kit], {"kit"}, cache)
    monkeypatch.setattr(installed, "_compare", lambda file: pytest.fail(f"{file.path} was read again"))
    assert inspect_installed([kit], {"kit"}, cache).modified == ()


def test_missing_files_and_an_unreadable_record_are_reported(kit, cache):
    (kit.location / "kit/step.py").unlink()
    (found,) = inspect_installed([kit], {"kit"}, cache).modified
    assert found.observed is None
    (kit.metadata / "RECORD").write_bytes(b"\xff\xfe")
    (found,) = inspect_installed([kit], {"kit"}, cache).modified
    assert found.path == "kit-1.0.dist-info/RECORD"
    assert found.problem


def test_what_is_not_declared_is_not_compared_but_still_covers_its_startup_files(kit, cache):
    (kit.location / "kit/step.py").write_bytes(b"changed")
    result = inspect_installed([kit], set(), cache)
    assert (result.modified, result.compared) == ((), 0)
    assert result.covered
