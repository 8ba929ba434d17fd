"""Every way two locks can differ becomes changes of its own; formatting becomes a change that needs no approval."""

import importlib.util
import pathlib
from dataclasses import replace

import pytest

from truerun.core.change import Action, ChangeKind
from truerun.core.difference import RowDelta, RowSet, diff_locks, hunks, is_protected, same
from truerun.core.lock import LockedKey, LockedPackage

spec = importlib.util.spec_from_file_location("material", pathlib.Path(__file__).with_name("material.py"))
material = importlib.util.module_from_spec(spec)
spec.loader.exec_module(material)
LOCK, DATA, digest, file = material.LOCK, material.DATA, material.digest, material.file


def diff(new, old=LOCK, rows=None, **options):
    return diff_locks(old, new, rows or {}, **options)


def only(changes):
    assert len(changes) == 1, [change.title() for change in changes]
    return changes[0]


def test_a_lock_does_not_differ_from_itself():
    assert diff(LOCK) == ()


def test_from_nothing_every_part_is_added_whole():
    changes = diff(LOCK, old=None)
    assert {change.action for change in changes} == {Action.ADDED}
    assert [(change.kind.value, change.name) for change in changes] == [
        ("declaration", "truerun.toml"),
        ("config", "config.yaml"),
        ("data", "train"),
        ("code", "train.py"),
        ("checkpoint", "init.pt"),
        ("environment", "python"),
    ]


def test_a_changed_key_is_named_with_both_values_and_its_line():
    change = only(diff(material.with_config(optimizer__lr=0.03, seed=1)))
    assert (change.kind, change.action, change.name, change.key) == (
        ChangeKind.CONFIG,
        Action.MODIFIED,
        "config.yaml",
        "optimizer.lr",
    )
    assert (change.before, change.after, change.line, change.protected) == (0.003, 0.03, 1, True)


def test_keys_are_added_and_removed():
    changes = diff(material.with_config(optimizer__lr=0.003, extra=None))
    assert [(change.action, change.key) for change in changes] == [(Action.ADDED, "extra"), (Action.REMOVED, "seed")]


def test_a_reformatted_file_is_formatted_and_needs_no_approval():
    """Accept twin of C1: comments, order and 1.0 for 1 change the bytes and no key."""
    change = only(diff(material.with_config(seed=1.0, optimizer__lr=0.003)))
    assert (change.action, change.key, change.protected) == (Action.FORMATTED, None, False)


def test_true_is_not_one():
    assert only(diff(material.with_config(optimizer__lr=0.003, seed=True))).after is True
    assert same(1, 1.0)
    assert not same(1, True)


def test_only_matching_keys_are_protected():
    changes = diff(material.with_config(optimizer__lr=1, seed=2), protected=("optimizer.*",))
    assert {change.key: change.protected for change in changes} == {"optimizer.lr": True, "seed": False}
    assert is_protected("a.b.c", ("*",))


def test_a_config_file_comes_and_goes_as_a_whole():
    changes = diff(replace(LOCK, config={"other.yaml": material.config("other.yaml", "x", a=1)}))
    assert [(change.name, change.action) for change in changes] == [("config.yaml", Action.REMOVED), ("other.yaml", Action.ADDED)]


def test_rows_are_changes_by_contributor():
    rows = RowDelta(
        added={"ana": RowSet(count=2, rows=digest("l1"), first=(8, 9), path="data/b.csv")},
        removed={"": RowSet(count=1, rows=digest("l2"))},
    )
    added, removed = diff(material.with_data(row_digests=digest("new")), rows={"train": rows})
    assert (added.action, added.key, added.path) == (Action.ROWS_ADDED, "ana", "data/b.csv")
    assert added.after == {"count": 2, "rows": digest("l1").render()}
    assert added.detail["first_rows"] == [8, 9]
    assert (removed.action, removed.key, removed.path) == (Action.ROWS_REMOVED, None, "data/a.csv")


