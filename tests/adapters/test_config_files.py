"""Configuration by key: values and lines, whatever the format and formatting; what is ambiguous or endless is refused."""

import contextlib
import json
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from truerun.adapters.config_files import parse_config
from truerun.core.errors import FormatError

NAMES = st.text('abcxyz_.[]" é', min_size=1, max_size=6)
TEXTS = st.text("ab:#-é \n\t\"'\\{}0.", max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.dictionaries(
    NAMES,
    st.recursive(SCALARS | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)),
    max_size=4,
)


def values(data, path="config.yaml"):
    return {key: item.value for key, item in parse_config(data, path).items()}


def lines(data, path="config.yaml"):
    return {key: item.line for key, item in parse_config(data, path).items()}


@given(TREES)
def test_json_and_yaml_of_one_tree_have_the_same_keys(tree):
    as_json = json.dumps(tree).encode()
    as_yaml = yaml.safe_dump(json.loads(as_json), allow_unicode=True).encode()
    assert values(as_json, "a.json") == values(as_yaml, "a.yaml")


@given(TREES)
def test_indentation_and_order_change_no_value(tree):
    reordered = dict(reversed(tree.items()))
    assert values(json.dumps(tree).encode(), "a.json") == values(json.dumps(reordered, indent=3).encode(), "a.json")


@given(TREES)
def test_every_line_is_one_that_holds_the_value(tree):
    text = json.dumps(tree, indent=1)
    for item in parse_config(text.encode(), "a.json").values():
        assert json.dumps(item.value) in text.split("\n")[item.line - 1]


def test_yaml_keys_and_lines():
    data = b"# top\noptimizer:\n  lr: 0.003  # small\n  betas: [0.9, 0.999]\nlayers:\n  - width: 8\n  - width: 16\nempty: {}\n"
    assert lines(data) == {
        "optimizer.lr": 3,
        "optimizer.betas[0]": 4,
        "optimizer.betas[1]": 4,
        "layers[0].width": 6,
        "layers[1].width": 7,
        "empty": 8,
    }
    assert values(data)["empty"] == {}


def test_values_are_what_the_safe_loader_of_the_script_gives():
    """PyYAML reads 1e-3 as text and yes as true, and so does the training script."""
    assert values(b"a: 1e-3\nb: yes\nc: 0x10\nd: 2024-01-01\ne: ~\nf: .inf\n") == {
        "a": "1e-3",
        "b": True,
        "c": 16,
        "d": "2024-01-01",
        "e": None,
        "f": "inf",
    }


def test_integers_beyond_double_precision_become_text():
    assert values(b"a: 9007199254740993\nb: 9007199254740991") == {"a": "9007199254740993", "b": 9007199254740991}


def test_merge_keys_are_resolved_and_own_values_win():
    data = b"base: &base {lr: 1, momentum: 0.9}\nrun:\n  lr: 2\n  <<: *base\n"
    assert values(data) == {"base.lr": 1, "base.momentum": 0.9, "run.lr": 2, "run.momentum": 0.9}
    assert lines(data)["run.lr"] == 3


def test_a_dot_in_a_name_is_no_nesting():
    assert set(values(b'"a.b": 1\na:\n  b: 2\n')) == {'"a.b"', "a.b"}


def test_toml_keys_and_lines():
    data = b'seed = 1\n[optimizer]\nlr = 0.003 # [not.a.table]\nbetas = [\n  0.9,\n  0.999,\n]\nnote = """\n[fake]\nlr = 5\n"""\n"a.b".c = 2\n[[layer]]\nwidth = 8\n[[layer]]\nwidth = 16\n[layer.norm]\neps = 1e-5\n'
    assert lines(data, "a.toml") == {
        "seed": 1,
        "optimizer.lr": 3,
        "optimizer.betas[0]": 4,
        "optimizer.betas[1]": 4,
        "optimizer.note": 8,
        'optimizer."a.b".c': 12,
        "layer[0].width": 14,
        "layer[1].width": 16,
        "layer[1].norm.eps": 18,
    }
    assert tomllib.loads(data.decode())["layer"][1]["norm"]["eps"] == values(data, "a.toml")["layer[1].norm.eps"]


def test_quoted_toml_names_are_read_as_toml_reads_them():
    """A tab is plain in TOML's quotes and an error in JSON's; found by fuzzing."""
    assert lines(b'"a\tb" = 1\n\'c"d\' = 2\n"\\U0001F600" = 3\n', "a.toml") == {'"a\\tb"': 1, '"c\\"d"': 2, "\U0001f600": 3}


@given(
    st.binary(max_size=60) | st.text("ab:[]{}\"'#&*!|>-=,. \n\t0123", max_size=40).map(str.encode),
    st.sampled_from(["a.yaml", "a.toml", "a.json"]),
)
def test_any_bytes_are_keys_or_a_format_error(data, path):
    with contextlib.suppress(FormatError):
        parse_config(data, path)


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "a.yaml", "a.yaml:3: a is set twice"),
        (b'{"a": 1,\n "a": 2}', "a.json", "a.json:2: the key 'a' is set twice"),
        (b"a = 1\na = 2\n", "a.toml", "a.toml:2"),
        (b"a: [1\n", "a.yaml", "a.yaml:2:1: not valid YAML"),
        (b"a = \n", "a.toml", "a.toml:1:5: not valid TOML"),
        (b'{"a": 1,}', "a.json", "a.json:1"),
        (b"ok: 1\nbad: \xff\n", "a.yaml", "a.yaml:2: not UTF-8"),
        (b"a: !!python/object/apply:os.system [ls]\n", "a.yaml", "a.yaml:1: the tag"),
        (b"a: !env HOME\n", "a.yaml", "a.yaml:1: the tag"),
        (b"a: 1\n---\nb: 2\n", "a.yaml", "not valid YAML"),
        (b"just text\n", "a.yaml", "a single value"),
        (b"3", "a.json", "a single value"),
        (b"? [a, b]\n: 1\n", "a.yaml", "not a single value"),
        (b"a: &a [*a]\n", "a.yaml", "nested too deeply"),
        (b"[" * 5000 + b"]" * 5000, "a.json", "a.json"),
        (b"a: " + b"[" * 500 + b"]" * 500, "a.yaml", "nested too deeply"),
        (b"x" * 1001 + b": 1", "a.yaml", "a.yaml:1: a key that is too long"),
        (b"x=1", "a.ini", "not a configuration format"),
        (b"a: 0o9_\nb: 2024-13-45\n", "a.yaml", "a.yaml:2: not a timestamp"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(data, path, message):
    with pytest.raises(FormatError) as caught:
        parse_config(data, path)
    assert message in caught.value.message


def test_aliases_that_multiply_are_refused():
    """Ten lines that stand for 10**9 values (billion laughs)."""
    levels = [f"n{i}: &n{i} [" + ", ".join([f"*n{i - 1}"] * 10) + "]" for i in range(1, 10)]
    with pytest.raises(FormatError, match="too many values"):
        parse_config("\n".join(["n0: &n0 1", *levels]).encode(), "a.yaml")


def test_merges_that_multiply_cost_nothing():
    """Each mapping is read once, however often it is merged."""
    levels = [f"n{i}: &n{i} {{k{i}: 1, <<: [" + ", ".join([f"*n{i - 1}"] * 10) + "]}" for i in range(1, 30)]
    assert len(values("\n".join(["n0: &n0 {x: 1}", *levels]).encode())) == sum(range(1, 31))


def test_an_empty_file_has_no_keys():
    assert values(b"") == values(b"# nothing\n") == values(b"{}", "a.json") == values(b"", "a.toml") == {}
