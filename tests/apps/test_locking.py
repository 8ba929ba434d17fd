"""Locking: the same files give the same lock, each edit gives the change it is, and what was locked can be rebuilt."""

import json
import os
import sys
from dataclasses import replace

import pytest

from truerun.adapters.keys import create_run_key
from truerun.apps.locking import decide, record_lock, resolve, store
from truerun.core.actor import Basis
from truerun.core.change import Action, ChangeKind
from truerun.core.decision import Outcome
from truerun.core.digest import Digest
from truerun.core.errors import FormatError, InputError, MissingExtraError, PolicyError, StorageError, UsageError
from truerun.core.fact import LockProposed
from truerun.core.rows import parse_rows


def resolved(small, **environ):
    return resolve(small.project, {"PATH": os.environ["PATH"], **environ})


def test_the_first_lock_adds_every_part_and_keeps_all_of_it(small):
    recorded = small.lock("first")
    assert {change.action for change in recorded.changes} == {Action.ADDED}
    assert {change.actor.id for change in recorded.changes} == {"ana"}
    assert recorded.entry.fact.note == "first"
    project, lock = small.project, recorded.lock
    for digest in (lock.declaration.digest, lock.config["config.yaml"].file.digest, lock.code["train.py"].digest):
        assert digest in project.objects
    data = lock.data["train"]
    assert project.objects.read(data.files[0].digest) == (small.root / "data/train.csv").read_bytes()
    assert len(parse_rows(project.objects.read(data.row_digests)).digests) == 4
    assert project.lock(lock.digest) == lock == project.head_lock()


def test_locking_twice_records_once(small):
    first = small.lock()
    (small.root / "truerun.lock").unlink()
    again = small.lock()
    assert (again.lock, again.entry, again.changes) == (first.lock, None, ())
    assert small.project.head_lock() == first.lock


def test_the_lock_does_not_depend_on_place_or_time(small, tmp_path):
    first = resolved(small).lock
    copy = tmp_path / "elsewhere"
    os.rename(small.root, copy)
    small.root = copy
    os.utime(copy / "config.yaml", (1, 1))
    assert resolved(small).lock == first


def test_a_key_a_row_and_a_line_of_code(small):
    small.lock()
    small.write("config.yaml", "seed: 1\noptimizer:\n  lr: 0.03  # up\n")
    small.rows("x,label,added_by", "1,cat,ana", "2,dog,bo", "3,dog,ana", "4,dog,bo", "5,cat,cy")
    small.write("train.py", "import os\nscale = 2\ntoken = os.environ['HF_TOKEN']\n")
    recorded = small.lock()
    assert [change.title() for change in recorded.changes] == [
        "config.yaml optimizer.lr 0.003 -> 0.03",
        "train +1 rows by ana",
        "train +1 rows by cy",
        "train -1 rows by ana",
        "train.py modified",
    ]
    key, added, _, removed, code = recorded.changes
    assert (key.line, key.path) == (3, "config.yaml")
    assert (added.path, added.detail["first_rows"], removed.detail["first_rows"]) == ("data/train.csv", [2], [2])
    assert code.detail["lines"] == ["@@ -2,2 +2,2 @@"]
    stored = json.loads(small.project.objects.read(Digest.parse(added.after["rows"])))
    rows = parse_rows(small.project.objects.read(recorded.lock.data["train"].row_digests))
    assert stored == [rows.digests[2]]


def test_reformatting_is_no_change_of_content(small):
    """Accept twin (C5): comments, order, a parquet file with the same rows."""
    small.lock()
    small.write("config.yaml", "# tidy\nseed:   1\noptimizer: {lr: 3.0e-3}\n")
    small.write("data/train.csv", (small.root / "data/train.csv").read_text().replace("1,cat", '"1","cat"'))
    changes = small.lock().changes
    assert [(change.action, change.protected) for change in changes] == [(Action.FORMATTED, False)] * 2


def test_lifting_a_protection_and_using_the_gap_in_one_change_is_protected(small):
    small.lock()
    small.write("truerun.toml", (small.root / "truerun.toml").read_text().replace('["optimizer.*"]', "[]"))
    small.write("config.yaml", "optimizer:\n  lr: 1\nseed: 2\n")
    changes = {change.key: change for change in small.lock().changes}
    assert changes["optimizer.lr"].protected
    assert not changes["seed"].protected
    assert changes["config.protected[0]"].kind is ChangeKind.DECLARATION


