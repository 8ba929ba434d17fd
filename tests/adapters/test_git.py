"""Git is asked, never trusted: without it, without a repository or without a commit the answer is None."""

import subprocess

import pytest

from truerun.adapters.git import Authors, current_commit, user_name


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "-q")
    commit(tmp_path, "Ana (made up)", "ana@example.org", "lr: 1\nseed: 1\n")
    commit(tmp_path, "Bo (made up)", "bo@example.org", "lr: 1\nseed: 2\n")
    return tmp_path


def git(root, *arguments):
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


def commit(root, name, email, text):
    (root / "config.yaml").write_text(text)
    git(root, "add", "config.yaml")
    git(root, "-c", f"user.name={name}", "-c", f"user.email={email}", "commit", "-q", "-m", "a change")


def test_the_author_of_a_line_and_of_a_path(repo):
    assert Authors(repo).of_line("config.yaml", 1).id == "ana@example.org"
    author = Authors(repo).of_line("config.yaml", 2)
    assert (author.name, author.commit) == ("Bo (made up)", current_commit(repo))
    assert Authors(repo).of_path("config.yaml").id == "bo@example.org"


def test_what_is_not_committed_has_no_author(repo):
    (repo / "config.yaml").write_text("lr: 1\nseed: 3\n")
    (repo / "new.py").write_text("")
    assert Authors(repo).of_line("config.yaml", 1).id == "ana@example.org"
    assert Authors(repo).of_line("config.yaml", 2) is None
    assert Authors(repo).of_path("config.yaml") is None
    assert Authors(repo).of_path("new.py") is None
    assert Authors(repo).of_line("config.yaml", 99) is None
    assert Authors(repo).of_line("absent", 1) is None


def test_without_repository_or_git_there_is_no_answer(tmp_path_factory, repo, monkeypatch):
    outside = tmp_path_factory.mktemp("outside")
    assert current_commit(outside) is None
    assert Authors(outside).of_line("config.yaml", 1) is None
    monkeypatch.setenv("PATH", "")
    for answer in (
        current_commit(repo),
        Authors(repo).of_line("config.yaml", 1),
        Authors(repo).of_path("config.yaml"),
    ):
        assert answer is None


def test_nothing_that_the_repository_names_is_executed(repo):
    """A hostile repository configures programs that git would start while it reads."""
    for key in ("core.fsmonitor", "diff.evil.textconv", "core.pager", "diff.external"):
        git(repo, "config", key, f"touch {repo}/executed; false")
    (repo / ".gitattributes").write_text("*.yaml diff=evil\n")
    assert Authors(repo).of_line("config.yaml", 1) is not None
    Authors(repo).of_path("config.yaml")
    assert current_commit(repo)
    assert not (repo / "executed").exists()


def test_the_name_git_would_use(repo):
    git(repo, "config", "user.name", "Ana (made up)")
    assert user_name(repo) == "Ana (made up)"
