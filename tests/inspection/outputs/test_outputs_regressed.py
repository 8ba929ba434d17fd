"""Rule outputs-regressed: story O2, a slice gets worse under a good average; accept twins and honest doubt."""

import pytest

from truerun.core.finding import Severity
from truerun.inspection.outputs.comparison import is_paired
from truerun.inspection.outputs.counts import count_outputs
from truerun.inspection.outputs.outputs_regressed import check_regressed


def errors(findings):
    return {finding.subject.key for finding in findings if finding.severity is Severity.ERROR}


@pytest.mark.parametrize("ids", [True, False])
def test_o2_a_class_that_got_worse_is_named_with_its_interval_and_rows(outputs, section, ids):
    """Attack O2: class 3 is right half as often; the other classes are as before."""
    reference = outputs("run r1", ids=ids)
    current = outputs(spoil=lambda label, _: label == 3, ids=ids)
    assert is_paired(current, reference)
    found = [f for f in check_regressed(current, reference, section) if f.subject.key == "label=3"]
    (finding,) = found
    assert finding.severity is Severity.ERROR
    assert finding.evidence["interval"][0] > 0.3
    assert finding.evidence["negative_flips"] > 100
    assert "recall of label 3 is 0.4" in finding.message
    assert "in run r1" in finding.message
    assert all(row < 2000 for row in finding.location.rows)
    assert errors(check_regressed(current, reference, section)) <= {"label=3", "overall", "sex=f", "sex=m"}


def test_the_accept_twin_the_same_outputs_give_nothing(outputs, section):
    assert check_regressed(outputs(), outputs("run r1"), section) == ()


@pytest.mark.parametrize("noise", range(1, 21))
def test_the_accept_twin_a_rerun_that_differs_by_chance_gives_no_error(outputs, section, noise):
    """Twenty reruns in which 2 % of the examples changed sides at random: no error in any of them."""
    assert errors(check_regressed(outputs(noise=noise), outputs("run r1"), section)) == set()


def test_a_better_run_gives_nothing(outputs, section):
    assert check_regressed(outputs(accuracy=0.95), outputs("run r1"), section) == ()


def test_everything_worse_is_first_said_overall(outputs, section):
    findings = check_regressed(outputs(spoil=lambda *_: True, worse=0.3), outputs("run r1"), section)
    assert findings[0].subject.key == "overall"
    assert errors(findings) == {"overall", "sex=f", "sex=m", *(f"label={n}" for n in range(5))}


def test_too_few_examples_are_a_note_and_never_an_error(outputs, section):
    """Thirty examples: class 3 fell far, but six examples cannot show it."""
    findings = check_regressed(outputs(n=30, spoil=lambda label, _: label == 3), outputs("run r1", n=30), section)
    assert errors(findings) == set()
    assert any("too few examples" in finding.message for finding in findings)


def test_other_examples_need_more_of_them_and_still_tell(outputs, section):
    """The evaluation set was drawn anew, so examples cannot be matched."""
    reference = outputs("run r1", seed=0, ids=False)
    current = outputs(seed=1, spoil=lambda label, _: label == 3, ids=False)
    assert not is_paired(current, reference)
    found = check_regressed(current, reference, section)
    assert "label=3" in errors(found)
    assert found[0].evidence["negative_flips"] is None
    assert errors(check_regressed(outputs(seed=1, ids=False), reference, section)) == set()


def test_shuffled_rows_are_matched_by_id(table, section):
    columns = table()
    backwards = {name: values[::-1] for name, values in columns.items()}
    reference = count_outputs(columns, section, name="run r1")
    current = count_outputs(backwards, section, name="run r2")
    assert is_paired(current, reference)
    assert check_regressed(current, reference, section) == ()


def test_ids_of_other_examples_are_not_matched(table, section):
    reference = count_outputs(table(), section, name="run r1")
    other = count_outputs({**table(), "id": [f"x{i}" for i in range(2000)]}, section, name="run r2")
    assert not is_paired(other, reference)


@pytest.mark.parametrize("columns", [{}, {"label": [1]}, {"label": [None], "prediction": [None]}])
def test_what_cannot_be_judged_is_a_note(outputs, section, columns):
    (finding,) = check_regressed(count_outputs(columns, section, name="run r2"), outputs("run r1"), section)
    assert finding.severity is Severity.NOTE
    assert finding.message.startswith("could not tell")


def test_without_a_reference_it_says_so(outputs, section):
    (finding,) = check_regressed(outputs(), None, section)
    assert finding.severity is Severity.NOTE
    assert "--against" in finding.message


def test_a_class_that_is_no_longer_evaluated_is_said(table, outputs, section):
    columns = table()
    kept = [i for i, label in enumerate(columns["label"]) if label != 3]
    current = count_outputs({name: [values[i] for i in kept] for name, values in columns.items()}, section, name="run r2")
    assert any(
        "examples of label 3 and this run has none" in f.message for f in check_regressed(current, outputs("run r1"), section)
    )
