"""`truerun.toml` is read strictly: every mistake is named with its key, and defaults are what the reference says."""

import tomllib

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
