"""All rules on a run's outputs against a reference run's."""

from __future__ import annotations

from truerun.core.declaration import OutputsSection
from truerun.core.finding import Finding
from truerun.inspection.outputs.counts import OutputCounts
from truerun.inspection.outputs.outputs_bias import check_bias
from truerun.inspection.outputs.outputs_regressed import check_regressed


def check_outputs(current: OutputCounts, reference: OutputCounts | None, section: OutputsSection) -> tuple[Finding, ...]:
    """Every finding about *current*; "could not tell" is a note and is said once."""
    regressed = check_regressed(current, reference, section)
    return regressed if reference is None else (*regressed, *check_bias(current, reference, section))