def test_rows_in_another_order_are_a_change():
    change = only(diff(material.with_data(row_digests=digest("new")), rows={"train": RowDelta(reordered=True)}))
    assert (change.action, change.detail["what"], change.protected) == (Action.MODIFIED, "order of rows", True)


def test_the_same_rows_in_another_file_format_need_no_approval():
    change = only(diff(material.with_data(files=(file("data/a.parquet"),))))
    assert (change.action, change.protected) == (Action.FORMATTED, False)


def test_a_new_column_is_named_and_the_data_set_replaced_as_a_whole():
    column, whole = diff(material.with_data(columns={**DATA.columns, "y": "Int64"}, row_digests=digest("new")))
    assert (column.action, column.key, column.after) == (Action.ADDED, "y", "Int64")
    assert (whole.action, whole.key) == (Action.MODIFIED, None)


def test_a_changed_type_is_a_change_of_the_column():
    change = only(diff(material.with_data(columns={**DATA.columns, "x": "Float64"})))
    assert (change.key, change.before, change.after) == ("x", "Int64", "Float64")


def test_code_and_checkpoints_differ_by_path():
    changes = diff(replace(LOCK, code={"train.py": file("train.py", "new"), "more.py": file("more.py")}, checkpoints={}))
    assert [(change.kind, change.name, change.action) for change in changes] == [
        (ChangeKind.CODE, "more.py", Action.ADDED),
        (ChangeKind.CODE, "train.py", Action.MODIFIED),
        (ChangeKind.CHECKPOINT, "init.pt", Action.REMOVED),
    ]


def test_packages_differ_by_version_and_by_record():
    def with_torch(**fields):
        package = replace(LOCK.environment.packages["torch"], **fields)
        return replace(LOCK, environment=replace(LOCK.environment, packages={"torch": package, "x": LockedPackage(version="1")}))

    version, added = diff(with_torch(version="2.14.0"))
    assert (version.name, version.before, version.after) == ("torch", "2.13.0", "2.14.0")
    assert (added.name, added.action) == ("x", Action.ADDED)
    assert diff(with_torch(record=digest("edited")))[0].key == "RECORD"


def test_interpreter_and_variables_differ():
    changes = diff(replace(LOCK, environment=replace(LOCK.environment, python="3.12.1", variables={"LR_SCALE": "2"})))
    assert [(change.name, change.key, change.after) for change in changes] == [
        ("python", None, "3.12.1"),
        ("environ", "LR_SCALE", "2"),
    ]


def test_somebody_elses_secret_needs_no_approval():
    """Accept twin: WANDB_API_KEY is another one for each colleague; only digests of it are recorded."""
    environment = replace(LOCK.environment, variables={"LR_SCALE": None, "WANDB_API_KEY": digest("mine").render()})
    assert not only(diff(replace(LOCK, environment=environment))).protected


def test_the_declaration_differs_by_key_when_its_text_is_known():
    new = replace(LOCK, critical=False, declaration=file("truerun.toml", "new"))
    before, after = {"project.critical": LockedKey(value=True, line=4)}, {"project.critical": LockedKey(value=False, line=4)}
    change = only(diff(new, declarations=(before, after)))
    assert (change.kind, change.key, change.before, change.after) == (ChangeKind.DECLARATION, "project.critical", True, False)
    assert only(diff(new)).key is None
    assert only(diff(new, declarations=(before, before))).action is Action.FORMATTED


@pytest.mark.parametrize(
    ("before", "after", "headers"),
    [
        ("a\nb\n", "a\nc\n", ("@@ -2 +2 @@",)),
        ("a\n", "a\nb\nc\n", ("@@ -1,0 +2,2 @@",)),
        ("a\n", "a", ()),
        ("x\n" * 30_000, "y", ("@@ -1,30000 +1,1 @@",)),
    ],
)
def test_hunks_say_which_lines(before, after, headers):
    assert hunks(before, after) == headers
