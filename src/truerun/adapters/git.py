"""What git knows: the commit checked out, who wrote a line, who last changed a path. Absent git or repository: None.

Only reads. Hooks, file-system monitors, external diffs and text conversion are switched off. Clean filters that the
reader's own git configuration names (git-lfs) run as with any git command; a cloned repository cannot bring any.
"""

from __future__ import annotations

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 10
_SAFE = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "-c", "log.showSignature=false"),
    *("-c", "diff.external=", "-c", "core.quotePath=false", "--no-optional-locks", "--no-pager"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """A commit's author as the commit claims: unsigned, so a hint and no proof."""

    name: str
    email: str
    commit: str

    @property
    def id(self) -> str:
        """The email address, else the name."""
        return self.email or self.name


def current_commit(root: Path) -> str | None:
    """The commit checked out at *root*, or None without a repository or a commit."""
    out = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return out.strip() or None if out is not None else None


class Authors:
    """Who wrote what, asked of the repository around *root*; where there is none, one question finds that out."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @functools.cached_property
    def _modified(self) -> frozenset[str] | None:
        """Tracked paths (relative to root) that differ from the last commit; None without a repository or a commit."""
        out = _git(self._root, "diff", "--name-only", "--relative", "--no-ext-diff", "--no-textconv", "-z", "HEAD")
        return frozenset(out.split("\0")) if out is not None else None

    def of_line(self, path: str, line: int) -> Author | None:
        """Who wrote *line* (from 1) of *path* as it is now; None while that line is not committed."""
        if self._modified is None:
            return None
        out = _git(self._root, "blame", "--porcelain", "--no-textconv", "-L", f"{line},{line}", "--", path)
        if not out or not out.split(" ", 1)[0].strip("0"):
            return None
        fields = dict(entry.partition(" ")[::2] for entry in out.split("\n")[1:] if entry and not entry.startswith("\t"))
        name, email = fields.get("author", ""), fields.get("author-mail", "").strip("<>")
        return Author(name=name, email=email, commit=out.split(" ", 1)[0])

    def of_path(self, path: str) -> Author | None:
        """Author of the last commit that touched *path*; None when there is none or *path* has changed since."""
        if self._modified is None or path in self._modified:
            return None
        out = _git(self._root, "log", "-1", "--format=%H%x00%an%x00%ae", "--no-textconv", "--no-ext-diff", "--", path)
        parts = out.strip().split("\0") if out else []
        return Author(name=parts[1], email=parts[2], commit=parts[0]) if len(parts) == 3 else None


def _git(root: Path, *arguments: str) -> str | None:
    environment = {
        **os.environ,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EXTERNAL_DIFF": "",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *_SAFE, "-C", str(root), *arguments],
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        # No git, or one that hangs: what it knows is a hint that the record can do without.
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def user_name(root: Path) -> str | None:
    """The name that git would put into a commit made at *root*, or None."""
    out = _git(root, "config", "--get", "user.name")
    return out.strip() or None if out is not None else None
