"""An object is the bytes it is named after, complete and independent of the file it came from, or it is an error."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.adapters.objects import ObjectStore, blake3_of, write_whole
from truerun.core.digest import Digest, digest_bytes
from truerun.core.errors import InputError, StorageError, VerificationError


@pytest.fixture
def store(tmp_path):
    return ObjectStore(tmp_path / "objects")


@given(data=st.binary(max_size=200))
def test_what_is_put_is_read(tmp_path_factory, data):
    store = ObjectStore(tmp_path_factory.getbasetemp() / "shared")
    for algorithm, digest in (("blake3", blake3_of(data)), ("sha256", digest_bytes(data))):
        assert store.put_bytes(data, algorithm) == digest
        assert digest in store
        assert store.read(digest) == data


def test_a_stored_file_does_not_change_with_the_original(store, tmp_path):
    """Originals are edited in place: a hard link would change with them."""
    (tmp_path / "f").write_bytes(b"one")
    digest = store.put_file(tmp_path / "f")
    with (tmp_path / "f").open("r+b") as stream:
        stream.write(b"two")
    assert store.read(digest) == b"one"


def test_an_altered_object_is_refused(store):
    digest = store.put_bytes(b"good")
    store.path(digest).write_bytes(b"evil")
    with pytest.raises(VerificationError, match="does not hold the bytes"):
        store.read(digest)


def test_a_file_that_is_not_what_it_was_locked_as_is_not_stored(store, tmp_path):
    """Edited between check and copy: nothing is kept under the wrong name."""
    (tmp_path / "f").write_bytes(b"new")
    with pytest.raises(InputError, match="changed while it was being stored"):
        store.put_file(tmp_path / "f", blake3_of(b"old"))
    assert [name for _, _, names in os.walk(store.root) for name in names] == []


def test_an_absent_object_says_what_to_do(store):
    with pytest.raises(InputError) as caught:
        store.read(blake3_of(b"x"))
    assert "backup" in caught.value.next_step
    assert Digest("md5", "0" * 32) not in store
    with pytest.raises(InputError, match="no object has such a name"):
        store.path(Digest("md5", "0" * 32))


def test_a_read_only_folder_is_a_storage_error(store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Read-only"):
        store.put_bytes(b"x")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    def fail(stream):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(StorageError, match="No space left"):
        write_whole(tmp_path / "f", fail)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]
