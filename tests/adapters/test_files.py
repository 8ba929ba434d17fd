"""Hashing tells bytes, never timestamps; finding stays inside the project and says what it did not follow."""

import os

import pytest
from blake3 import blake3

from truerun.adapters.files import StatCache, find_files, hash_file, read_bounded
from truerun.core.errors import InputError


@pytest.fixture
def project(tmp_path):
    for name in ("train.py", "lib/model.py", ".venv/x.py", "env/pyvenv.cfg", "env/y.py", "__pycache__/z.py", "lib/deep/a b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_the_hash_is_blake3(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert hash_file(tmp_path / "f").value == blake3(data).hexdigest()


def test_what_is_no_readable_file_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("absent", "No such file"), (".", "not a regular file"), ("pipe", "not a regular file")):
        with pytest.raises(InputError, match=reason):
            hash_file(tmp_path / name)


def test_an_edit_with_its_old_mtime_restored_is_seen(tmp_path):
    """D8: size and mtime are as before, but ctime is not, so the cache does not answer."""
    path = tmp_path / "shard"
    path.write_bytes(b"good rows")
    os.utime(path, ns=(1, 1))
    cache = StatCache(tmp_path / "cache", recheck_share=0)
    cache.put(os.path.abspath(path), os.stat(path), "blake3", hash_file(path).render())
    path.write_bytes(b"evil rows")
    os.utime(path, ns=(1, 1))
    assert hash_file(path, cache).value == blake3(b"evil rows").hexdigest()


def test_only_the_projects_own_files_are_found(project):
    assert find_files(project, ["**/*.py"]) == (["lib/deep/a b.py", "lib/model.py", "train.py"], [])
    assert find_files(project, ["*.py"])[0] == ["train.py"]
    assert find_files(project, ["lib/*.py", "./train.py"])[0] == ["lib/model.py", "train.py"]
    assert find_files(project, ["lib/**"])[0] == ["lib/deep/a b.py", "lib/model.py"]
    assert find_files(project, ["tr?in.py", "[a].py"])[0] == ["train.py"]


def test_only_folders_that_can_match_are_searched(project, monkeypatch):
    """A million images below data/ cost nothing to a pattern that cannot match there."""
    (project / "data").mkdir()
    for number in range(50):
        (project / "data" / f"{number}.png").write_text("")
    monkeypatch.setattr("truerun.adapters.files.MAX_ENTRIES", 20)
    assert find_files(project, ["*.py", "lib/**/*.py", "l?b/m*.py"])[0] == ["lib/deep/a b.py", "lib/model.py", "train.py"]
    with pytest.raises(InputError, match="more than 20"):
        find_files(project, ["**/*.py"])


def test_links_are_resolved_and_said(project, tmp_path_factory):
    """P6: a link that leaves the project is locked by the bytes it leads to, and the reader is told."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "a.py").write_text("x")
    (project / "link.py").symlink_to(outside / "a.py")
    (project / "inside.py").symlink_to(project / "train.py")
    (project / "folder").symlink_to(outside)
    (project / "broken.py").symlink_to(outside / "absent")
    found, notes = find_files(project, ["**/*.py"])
    found = [name for name in found if "/" not in name]
    assert found == ["inside.py", "link.py", "train.py"]
    assert [note.split(" ")[0] for note in notes] == ["folder", "link.py"]
    assert "outside the project" in notes[1]


@pytest.mark.parametrize("pattern", ["../*.py", "/etc/*", "a/../../b"])
def test_patterns_stay_inside(project, pattern):
    with pytest.raises(InputError, match="leaves the project"):
        find_files(project, [pattern])


def test_too_many_files_are_refused(project, monkeypatch):
    monkeypatch.setattr("truerun.adapters.files.MAX_ENTRIES", 3)
    with pytest.raises(InputError, match="more than 3 files"):
        find_files(project, ["**/*.py"])


def test_reading_is_bounded(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert read_bounded(tmp_path / "f", 5) == b"12345"
    with pytest.raises(InputError, match="too large"):
        read_bounded(tmp_path / "f", 4)
    with pytest.raises(InputError, match="No such file"):
        read_bounded(tmp_path / "g", 4)


def test_a_file_name_that_is_no_text_is_said(project):
    """P11: a name with control characters or bytes that are not UTF-8 never reaches a lock, a terminal or a report."""
    (project / b"bad\xff.py".decode("utf-8", "surrogateescape")).write_text("")
    with pytest.raises(InputError, match="cannot be written down"):
        find_files(project, ["*.py"])
