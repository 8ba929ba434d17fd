"""Which changes are tried, in which order, what they need, and why some are not tried."""

from __future__ import annotations

from truerun.attribution.candidates import Candidate, Lever, Link, candidates_of, closure
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.digest import digest_bytes
from truerun.core.lock import Lock, LockedData, LockedEnvironment, LockedFile

DIGEST = digest_bytes(b"")


def lock(name: str, path: str = "train.csv") -> Lock:
    file = LockedFile(path=path, digest=DIGEST, size=1)
    data = LockedData(role="training", files=(file,), rows=1, columns={}, row_digests=DIGEST, profile=DIGEST)
    return Lock(
        project=name,
        command="python train.py",
        critical=False,
        declaration=LockedFile(path="truerun.toml", digest=DIGEST, size=1),
        data={"train": data},
        environment=LockedEnvironment(python="3.11"),
    )


FIRST, SECOND, THIRD = lock("a"), lock("b"), lock("c")
LOCKS = {item.digest: item for item in (FIRST, SECOND, THIRD)}


def change(kind: ChangeKind, action: Action, name: str, key: str | None = None, **rest: object) -> Change:
    return Change(kind=kind, action=action, name=name, key=key, **rest)  # type: ignore[arg-type]


def of(*groups: tuple[Change, ...]) -> tuple[Candidate, ...]:
    ends = [FIRST, SECOND, THIRD]
    links = [
        Link(entry=10 + place, before=ends[place].digest, after=ends[place + 1].digest, changes=group)
        for place, group in enumerate(groups)
    ]
    return candidates_of(links, LOCKS)


def test_order_entry_and_lever_of_each_kind() -> None:
    found = of(
        (
            change(ChangeKind.CONFIG, Action.MODIFIED, "c.yaml", "lr", before=1, after=2),
            change(ChangeKind.DATA, Action.ROWS_ADDED, "train", "ana", after={"count": 2, "rows": DIGEST.render()}),
        ),
        (
            change(ChangeKind.CODE, Action.MODIFIED, "train.py"),
            change(ChangeKind.CHECKPOINT, Action.MODIFIED, "init.pt"),
            change(ChangeKind.ENVIRONMENT, Action.MODIFIED, "environ", "SEED", before="1", after="2"),
        ),
    )
    assert [item.lever for item in found] == [Lever.KEY, Lever.ROWS, Lever.FILE, Lever.FILE, Lever.VARIABLE]
    assert [item.entry for item in found] == [10, 10, 11, 11, 11]
    assert [item.position for item in found] == [0, 1, 2, 3, 4]


def test_what_cannot_be_tried_says_why() -> None:
    found = of(
        (
            change(ChangeKind.ENVIRONMENT, Action.MODIFIED, "torch", before="2.12", after="2.13"),
            change(ChangeKind.ENVIRONMENT, Action.MODIFIED, "environ", "API_KEY", before=None, after=DIGEST.render()),
            change(ChangeKind.CONFIG, Action.FORMATTED, "c.yaml"),
            change(ChangeKind.DECLARATION, Action.MODIFIED, "truerun.toml", "monitoring.overhead"),
            change(ChangeKind.DATA, Action.MODIFIED, "train", "x", detail={"what": "column"}),
        )
    )
    assert [item.lever for item in found] == [Lever.CANNOT, Lever.CANNOT, Lever.INERT, Lever.INERT, Lever.INERT]
    assert all(item.why for item in found)
    assert not any(item.applies for item in found)


def test_data_outside_the_project_cannot_be_given_in_another_version() -> None:
    outside = lock("d", "/mnt/train.csv")
    links = [
        Link(
            entry=1,
            before=FIRST.digest,
            after=outside.digest,
            changes=(change(ChangeKind.DATA, Action.ROWS_ADDED, "train", "ana", after={}),),
        )
    ]
    [found] = candidates_of(links, {**LOCKS, outside.digest: outside})
    assert found.lever is Lever.CANNOT


def test_later_edits_of_a_file_need_the_earlier_ones_and_closure_brings_them() -> None:
    edit = change(ChangeKind.CODE, Action.MODIFIED, "train.py")
    other = change(ChangeKind.CODE, Action.MODIFIED, "model.py")
    found = of((edit, other), (edit,))
    assert found[2].needs == {0}
    assert closure(found, {2}) == {0, 2}
    assert closure(found, {1}) == {1}


def test_a_key_needs_the_file_that_holds_it_and_rows_need_the_table_they_are_rows_of() -> None:
    rows = change(ChangeKind.DATA, Action.ROWS_ADDED, "train", "ana", after={})
    found = of(
        (
            change(ChangeKind.CONFIG, Action.ADDED, "new.yaml"),
            rows,
            change(ChangeKind.DATA, Action.MODIFIED, "train", detail={"what": "columns"}),
        ),
        (change(ChangeKind.CONFIG, Action.MODIFIED, "new.yaml", "lr"), rows),
    )
    assert found[3].needs == {0}
    assert found[2].needs == {1}
    assert found[4].needs == {2}
    assert closure(found, {4}) == {1, 2, 4}


def test_another_command_line_is_a_candidate_of_its_own() -> None:
    links = [Link(entry=1, before=FIRST.digest, after=SECOND.digest, changes=())]
    [found] = candidates_of(links, LOCKS, commands=(["python", "t.py"], ["python", "t.py", "--lr", "9"]))
    assert found.lever is Lever.COMMAND
    assert "--lr 9" in found.change.title()
    assert candidates_of(links, LOCKS, commands=(["python"], ["python"])) == ()
