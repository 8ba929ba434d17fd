"""E6: a dependency swapped, added or removed."""

import pytest

from truerun.core.change import Action, ChangeKind
from truerun.inspection.environment.package_drift import check_packages


def test_another_version_is_named_with_both(change, reference):
    (finding,) = check_packages([change(ChangeKind.ENVIRONMENT, name="torch", before="2.13.0", after="2.13.1")], reference)
    assert finding.message.startswith("torch is 2.13.1; 2.13.0 was approved on 2026-11-20 (entry 412)")
    assert finding.remedy.startswith("pip install --force-reinstall torch==2.13.0")


def test_a_rewritten_record_is_named_with_the_version_it_claims(change, reference):
    """A library is edited and its RECORD made to match: only the lock remembers."""
    digests = {"before": "blake3:" + "0" * 64, "after": "blake3:" + "1" * 64}
    (finding,) = check_packages([change(ChangeKind.ENVIRONMENT, name="torch", key="RECORD", **digests)], reference)
    assert "torch 2.13.0" in finding.message
    assert "RECORD" in finding.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"action": Action.ADDED, "after": "1.0"}, "extra 1.0 is installed"),
        ({"action": Action.REMOVED, "before": "1.0"}, "is not installed any more"),
    ],
)
def test_added_and_removed(change, reference, values, words):
    (finding,) = check_packages([change(ChangeKind.ENVIRONMENT, name="extra", **values)], reference)
    assert words in finding.message


def test_variables_are_not_packages(change, reference):
    assert check_packages([change(ChangeKind.ENVIRONMENT, name="environ", key="LR", after="1")], reference) == ()


def test_startup_files_are_not_packages(change, reference):
    """They have a rule of their own."""
    assert (
        check_packages([change(ChangeKind.ENVIRONMENT, Action.ADDED, name="zz.pth", key="startup", after="a")], reference) == ()
    )
