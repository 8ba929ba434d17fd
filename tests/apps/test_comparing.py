"""Who made a change: the signer of a proposal where there is one; else git, the contributor column, the file's owner."""

import getpass
import os
import subprocess

import pytest

from truerun.apps.comparing import compare_locks, file_of_row, recorded_by
from truerun.apps.locking import compare, resolve
from truerun.core.actor import Basis
from truerun.core.errors import InputError


@pytest.fixture
def git(small, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def run(*arguments):
        who = ["-c", "user.name=Bo (made up)", "-c", "user.email=bo@example.org"]
        subprocess.run(["git", "-C", str(small.root), *who, *arguments], check=True, capture_output=True)

    run("init", "-q")
    return run


def tree(small, old):
    project = small.project
    return compare(project, old, resolve(project, {"PATH": os.environ["PATH"]})).changes


def actors(changes):
    return {(change.name, change.key): (change.actor.id, change.actor.basis) for change in changes}


def test_a_working_tree_names_whom_it_can(small, git):
    old = small.lock().lock
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    git("add", ".")
    git("commit", "-qm", "x")
    small.write("train.py", "import os\n")
    small.rows("x,label,added_by", "1,cat,ana", "2,dog,bo", "3,cat,ana", "4,dog,bo", "9,cat,cy")
    found = actors(tree(small, old))
    assert found["config.yaml", "optimizer.lr"] == ("bo@example.org", Basis.GIT)
    assert found["train", "cy"] == ("cy", Basis.CONTRIBUTOR)
    assert found["train.py", None] == (getpass.getuser(), Basis.FILESYSTEM)


def test_recorded_changes_name_the_proposer_and_the_entries(small):
    first = small.lock().lock
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    second = small.lock()
    small.write("config.yaml", "optimizer:\n  lr: 0.3\nseed: 2\n")
    third = small.lock()
    project = small.project
    changes = recorded_by(project, compare_locks(project, first, third.lock).changes, first, third.lock.digest)
    by_key = {change.key: change for change in changes}
    assert by_key["optimizer.lr"].detail["entries"] == [second.entry.index, third.entry.index]
    assert by_key["seed"].detail["entries"] == [third.entry.index]
    assert by_key["seed"].actor.id == "ana"


def test_an_edit_after_the_proposal_is_not_the_proposers(small):
    """P12: ana proposed 0.03; somebody wrote 0.3 into the file afterwards. The ledger does not name ana for it."""
    first = small.lock().lock
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    small.lock()
    project = small.project
    same = recorded_by(project, tree(small, first), first, None)
    assert actors(same)["config.yaml", "optimizer.lr"] == ("ana", Basis.SIGNED)
    small.write("config.yaml", "optimizer:\n  lr: 0.3\nseed: 1\n")
    other = recorded_by(project, tree(small, first), first, None)
    assert actors(other)["config.yaml", "optimizer.lr"] == (getpass.getuser(), Basis.FILESYSTEM)


def test_rows_that_are_not_stored_any_more_are_said(small):
    first = small.lock().lock
    small.rows("x,label,added_by", "1,cat,ana")
    second = small.lock().lock
    project = small.project
    project.objects.path(first.data["train"].row_digests).unlink()
    with pytest.raises(InputError, match="not stored here"):
        compare_locks(project, first, second)


def test_a_row_number_names_its_file(small):
    data = small.lock().lock.data["train"]
    assert file_of_row(data, 3) == "data/train.csv"
    assert file_of_row(data, 4) is None
