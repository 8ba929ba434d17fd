"""A change's id says what was changed to what; its title is one line for people."""

import pytest

from truerun.core.actor import Actor, Basis
from truerun.core.change import Action, Change, ChangeKind


def change(**fields):
    base = {"kind": ChangeKind.CONFIG, "action": Action.MODIFIED, "name": "config.yaml", "key": "lr", "before": 0.1, "after": 1}
    return Change(**{**base, **fields})


def test_the_id_ignores_who_and_where_and_follows_what():
    one = change()
    assert change(actor=Actor(id="ana", basis=Basis.SIGNED), line=7, path="x", detail={"a": 1}).id == one.id
    assert change(after=1.0).id == one.id
    assert len({change(after=2).id, change(key="seed").id, change(after=True).id, change(action=Action.ADDED).id, one.id}) == 5


def test_attribution_changes_the_actor_alone():
    actor = Actor(id="ana", basis=Basis.GIT)
    assert change().attributed(actor) == change(actor=actor)


@pytest.mark.parametrize(
    ("given", "title"),
    [
        (change(), "config.yaml lr 0.1 -> 1"),
        (change(before=None), "config.yaml lr (absent) -> 1"),
        (change(action=Action.ADDED), "config.yaml lr added"),
        (change(kind=ChangeKind.CODE, name="train.py", key=None), "train.py modified"),
        (change(kind=ChangeKind.DATA, name="train", key="x", before="Int64", after="Float64"), "train column x Int64 -> Float64"),
        (change(after="x" * 100), "config.yaml lr 0.1 -> " + "x" * 57 + "..."),
        (
            change(kind=ChangeKind.DATA, action=Action.ROWS_ADDED, name="train", key="ana", after={"count": 40}),
            "train +40 rows by ana",
        ),
        (change(kind=ChangeKind.DATA, action=Action.ROWS_REMOVED, name="train", key=None, before={"count": 4}), "train -4 rows"),
    ],
)
def test_titles(given, title):
    assert given.title() == title
