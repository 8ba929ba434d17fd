"""`truerun.toml` is read strictly: every mistake is named with its key, and defaults are what the reference says."""

import collections.abc
import dataclasses
import json
import pathlib
import re
import tomllib
import typing

import pytest

from truerun.core.declaration import Declaration, ProjectSection, parse_declaration
from truerun.core.errors import DeclarationError

FULL = """
[project]
name = "digits"
command = "python train.py"
critical = true
[data.train]
path = "data/train.parquet"
label = "label"
contributor = "added_by"
[data.holdout]
path = "data/holdout.parquet"
role = "evaluation"
[config]
files = ["config.yaml"]
protected = ["optimizer.*"]
[environment]
packages = ["torch"]
[checkpoints]
input = ["init.safetensors"]
output = "checkpoints/"
[training]
optimizer = "AdamW"
betas = [0.9, 0.999]
lr = "config:optimizer.lr"
[metrics.val_accuracy]
goal = "max"
tolerance = 1
[outputs]
predictions = "p.parquet"
[monitoring]
every = 1
"""


def declare(text):
    return parse_declaration(tomllib.loads(text))


def test_every_section_is_read():
    declaration = declare(FULL)
    assert declaration.project.critical
    assert declaration.data["holdout"].role == "evaluation"
    assert declaration.environment.packages == ("torch",)
    assert declaration.training["betas"] == [0.9, 0.999]
    assert declaration.metrics["val_accuracy"].tolerance == 1.0
    assert declaration.monitoring.every == 1


def test_the_smallest_declaration_gets_the_defaults():
    declaration = declare('[project]\nname = "a"\ncommand = "python train.py"\n')
    assert declaration == Declaration(project=ProjectSection(name="a", command="python train.py"))
    assert declaration.code.files == ("**/*.py",)
    assert declaration.environment.packages == "all"
    assert declaration.config.protected == ("*",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "project"),
        ('[project]\nname = "a"', "command"),
        ('[project]\nname = "a"\ncommand = " "', "project.command"),
        (FULL + "colour = 1", "monitoring"),
        (FULL.replace('role = "evaluation"', 'role = "test"'), "data.holdout.role"),
        (FULL.replace('goal = "max"', 'goal = "up"'), "metrics.val_accuracy.goal"),
        (FULL.replace("every = 1", "overhead = 0.0"), "monitoring.overhead"),
        (FULL.replace("every = 1", 'between_steps = "maybe"'), "monitoring.between_steps"),
        (FULL.replace("critical = true", 'critical = "yes"'), "project.critical"),
        (FULL.replace('files = ["config.yaml"]', 'files = "config.yaml"'), "config.files"),
        (FULL.replace("tolerance = 1", "tolerance = true"), "metrics.val_accuracy.tolerance"),
    ],
)
def test_each_mistake_is_named_with_its_key(text, named):
    with pytest.raises(DeclarationError) as caught:
        declare(text)
    assert named in f"{caught.value.message} {caught.value.expected}"


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "declaration.md"


def sections():
    """The classes of the sections, by the heading that the page gives them."""
    named = {field.name: typing.get_type_hints(Declaration)[field.name] for field in dataclasses.fields(Declaration)}
    for name, kind in named.items():
        inner = typing.get_args(kind)[-1] if typing.get_origin(kind) is collections.abc.Mapping else kind
        options = [option for option in typing.get_args(inner) if option is not type(None)] or [inner]
        heading = f"[{name}.NAME]" if inner is not kind and options[0] is not typing.Any else f"[{name}]"
        yield heading, options[0] if dataclasses.is_dataclass(options[0]) else None


def default(field):
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "none"
    return f"`{json.dumps(field.default)}`"


def test_the_reference_lists_every_key_with_its_default_and_no_other():
    """docs/reference/declaration.md cannot lie: sections, keys and defaults are those of the code."""
    text = PAGE.read_text()
    assert re.findall(r"^## `(.+)`$", text, re.MULTILINE) == sorted([name for name, _ in sections()], key=text.index)
    for heading, kind in sections():
        part = text.split(f"## `{heading}`\n", 1)[1].split("\n## ", 1)[0]
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", part, re.MULTILINE)
        expected = [(field.name, default(field)) for field in dataclasses.fields(kind)] if kind else []
        assert rows == expected, heading


def test_every_example_of_the_reference_is_a_declaration():
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) >= 6
    for example in examples:
        declare(example)
