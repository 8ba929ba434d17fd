"""C2: a value overridden on the command line, the file untouched."""

import pytest

from truerun.inspection.config.command_drift import check_command


def test_an_added_argument_is_named(reference):
    """`--lr 0.03` is put behind the declared command."""
    given = ["python", "train.py", "--config", "config.yaml", "--lr", "0.03"]
    (finding,) = check_command(given, reference, "truerun.toml")
    assert "--lr 0.03 added" in finding.message
    assert finding.evidence["differences"] == ["--lr 0.03 added"]
    assert finding.remedy == "truerun run -- python train.py --config config.yaml"


@pytest.mark.parametrize("interpreter", ["python", "python3", "python3.11", "/opt/venv/bin/python"])
def test_the_declared_command_is_no_finding_whatever_the_path_of_python(reference, interpreter):
    assert check_command([interpreter, "train.py", "--config", "config.yaml"], reference, "truerun.toml") == ()


def test_another_file_and_a_missing_argument_are_both_named(reference):
    (finding,) = check_command(["python", "other.py"], reference, "truerun.toml")
    assert "other.py instead of" in finding.message or "left out" in finding.message


def test_an_argument_with_spaces_stays_one_argument(reference):
    """The differences are quoted as a shell would, so that they can be read back."""
    (finding,) = check_command(["python", "train.py", "--config", "config.yaml", "--note", "a b"], reference, "truerun.toml")
    assert "--note 'a b' added" in finding.message