def test_variables_that_the_code_reads_are_locked_and_secrets_are_not_shown(small):
    lock = resolved(small, LR_SCALE="2", HF_TOKEN="hunter2", OTHER="x").lock
    assert lock.environment.variables["LR_SCALE"] == "2"
    assert set(lock.environment.variables) == {"LR_SCALE", "HF_TOKEN"}
    assert "hunter2" not in json.dumps(small.project.head_lock() or str(lock))
    assert lock.environment.variables["HF_TOKEN"].startswith("sha256:")


def test_a_key_of_nobody_cannot_propose(small):
    with pytest.raises(PolicyError) as caught:
        record_lock(small.project, resolved(small), create_run_key())
    assert "truerun people add" in caught.value.next_step
    assert small.project.newest_proposal() is None


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("config.yaml", None, InputError, "config.yaml is declared"),
        ("data/train.csv", None, InputError, r"\[data.train\]: nothing at data/train.csv"),
        ("config.yaml", "a: [1\n", FormatError, "config.yaml:2:1"),
        ("data/train.csv", "x,label,added_by\n1,2,3,4\n", InputError, "train.csv cannot be read"),
        ("data/train.csv", "x,label\n1,2\n", InputError, "no column 'added_by'"),
    ],
)
def test_what_is_missing_or_malformed_is_named_and_nothing_is_recorded(small, name, text, error, message):
    if text is None:
        (small.root / name).unlink()
    else:
        small.write(name, text)
    with pytest.raises(error, match=message):
        small.lock()
    assert small.project.newest_proposal() is None
    assert not (small.root / "truerun.lock").exists()


def test_data_that_does_not_change_is_not_read_again(small, monkeypatch):
    small.lock()
    project = small.project
    monkeypatch.setitem(sys.modules, "truerun.adapters.tables", None)
    assert resolve(project, {}).lock.data["train"].rows == 4


def test_data_whose_objects_are_gone_is_read_again(small):
    lock = small.lock().lock
    path = small.project.objects.path(lock.data["train"].row_digests)
    path.unlink()
    store(small.project, resolved(small))
    assert path.is_file()


def test_what_is_above_the_keep_limit_is_locked_and_said(small, monkeypatch):
    monkeypatch.setenv("TRUERUN_KEEP_BYTES", "10")
    result = resolved(small)
    assert any("above the keep limit" in note for note in result.notes)
    store(small.project, result)
    assert result.lock.data["train"].files[0].digest not in small.project.objects
    monkeypatch.setenv("TRUERUN_KEEP_BYTES", "much")
    with pytest.raises(UsageError, match="TRUERUN_KEEP_BYTES"):
        resolved(small)


def test_data_may_lie_outside_and_in_several_files(small, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in (1, 2):
        (shards / f"part-{number}.csv").write_text("x,label,added_by\n1,cat,ana\n")
    (small.root / "linked").symlink_to(shards)
    for spec in (f"{shards}/*.csv", str(shards), "../shards/part-*.csv", "linked/*.csv", "linked/"):
        small.write("truerun.toml", (small.root / "truerun.toml").read_text().replace("data/train.csv", spec))
        result = resolved(small)
        data = result.lock.data["train"]
        assert any("outside the project" in note for note in result.notes)
        assert (data.rows, data.file_rows, len(data.files)) == (2, (1, 1), 2), spec
        assert all((small.root / file.path).is_file() for file in data.files)
        small.write("truerun.toml", (small.root / "truerun.toml").read_text().replace(spec, "data/train.csv"))


def test_checkpoints_are_locked(small):
    small.write("weights/init.bin", "weights")
    small.write("truerun.toml", (small.root / "truerun.toml").read_text() + '\n[checkpoints]\ninput = ["weights/"]\n')
    assert list(resolved(small).lock.checkpoints) == ["weights/init.bin"]


def test_a_link_that_leaves_the_project_is_said(small, tmp_path):
    (tmp_path / "other.csv").write_text("x,label,added_by\n1,cat,ana\n")
    (small.root / "data/train.csv").unlink()
    (small.root / "data/train.csv").symlink_to(tmp_path / "other.csv")
    assert any("outside the project" in note for note in resolved(small).notes)


def test_a_full_disk_records_nothing_that_cannot_be_rebuilt(small, monkeypatch):
    def full(*_args, **_options):
        raise StorageError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("truerun.adapters.objects.write_all", full)
        with pytest.raises(StorageError):
            small.lock()
    assert small.project.newest_proposal() is None
    assert small.lock().entry is not None


def test_git_authors_are_named_beside_the_signer(small, monkeypatch):
    """P12: the key that signs proposes; when git says that somebody else wrote it, the entry says so too."""
    import subprocess

    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    who = ["-c", "user.name=Bo (made up)", "-c", "user.email=bo@example.org"]
    assert small.lock().entry.fact.commit is None
    small.write("train.py", "import os\nscale = 2\n")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(small.root), *command], check=True)
    (change,) = small.lock().changes
    assert (change.actor.id, change.actor.basis) == ("ana", Basis.SIGNED)
    assert change.detail["git_author"] == "bo@example.org"
    assert small.project.newest_proposal().fact.commit == change.detail["git_commit"]


