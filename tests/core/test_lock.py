"""A lock is a value with one digest; its file form is readable and strict."""

import importlib.util
import pathlib
from dataclasses import replace

import pytest

from truerun.core.errors import FormatError
from truerun.core.lock import LockedKey, parse_lock, render_lock

spec = importlib.util.spec_from_file_location("material", pathlib.Path(__file__).with_name("material.py"))
material = importlib.util.module_from_spec(spec)
spec.loader.exec_module(material)
LOCK = material.LOCK


def test_parse_inverts_render():
    assert parse_lock(render_lock(LOCK)) == LOCK
    assert render_lock(parse_lock(render_lock(LOCK))) == render_lock(LOCK)


def test_the_digest_survives_the_file_and_moves_with_every_part():
    assert parse_lock(render_lock(LOCK)).digest == LOCK.digest
    others = [
        replace(LOCK, critical=False),
        replace(LOCK, command="python train.py --fast"),
        replace(LOCK, code={}),
        material.with_config(optimizer__lr=0.0030001, seed=1),
        material.with_data(rows=11),
    ]
    assert len({lock.digest for lock in (LOCK, *others)}) == 6


def test_the_file_ends_in_a_newline_and_has_one_key_a_line():
    text = render_lock(LOCK)
    assert text.endswith("}\n")
    assert ' "command": "python train.py",\n' in text


def test_a_key_is_found_in_whichever_file_sets_it():
    assert LOCK.config_value("optimizer.lr") == 0.003
    with pytest.raises(KeyError):
        LOCK.config_value("optimizer.momentum")


def test_a_null_value_is_a_value():
    lock = replace(LOCK, config={"c.yaml": replace(LOCK.config["config.yaml"], keys={"a": LockedKey(value=None, line=1)})})
    assert parse_lock(render_lock(lock)) == lock


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', "[" * 100_000, '{"schema": 1}', '{"schema": true}'])
def test_what_is_no_lock_is_refused(text):
    with pytest.raises(FormatError):
        parse_lock(text)


def test_an_unknown_field_is_refused():
    with pytest.raises(FormatError, match="unknown field"):
        parse_lock(render_lock(LOCK).replace('"critical"', '"extra": 1, "critical"', 1))
