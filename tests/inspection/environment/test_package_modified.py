"""E1: an installed library edited."""

from truerun.core.actor import Basis
from truerun.core.digest import Digest
from truerun.core.finding import Severity
from truerun.inspection.environment.package_modified import ModifiedFile, check_files

WAS, IS = Digest("sha256", "0" * 64), Digest("sha256", "1" * 64)


def modified(path: str = "torch/optim/adamw.py", **rest) -> ModifiedFile:
    return ModifiedFile(**{"distribution": "torch", "version": "2.13.0", "path": path, "expected": WAS, "observed": IS, **rest})


def test_an_edited_module_is_named_with_package_version_file_and_owner():
    """adamw.py is edited in site-packages."""
    (finding,) = check_files([modified(owner="ana", written="2026-11-19T22:10:03Z")])
    assert finding.severity is Severity.ERROR
    assert "torch/optim/adamw.py was edited after torch 2.13.0 was installed" in finding.message
    assert "2026-11-19T22:10:03Z" in finding.message
    assert finding.location.path == "torch/optim/adamw.py"
    assert (finding.actor.id, finding.actor.basis) == ("ana", Basis.FILESYSTEM)


def test_what_does_not_run_weighs_less():
    data, missing = check_files([modified("torch/README.md"), modified("torch/README.md", observed=None)])
    assert data.severity is Severity.WARNING
    assert missing.severity is Severity.NOTE


def test_a_missing_module_and_an_unreadable_one_are_errors():
    missing, unreadable = check_files([modified(observed=None), modified(observed=None, problem="Permission denied")])
    assert "is missing" in missing.message
    assert "cannot be read: Permission denied" in unreadable.message
    assert missing.severity is unreadable.severity is Severity.ERROR


def test_an_untouched_installation_is_no_finding():
    assert check_files([]) == ()
