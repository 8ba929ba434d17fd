"""E2: only the `.pyc` changed, its source intact."""

import contextlib
import importlib.util
import marshal
import py_compile
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.errors import FormatError
from truerun.inspection.environment.bytecode_modified import Bytecode, check_bytecode, is_used
from truerun.inspection.environment.marshalled import parse_marshalled

SOURCE = b'''"""A step."""
import math
from collections import OrderedDict

RATES = {"a": 1.5, "b": -2e-3, "big": 10**40, "c": 3 + 4j}

class Optimizer:
    kinds = frozenset({"sgd", "adam"})

    def step(self, x, *, lr=0.1, **rest):
        """Go downhill."""
        if x in ("a", "b", None, ..., 1 << 40, b"raw", True):
            return [y for y in range(3)]
        try:
            return math.pi - lr * x
        except ValueError:
            return lambda z: (yield z)
'''


def pair(source=SOURCE, executed=SOURCE, *, flags=0, size=None) -> Bytecode:
    """A source, and bytecode compiled from *executed* with a header that claims *source*."""
    code = compile(executed, "/somewhere/else.py", "exec", dont_inherit=True)
    last = importlib.util.source_hash(source) if flags else struct.pack("<II", 7, len(source) if size is None else size)
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", flags) + last
    return Bytecode(
        owner="torch",
        source_path="torch/optim/sgd.py",
        path="torch/optim/__pycache__/sgd.pyc",
        source=source,
        compiled=header + marshal.dumps(code),
        modified_seconds=7,
    )


def test_bytecode_of_another_source_is_named():
    """The sign of the update is turned in the .pyc; header, size and time fit the untouched source."""
    turned = SOURCE.replace(b"math.pi - lr", b"math.pi + lr")
    (finding,) = check_bytecode([pair(executed=turned)])
    assert finding.location.path == "torch/optim/__pycache__/sgd.pyc"
    assert "its source compiles to something else" in finding.message


@pytest.mark.parametrize("old", [b"lr=0.1", b"-2e-3", b'"adam"', b"range(3)", b"3 + 4j", b"10**40", b'b"raw"'])
def test_any_changed_constant_shows(old):
    assert check_bytecode([pair(executed=SOURCE.replace(old, old.translate(bytes.maketrans(b"0134dw", b"9876zz"))))])


def test_its_own_bytecode_is_no_finding(tmp_path):
    """Accept twin, also as py_compile writes it, and with a header that names the source's hash."""
    assert check_bytecode([pair(), pair(flags=1), pair(flags=3)]) == ()
    file = tmp_path / "step.py"
    file.write_bytes(SOURCE)
    compiled = py_compile.compile(str(file), cfile=str(tmp_path / "step.pyc"), doraise=True)
    made = Bytecode(
        owner="project",
        source_path="step.py",
        path="step.pyc",
        source=SOURCE,
        compiled=(tmp_path / "step.pyc").read_bytes(),
        modified_seconds=int(file.stat().st_mtime),
    )
    assert compiled
    assert is_used(made)
    assert check_bytecode([made]) == ()


def test_bytecode_that_python_would_not_use_is_not_judged():
    other = pair(executed=b"x = 1\n", size=3)
    assert not is_used(other)
    assert check_bytecode([other]) == ()
    assert check_bytecode([pair(executed=b"x = 1\n", flags=1)])


def test_broken_bytecode_is_named_and_never_unmarshalled():
    good = pair()
    broken = Bytecode(
        owner=good.owner,
        source_path=good.source_path,
        path=good.path,
        source=good.source,
        compiled=good.compiled[:-9],
        modified_seconds=7,
    )
    assert check_bytecode([broken])


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)


@given(plain, plain)
def test_equal_values_read_equal_and_others_do_not(a, b):
    def read(value):
        return parse_marshalled(marshal.dumps(value))

    assert read(a) == read(a)
    assert (read(a) == read(b)) == (repr(a) == repr(b))


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_raise_a_format_error(data):
    with contextlib.suppress(FormatError):
        parse_marshalled(data)
