"""All data rules on one data set's growth, in the order in which a reader wants to hear of them."""

from __future__ import annotations

from truerun.core.finding import Finding
from truerun.inspection.data.data_duplicates import check_duplicates
from truerun.inspection.data.data_nulls import check_nulls
from truerun.inspection.data.data_range import check_range
from truerun.inspection.data.data_schema import check_schema
from truerun.inspection.data.data_set import check_set
from truerun.inspection.data.data_shift import check_shift
from truerun.inspection.data.growth import Growth
from truerun.inspection.data.label_disagreement import check_labels

_CHECKS = (check_schema, check_nulls, check_range, check_set, check_duplicates, check_labels, check_shift)


def check_growth(growth: Growth) -> tuple[Finding, ...]:
    """Every finding about the rows that are new in *growth*."""
    return tuple(finding for check in _CHECKS for finding in check(growth))
