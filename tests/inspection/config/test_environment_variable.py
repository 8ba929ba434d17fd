"""C2: a value overridden by an environment variable, the file untouched."""

from truerun.core.change import Action, ChangeKind
from truerun.inspection.config.environment_variable import VariableRead, check_variables

READS = [VariableRead(name="LR", path="train.py", line=31), VariableRead(name="LR", path="train.py", line=90)]


def test_a_variable_the_code_reads_is_named_where_it_is_first_read(change, reference):
    """LR=0.03 is exported before the run; train.py reads it at line 31."""
    changed = change(ChangeKind.ENVIRONMENT, name="environ", key="LR", before=None, after="0.03")
    (finding,) = check_variables([changed], reference, READS)
    assert (finding.location.path, finding.location.line) == ("train.py", 31)
    assert "LR is 0.03; it was unset" in finding.message
    assert finding.actor is None
    assert finding.remedy == "unset LR"


def test_a_variable_that_is_gone_is_named_too(change, reference):
    changed = change(ChangeKind.ENVIRONMENT, Action.REMOVED, name="environ", key="SEED", before="7", after=None)
    (finding,) = check_variables([changed], reference, [])
    assert "SEED is not set; it was 7" in finding.message
    assert finding.remedy == "export SEED=7"


def test_packages_are_not_variables(change, reference):
    assert check_variables([change(ChangeKind.ENVIRONMENT, name="torch", before="1", after="2")], reference, READS) == ()
