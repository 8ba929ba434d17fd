""" "No findings" is said only of what was looked at."""

from truerun.core.finding import Severity
from truerun.inspection.inspection_incomplete import check_complete


def test_what_could_not_be_told_is_a_warning_and_before_the_first_lock_a_note():
    (missing,) = check_complete("data", "the approved rows are not stored here")
    (fresh,) = check_complete("data", "no lock yet", comparable=False)
    assert missing.severity is Severity.WARNING
    assert "could not tell" in missing.message
    assert fresh.severity is Severity.NOTE


def test_a_complete_inspection_says_nothing():
    assert check_complete("data", None) == ()
