"""Inspection of a real folder: the rules get what they need, and nothing that cannot be read hides the rest."""

from __future__ import annotations

import marshal
import os
import pickle
import py_compile
import sys
from pathlib import Path

import pytest

from truerun.apps.inspecting import find_reference, inspect, inspect_for_run, inspect_kinds
from truerun.apps.locking import resolve
from truerun.core.actor import Basis
from truerun.core.finding import Severity

# The interpreter that runs the tests; what else is on PATH may carry start-up files of its own.
ENVIRON = {"PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}


@pytest.fixture
def small(small, monkeypatch):
    """The small project, locked once."""
    monkeypatch.setenv("PATH", ENVIRON["PATH"])
    small.lock("first")
    return small


def findings(small, *kinds, environ=ENVIRON):
    project = small.project
    kinds = kinds or ("data", "config", "code", "environment", "weights")
    return inspect(project, resolve(project, environ), find_reference(project), kinds, environ=environ)


class System:
    def __reduce__(self):
        return os.system, ("false",)


def test_an_untouched_project_has_no_findings(small):
    """Accept twin of everything below."""
    assert findings(small) == ()
    assert inspect_for_run(small.project, resolve(small.project, ENVIRON), ["python", "train.py"], environ=ENVIRON) == ()


def test_a_changed_key_not_locked_yet(small):
    """C1: the file says ten times the learning rate; the proposal is the reference, as nothing is approved yet."""
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    (finding,) = findings(small, "config")
    assert (finding.rule, finding.subject.key, finding.location.line) == ("config-drift", "optimizer.lr", 2)
    assert "0.003 was proposed on" in finding.message
    assert finding.actor.basis is Basis.FILESYSTEM


def test_a_reformatted_file_is_no_finding(small):
    """C5: order, comments and spelling of the same values."""
    small.write("config.yaml", "# tidy\nseed: 1\noptimizer: {lr: 3.0e-3}\n")
    assert findings(small) == ()


def test_a_variable_that_the_code_reads(small):
    """C2: LR_SCALE is exported; train.py reads it on line 2."""
    (finding,) = findings(small, "config", environ={**ENVIRON, "LR_SCALE": "10"})
    assert (finding.rule, finding.location.path, finding.location.line) == ("environment-variable", "train.py", 2)


def test_a_secret_never_shows(small):
    (finding,) = findings(small, "config", environ={**ENVIRON, "HF_TOKEN": "hunter2"})
    assert "hunter2" not in str(finding)


def test_an_edited_script_is_named_with_its_line(small):
    """E7: one line added at the end."""
    text = (small.root / "train.py").read_text()
    small.write("train.py", text + "scale = 2\n")
    (finding,) = findings(small, "code")
    assert (finding.rule, finding.location.line) == ("code-drift", text.count("\n") + 1)


def test_bytecode_that_is_not_its_sources(small):
    """E2: the .pyc beside train.py is rewritten, time and size in its header fit the source."""
    source = small.root / "train.py"
    compiled = Path(py_compile.compile(str(source), doraise=True))
    assert findings(small, "environment") == ()
    code = compile("scale = 2\n", str(source), "exec")
    compiled.write_bytes(compiled.read_bytes()[:16] + marshal.dumps(code))
    (finding,) = findings(small, "environment")
    assert finding.rule == "bytecode-modified"
    assert finding.location.path.startswith("__pycache__/train.")


def test_an_overriding_argument(small):
    """C2: the declared command with one more argument."""
    project = small.project
    (finding,) = inspect_for_run(project, resolve(project, ENVIRON), ["python", "train.py", "--lr", "1"], environ=ENVIRON)
    assert finding.rule == "command-drift"


def test_a_pickle_among_the_weights_is_read_and_never_loaded(small):
    """K1: the declared input checkpoint would call os.system."""
    (small.root / "weights").mkdir()
    (small.root / "weights" / "init.pt").write_bytes(pickle.dumps(System()))
    text = (small.root / "truerun.toml").read_text()
    small.write("truerun.toml", text + '\n[checkpoints]\ninput = ["weights/init.pt"]\n')
    found = [finding for finding in findings(small, "weights") if finding.rule == "unsafe-checkpoint"]
    assert [finding.severity for finding in found] == [Severity.CRITICAL]
    assert found[0].evidence["global"] == "posix.system"
    assert found[0].actor.basis is Basis.FILESYSTEM, "the file is new, so that whoever wrote it can say more"


def test_added_rows_name_who_added_them_and_who_proposed_them(small):
    """D2: bo adds rows a thousand times too large; ana locks them after an approved state."""
    ordinary = [f"{i % 10 + i / 100:.2f},{'cat' if i % 2 else 'dog'},{'ana' if i % 3 else 'bo'}" for i in range(90)]
    small.rows("x,label,added_by", *ordinary)
    small.lock("data")
    small.rows("x,label,added_by", *ordinary, *[f"{1000 * i}.5,cat,bo" for i in range(5, 17)])
    found = [finding for finding in findings(small, "data") if finding.rule == "data-range"]
    assert [finding.actor.id for finding in found] == ["bo"]
    assert found[0].location.rows == tuple(range(90, 102))
    # A second look at the same rows is answered from the cache, with the same findings.
    assert findings(small, "data") == findings(small, "data")


def test_honest_rows_are_no_finding(small):
    """Accept twin: more rows of the same kind. That they are not approved yet is `data-drift`'s matter; nothing else is said."""
    rows = [f"{i % 10 + i / 100:.2f},{'cat' if i % 2 else 'dog'},{'ana' if i % 3 else 'bo'}" for i in range(120)]
    small.rows("x,label,added_by", *rows[:100])
    small.lock("data")
    small.rows("x,label,added_by", *rows)
    found = [finding for finding in findings(small, "data") if finding.severity is not Severity.NOTE]
    assert {finding.rule for finding in found} == {"data-drift"}


def test_rows_that_cannot_be_compared_are_said_and_hide_nothing(small):
    """The approved rows were cleaned out of the store; configuration is inspected all the same."""
    lock = find_reference(small.project).lock
    small.project.objects.path(lock.data["train"].files[0].digest).unlink()
    small.rows("x,label,added_by", "1,cat,ana", "2,dog,bo", "9,dog,bo")
    small.write("config.yaml", "optimizer:\n  lr: 0.03\nseed: 1\n")
    assert {finding.rule for finding in findings(small)} == {"inspection-incomplete", "config-drift"}


def test_before_the_first_lock_what_needs_one_says_so(bare):
    """No ledger: configuration, code and data have nothing to be compared with; the environment has RECORD."""
    project = bare.project
    reports = inspect_kinds(project, resolve(project, ENVIRON), find_reference(project), environ=ENVIRON)
    untold = {report.kind for report in reports if report.could_not_tell}
    assert untold == {"data", "config", "code"}


@pytest.mark.parametrize("kind", ["data", "config", "code", "environment", "weights"])
def test_each_kind_says_what_it_looked_at(small, kind):
    project = small.project
    (report,) = inspect_kinds(project, resolve(project, ENVIRON), find_reference(project), [kind], environ=ENVIRON)
    assert report.kind == kind
    assert report.looked_at


def test_rows_that_several_people_brought_name_nobody(small):
    """One person's rows were proposed, another's are new: the newest proposal's signer is not named for both."""
    ordinary = [f"{i % 10 + i / 100:.2f},{'cat' if i % 2 else 'dog'},ana" for i in range(60)]
    small.rows("x,label,added_by", *ordinary)
    small.lock("data")
    reference = find_reference(small.project)
    small.rows("x,label,added_by", *ordinary, "3.5,cat,ana")
    small.lock("one row more")
    small.rows("x,label,added_by", *ordinary, "3.5,cat,ana", "4.5,dog,bo")
    resolved = resolve(small.project, {"PATH": os.environ["PATH"]})
    (found,) = [item for item in inspect(small.project, resolved, reference, ("data",)) if item.rule == "data-drift"]
    assert "contributed by ana" in found.message
    assert "contributed by bo" in found.message
    assert (found.actor, found.location.entry) == (None, None)
