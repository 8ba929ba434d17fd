"""Rule outputs-bias: story O1, one group is worse off while the average holds; accept twins."""

import numpy as np
import pytest

from truerun.core.declaration import OutputsSection
from truerun.core.finding import Severity
from truerun.inspection.outputs.counts import count_outputs
from truerun.inspection.outputs.outputs_bias import check_bias
from truerun.inspection.outputs.rules import check_outputs


def errors(findings):
    return {finding.subject.key for finding in findings if finding.severity is Severity.ERROR}


def test_o1_a_group_that_lost_more_than_the_others_is_named(outputs, section):
    """Attack O1: a fifth of the answers about one group are made wrong, those about the other stay."""
    findings = check_bias(outputs(spoil=lambda _, sex: sex == "f", worse=0.2), outputs("run r1"), section)
    assert errors(findings) == {"sex=f"}
    (finding,) = [f for f in findings if f.severity is Severity.ERROR]
    assert finding.evidence["widest_gap_now"] > finding.evidence["widest_gap_before"] + 0.1
    assert "accuracy of sex f fell by" in finding.message
    assert "against run r1" in finding.message


def test_o1_hidden_by_an_unchanged_average(table, section):
    """Attack O1: what one group loses the other gains, so that overall accuracy stays."""
    columns = table(accuracy=0.8)
    generator = np.random.default_rng(3)
    label, prediction = np.array(columns["label"]), np.array(columns["prediction"])
    female = np.array(columns["sex"]) == "f"
    right = label == prediction
    right[female & (generator.random(len(right)) < 0.15)] = False
    right[~female & (generator.random(len(right)) < 0.6)] = True
    spoiled = {**columns, "prediction": np.where(right, label, (label + 1) % 5).tolist()}
    current = count_outputs(spoiled, section, name="run r2")
    reference = count_outputs(columns, section, name="run r1")
    assert abs(right.mean() - (label == prediction).mean()) < 0.02
    assert "sex=f" in errors(check_bias(current, reference, section))


def test_the_accept_twin_everybody_equally_worse_is_no_bias(outputs, section):
    assert errors(check_bias(outputs(spoil=lambda *_: True, worse=0.3), outputs("run r1"), section)) == set()


@pytest.mark.parametrize("noise", range(1, 21))
def test_the_accept_twin_chance_alone_gives_no_error(outputs, section, noise):
    assert errors(check_bias(outputs(noise=noise), outputs("run r1"), section)) == set()


def test_a_gap_that_was_there_before_is_not_this_rules_business(outputs, section):
    old = outputs("run r1", spoil=lambda _, sex: sex == "f")
    assert errors(check_bias(outputs(spoil=lambda _, sex: sex == "f"), old, section)) == set()


@pytest.mark.parametrize(("group", "verb"), [("f", "fell"), ("m", "rose")])
def test_o1_decisions_turned_against_a_group(table, group, verb):
    """Attack O1: a model that refuses one group (or favours the other) more often, at the same accuracy of its labels."""
    section = OutputsSection(predictions="p.parquet", decision="approved", groups=("sex",))
    columns = table(n=3000)
    generator = np.random.default_rng(5)
    yes = generator.random(3000) < 0.5
    turned = (np.array(columns["sex"]) == group) & (generator.random(3000) < 0.4)
    now = np.where(turned, verb == "rose", yes)
    reference = count_outputs({**columns, "approved": yes.tolist()}, section, name="run r1")
    current = count_outputs({**columns, "approved": now.tolist()}, section, name="run r2")
    (finding,) = [f for f in check_bias(current, reference, section) if f.severity is Severity.ERROR]
    assert finding.subject.key == f"sex={group}"
    assert f"share of yes of sex {group} {verb} by" in finding.message
    assert errors(check_bias(reference, reference, section)) == set()


def test_too_few_examples_are_a_note(outputs, section):
    findings = check_bias(outputs(n=30, spoil=lambda _, sex: sex == "f"), outputs("run r1", n=30), section)
    assert errors(findings) == set()
    assert any("too few examples" in finding.message for finding in findings)


def test_both_rules_together_say_once_what_cannot_be_told(outputs, section):
    assert len(check_outputs(outputs(), None, section)) == 1
    findings = check_outputs(outputs(spoil=lambda label, _: label == 3), outputs("run r1"), section)
    assert {finding.rule for finding in findings if finding.severity is Severity.ERROR} == {"outputs-regressed", "outputs-bias"}
