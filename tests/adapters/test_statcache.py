"""The stat cache is fast when it is right, and never wrong or in the way when it is damaged, read-only or shared."""

import os
import sqlite3
import subprocess
import sys

import pytest

from truerun.adapters.files import hash_file
from truerun.adapters.statcache import StatCache, cache_path


@pytest.fixture
def old_file(tmp_path):
    """A file whose timestamps are settled."""
    path = tmp_path / "file"
    path.write_text("content")
    return path


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr("truerun.adapters.statcache.SETTLED_NS", 0)


def cache(tmp_path, share=0.0):
    return StatCache(tmp_path / "cache", recheck_share=share)


def test_an_unchanged_file_is_not_read_again(tmp_path, old_file):
    first = cache(tmp_path)
    digest = hash_file(old_file, first)
    first.close()
    stat = os.stat(old_file)
    assert cache(tmp_path).get(str(old_file), stat, "blake3") == digest.render()
    assert cache(tmp_path).get(str(old_file), stat, "sha256") is None


def test_a_file_just_written_is_not_remembered(tmp_path, old_file, monkeypatch):
    """Two writes within one tick of the clock leave the same timestamps (git's racy files)."""
    monkeypatch.setattr("truerun.adapters.statcache.SETTLED_NS", 10**12)
    store = cache(tmp_path)
    hash_file(old_file, store)
    assert store.get(str(old_file), os.stat(old_file), "blake3") is None


def test_a_wrong_answer_empties_the_cache(tmp_path, old_file):
    """A writer with a memory map can change bytes and leave the timestamps: rechecking finds it, and nothing else is believed."""
    store = cache(tmp_path)
    store.put(str(old_file), os.stat(old_file), "blake3", "blake3:" + "0" * 64)
    store.remember("key", "value")
    store.close()
    store = cache(tmp_path, share=1.0)
    assert hash_file(old_file, store).value != "0" * 64
    assert store.recall("key") is None


@pytest.mark.parametrize("damage", [b"", b"not a database" * 100, None])
def test_a_damaged_cache_is_ignored(tmp_path, old_file, damage):
    store = cache(tmp_path)
    hash_file(old_file, store)
    store.close()
    database = tmp_path / "cache" / "stat.db"
    database.write_bytes(database.read_bytes()[:5000] if damage is None else damage)
    again = cache(tmp_path)
    assert hash_file(old_file, again).render() == hash_file(old_file).render()
    again.close()


def test_a_cache_that_cannot_be_made_is_ignored(tmp_path, old_file):
    (tmp_path / "cache").write_text("a file where a folder should be")
    store = cache(tmp_path)
    assert hash_file(old_file, store) == hash_file(old_file)
    store.remember("key", "value")
    store.close()


def test_another_process_holding_the_lock_is_no_obstacle(tmp_path, old_file):
    """The digest is right without the cache, and nothing waits or raises."""
    store = cache(tmp_path)
    holder = sqlite3.connect(tmp_path / "cache" / "stat.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert hash_file(old_file, store) == hash_file(old_file)
    store.close()
    holder.close()


def test_many_processes_share_it(tmp_path, old_file):
    code = (
        "import pathlib, sys\nfrom truerun.adapters.files import StatCache, hash_file\n"
        "store = StatCache(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(50): hash_file(pathlib.Path(sys.argv[2]), store); store.remember('k', 'v'); store.flush()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(old_file)]
    assert [process.wait() for process in [subprocess.Popen(command) for _ in range(3)]] == [0, 0, 0]
    assert cache(tmp_path).recall("k") == "v"


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TRUERUN_CACHE")
    assert cache_path() == tmp_path / "truerun"
    monkeypatch.setenv("TRUERUN_CACHE", str(tmp_path / "mine"))
    assert cache_path() == tmp_path / "mine"
