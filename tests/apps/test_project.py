"""A project opens from anywhere inside it; what is missing or malformed is said with the next step."""

import pytest

from truerun.adapters.keys import create_run_key
from truerun.apps.project import Project, find_declaration, open_project
from truerun.core.actor import Role
from truerun.core.errors import DeclarationError, FormatError, InputError, ProjectNotFoundError, UsageError
from truerun.core.fact import RunFinished, RunStarted
from truerun.core.run import Mode, Overhead, Verdict


def test_it_is_found_from_below(bare, monkeypatch):
    monkeypatch.chdir(bare.root / "data")
    assert find_declaration() == bare.root / "truerun.toml"
    assert open_project().root == bare.root


def test_no_project_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectNotFoundError) as caught:
        open_project()
    assert "truerun init" in caught.value.next_step
    with pytest.raises(ProjectNotFoundError, match=r"there is no absent\.toml"):
        open_project("absent.toml")


def test_the_environment_can_name_it(bare, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUERUN_CONFIG", str(bare.root / "truerun.toml"))
    assert open_project().declaration.project.name == "small"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[project]\nname = \n", FormatError, "truerun.toml:2:8: not valid TOML"),
        ("[project]\nname = 'a'\ncommand = 'b'\n[colours]\n", DeclarationError, "unknown field"),
        ("", DeclarationError, "missing field"),
        ("\udcff", FormatError, "not UTF-8"),
    ],
)
def test_a_bad_declaration_is_named(bare, text, error, message):
    (bare.root / "truerun.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(error) as caught:
        open_project(str(bare.root / "truerun.toml"))
    assert message in caught.value.message


def test_without_a_ledger_the_next_step_is_init(bare):
    with pytest.raises(UsageError) as caught:
        bare.project.history()
    assert "truerun init" in caught.value.next_step


def test_the_first_owner_is_there(small):
    assert [(person.id, person.role) for person in small.project.people().all()] == [("ana", Role.OWNER)]


def test_the_clock_follows_truerun_at(monkeypatch):
    monkeypatch.setenv("TRUERUN_AT", "2026-11-20T09:30:00Z")
    assert Project.clock() == "2026-11-20T09:30:00Z"
    monkeypatch.setenv("TRUERUN_AT", "yesterday")
    with pytest.raises(UsageError, match="TRUERUN_AT"):
        Project.clock()
    monkeypatch.delenv("TRUERUN_AT")
    assert Project.clock().endswith("Z")


def test_locks_have_names(small):
    with pytest.raises(UsageError, match="no lock has been proposed"):
        small.project.named_lock("head")
    first = small.lock().lock
    small.write("config.yaml", "seed: 2\n")
    second = small.lock().lock
    project = small.project
    assert project.head_lock() == second
    assert project.named_lock("head") == second
    assert project.named_lock(first.digest.short) == first
    assert project.named_lock(first.digest.render()) == first
    assert project.approved_lock() is None
    for name in ("approved", "zzz", ""):
        with pytest.raises(UsageError):
            project.named_lock(name)


def test_a_lock_that_is_not_stored_is_said(small):
    digest = small.lock().lock.digest
    project = small.project
    project.objects.path(digest).unlink()
    assert project.lock(digest).digest == digest, "truerun.lock still has it"
    (small.root / "truerun.lock").unlink()
    with pytest.raises(InputError, match="not stored here"):
        project.lock(digest)


def test_a_damaged_lock_file_is_said(small):
    small.write("truerun.lock", "{")
    with pytest.raises(FormatError, match="not JSON"):
        small.project.head_lock()


def test_entries_are_read_once(small):
    project = small.project
    before = project.entries()
    small.lock()
    assert project.entries()[: len(before)] == before
    assert len(project.entries()) == len(before) + 1


def test_a_run_names_its_lock_and_a_run_that_passed_approves_where_nobody_must(small):
    first = small.lock().lock
    key, project = create_run_key(), small.project
    started = RunStarted(
        run="2026-11-23-abc",
        lock=first.digest,
        mode=Mode.OBSERVE,
        command=("python", "train.py"),
        run_key=key.public_key,
        decision=None,
        findings=(),
        at="2026-11-23T09:30:00Z",
    )
    finished = RunFinished(
        run="2026-11-23-abc",
        verdict=Verdict.PASS,
        command_exit=0,
        steps=1,
        seconds=1.0,
        metrics={},
        overhead=Overhead(),
        at="2026-11-23T09:31:00Z",
    )
    project.ledger.append(started, project.signer(small.key))
    assert project.named_lock("2026-11-23-abc") == project.named_lock("2026-11") == first
    assert project.approved_lock() is None
    project.ledger.append(finished, key)
    assert project.approved_lock() == first
    small.write("truerun.toml", (small.root / "truerun.toml").read_text().replace("[data", "critical = true\n[data", 1))
    assert small.project.approved_lock() is None