def test_the_policy_is_asked_about_the_state(small):
    assert decide(small.project, resolved(small)).outcome is Outcome.ALLOW
    small.write(
        "truerun.toml",
        (small.root / "truerun.toml").read_text().replace('"python train.py"', '"python train.py"\ncritical = true'),
    )
    recorded = small.lock()
    assert recorded.lock.critical
    assert decide(small.project, resolved(small)).outcome is Outcome.HOLD
    assert replace(recorded.lock, critical=False).digest != recorded.lock.digest


def test_cut_short_after_the_entry_the_next_lock_completes_it(small, monkeypatch):
    """Killed between the ledger and truerun.lock: nothing is lost and nothing is recorded twice."""
    with monkeypatch.context() as patch:
        patch.setattr("truerun.apps.project.Project.save_lock", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            small.lock()
    assert not (small.root / "truerun.lock").exists()
    again = small.lock()
    assert again.entry is None
    assert small.project.head_lock() == again.lock == small.project.proposed_lock()


def test_without_polars_the_extra_is_named(small, monkeypatch):
    monkeypatch.delitem(sys.modules, "truerun.adapters.tables", raising=False)
    monkeypatch.delattr("truerun.adapters.tables", raising=False)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError) as caught:
        resolved(small)
    assert caught.value.next_step == "pip install 'truerun[data]'"


def test_an_edited_lock_file_is_not_the_baseline(small):
    """Somebody edits truerun.lock to hide a change: the comparison is with what the ledger proposed."""
    small.lock()
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    project = small.project
    project.save_lock(resolved(small).lock)
    assert [change.key for change in small.lock().changes] == ["optimizer.lr"]


def test_going_back_is_a_proposal_of_its_own(small):
    first = small.lock()
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    small.lock()
    small.write("config.yaml", "optimizer:\n  lr: 0.003\nseed: 1\n")
    back = small.lock()
    assert back.lock == first.lock
    assert [(change.before, change.after) for change in back.changes] == [(0.03, 0.003)]


def test_a_change_of_thousands_of_files_fits_into_an_entry(small, monkeypatch):
    monkeypatch.setattr("truerun.apps.locking.MAX_RECORDED", 3)
    for number in range(9):
        small.write(f"lib/m{number}.py", "")
    recorded = small.lock()
    assert len([change for change in recorded.changes if change.kind is ChangeKind.CODE]) == 10
    assert [change.title() for change in recorded.entry.fact.changes if change.kind is ChangeKind.CODE][3:] == ["7 more modified"]


def test_a_proposal_by_a_stranger_is_no_baseline(small):
    """Whoever holds the log's key and is nobody here proposes a changed state first: the next lock shows the change all the same."""
    small.lock()
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    project = small.project
    state = resolved(small)
    store(project, state)
    fact = LockProposed(lock=state.lock.digest, changes=(), at="2026-11-20T09:30:00Z")
    project.ledger.append(fact, create_run_key())
    assert [change.key for change in small.lock().changes] == ["optimizer.lr"]


def test_a_value_of_megabytes_is_recorded_by_its_digest(small):
    """P11: the lock holds the value, the entry only its digest, and the ledger stays within its limits."""
    small.lock()
    small.write("config.yaml", "optimizer:\n  lr: 0.003\nseed: 1\nnote: " + "x" * 3_000_000 + "\n")
    recorded = small.lock()
    assert len(recorded.lock.config_value("note")) == 3_000_000
    assert set(recorded.entry.fact.changes[0].after) == {"digest"}
