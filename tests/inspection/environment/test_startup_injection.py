"""E3: code that runs before the training script's first line."""

from truerun.core.digest import digest_bytes
from truerun.core.finding import Severity
from truerun.inspection.environment.startup_injection import Startup, StartupFile, check_startup, import_lines


def made(path: str, text: str = "", owner: str | None = None) -> StartupFile:
    return StartupFile(path=path, name=path.rpartition("/")[2], text=text, digest=digest_bytes(text.encode()), owner=owner)


def test_a_pth_with_an_import_line_is_named_with_its_line():
    """zz.pth appears in site-packages; its third line imports."""
    file = made("site-packages/zz.pth", "# tools\n/opt/tools\nimport os; os.nice(5)\n")
    (finding,) = check_startup(Startup(path_files=(file,)))
    assert (finding.location.path, finding.location.line) == ("site-packages/zz.pth", 3)
    assert "import os; os.nice(5)" in finding.message
    assert finding.severity is Severity.ERROR


def test_a_pth_of_a_distribution_and_one_that_only_names_folders_are_no_findings():
    """Accept twins: setuptools' own .pth, whose hash RECORD knows, and an editable install."""
    known = made("site-packages/distutils-precedence.pth", "import os; ...", "setuptools")
    editable = made("site-packages/__editable__.x.pth", "/home/someone/x/src\n")
    assert check_startup(Startup(path_files=(known, editable))) == ()


def test_only_what_site_executes_counts_as_an_import_line():
    """site.py runs lines that begin with `import` and a space or a tab; nothing else."""
    assert import_lines("important\nimport\tx\n import y\nimport z\n") == [(2, "import\tx"), (4, "import z")]


def test_sitecustomize_shadows_and_pythonstartup():
    startup = Startup(
        custom=(made("own/sitecustomize.py"),),
        shadows=(("own/yaml", "yaml"),),
        startup="own/rc.py",
        bundled=("lib/sitecustomize.py",),
    )
    custom, bundled, shadow, variable = check_startup(startup)
    assert custom.location.path == "own/sitecustomize.py"
    assert bundled.severity is Severity.NOTE
    assert "PYTHONPATH" in shadow.message
    assert shadow.subject.key == "yaml"
    assert variable.severity is Severity.WARNING


def test_what_the_approved_lock_lists_is_no_finding_until_it_changes():
    """Accept twin: a site's own .pth was there when the lock was approved; one edited since is named."""
    file = made("site-packages/company.pth", "import company_certificates\n")
    assert check_startup(Startup(path_files=(file,)), {"company.pth": file.digest}) == ()
    edited = made("site-packages/company.pth", "import company_certificates, os\n")
    assert len(check_startup(Startup(path_files=(edited,)), {"company.pth": file.digest})) == 1
