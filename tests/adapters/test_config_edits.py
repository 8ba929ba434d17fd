"""Setting one key leaves every other value alone, in every format; taking one back leaves comments alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.adapters.config_edits import dump_config, get_key, load_config, parse_key, remove_key, set_key
from truerun.adapters.config_files import key_path, parse_config
from truerun.adapters.config_reverts import revert_keys
from truerun.core.errors import FormatError

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8),
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        VALUES, lambda inner: st.one_of(st.dictionaries(NAMES, inner, max_size=3), st.lists(inner, max_size=3)), max_leaves=8
    ),
    max_size=4,
)


@pytest.mark.parametrize("path", ["a.yaml", "a.toml", "a.json"])
@given(tree=TREES)
def test_loading_what_was_dumped_gives_the_same_values(path: str, tree: dict[str, object]) -> None:
    assert load_config(dump_config(tree, path), path) == tree


@given(st.lists(st.one_of(NAMES, st.integers(0, 9)), min_size=1, max_size=5))
def test_a_dotted_path_is_read_back_as_its_steps(steps: list[str | int]) -> None:
    steps = ["root", *steps]
    text = ""
    for step in steps:
        text = f"{text}[{step}]" if isinstance(step, int) else key_path(text, step)
    assert parse_key(text) == tuple(steps)


@given(tree=TREES)
def test_every_leaf_that_a_lock_names_can_be_read_and_set(tree: dict[str, object]) -> None:
    for key in parse_config(json.dumps(tree).encode(), "a.json"):
        set_key(tree, key, "changed")
        assert get_key(tree, key) == "changed"


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(FormatError):
        parse_key("a..b")


def test_numbers_and_booleans_as_yaml_keys_are_found() -> None:
    tree = load_config(b"2: one\ntrue: yes\nlist: [a, b]\n", "a.yaml")
    set_key(tree, "2", "uno")
    set_key(tree, "true", "si")
    set_key(tree, "list[2]", "c")
    assert tree == {2: "uno", True: "si", "list": ["a", "b", "c"]}


def test_removing_takes_empty_parents_along_and_nothing_else() -> None:
    tree = {"a": {"b": {"c": 1}}, "d": 2}
    remove_key(tree, "a.b.c")
    remove_key(tree, "not.there")
    assert tree == {"d": 2}


def test_a_key_is_taken_back_and_comments_stay() -> None:
    older = b"# team\nlr: 0.1  # ask Ana\nsteps: 10\n"
    now = b"# team\nlr: 3.0\nsteps: 20  # more\nnew: 1\n"
    wanted = b"lr: 0.1\nsteps: 20\n"
    assert revert_keys(now, wanted, [older], "a.yaml") == b"# team\nlr: 0.1  # ask Ana\nsteps: 20  # more\n"


def test_where_lines_cannot_be_swapped_the_values_still_hold() -> None:
    """Several keys on one line, and a key to bring back that is gone: written anew, without comments."""
    now = b"# team\noptimizer: {lr: 3.0, name: sgd}\n"
    wanted = b"optimizer: {lr: 0.1, name: adam}\nback: true\n"
    text = revert_keys(now, wanted, [b"optimizer: {lr: 0.1, name: sgd}\n"], "a.yaml")
    assert load_config(text, "a.yaml") == {"optimizer": {"lr": 0.1, "name": "adam"}, "back": True}
