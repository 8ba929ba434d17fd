"""The project every story starts from: real data, a real training script, people with SSH keys, an approved lock.

Everything is done as a user would: `truerun` in a subprocess of the project's own virtual environment, `git`, an editor.
All people and addresses are made up.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from attacks.package import create_environment, site_packages

OWNER, MAINTAINER, MENTOR, ENGINEER, TRAINEE = "olga", "marek", "mina", "emil", "tomas"
PEOPLE = {
    OWNER: ("Olga Example", "owner", None),
    MAINTAINER: ("Marek Example", "maintainer", None),
    MENTOR: ("Mina Example", "maintainer", None),
    ENGINEER: ("Emil Example", "engineer", None),
    TRAINEE: ("Tomas Example", "trainee", MENTOR),
}
CONTRIBUTORS = ("ana", "bo", "chen", "dora", ENGINEER, TRAINEE)
BASE = Path(__file__).parent / "base"
COMMAND = ("python", "train.py", "--config", "config.yaml")
TRUERUN = (sys.executable, "-c", "from truerun.apps.cli.main import main; main()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command answered: exit code, both streams, wall seconds; `data` is its JSON output, where it gave some."""

    code: int
    out: str
    err: str
    seconds: float
    data: Any = None

    def text(self) -> str:
        return f"{self.out}\n{self.err}".strip()


class StoryError(Exception):
    """A story could not be told: a step that must succeed did not. Not a judgement of what was planted."""


@dataclass(frozen=True, slots=True)
class Project:
    """A training project in `home/project`, with its virtual environment and its people's keys beside it."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "project"

    @property
    def site(self) -> Path:
        return site_packages(self.home / "env")

    @property
    def canary(self) -> Path:
        """A file that planted payloads would write: if it exists, something that was only to be looked at was run."""
        return self.home / "canary"

    def key(self, person: str) -> Path:
        return self.home / "keys" / person

    def public_key(self, person: str) -> Path:
        return self.home / "keys" / f"{person}.pub"

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of commands: the project's interpreter first, nothing of the real user's keys or settings."""
        kept = {name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL", "TMPDIR", "TRUERUN_CACHE")}
        folder = self.home / "env"
        return {
            **kept,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(folder),
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            **(more or {}),
        }

    def command(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 300) -> Result:
        """Run any command in the project."""
        began = time.monotonic()
        done = subprocess.run(
            words,
            cwd=self.root,
            env=self.variables(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, seconds=time.monotonic() - began)

    def truerun(self, *words: str, env: Mapping[str, str] | None = None, key: str | None = None, timeout: float = 300) -> Result:
        """Run `truerun WORDS` with the project's interpreter; *key* names the person whose key signs."""
        signing = {} if key is None else {"TRUERUN_KEY": str(self.key(key))}
        python = str(self.home / "env" / "bin" / "python")
        done = self.command(python, *TRUERUN[1:], *words, env={**signing, **(env or {})}, timeout=timeout)
        data = None
        if "json" in words:
            try:
                data = json.loads(done.out)
            except ValueError:
                data = None
        return Result(code=done.code, out=done.out, err=done.err, seconds=done.seconds, data=data)

    def must(
        self, *words: str, key: str | None = None, env: Mapping[str, str] | None = None, codes: tuple[int, ...] = (0,)
    ) -> Result:
        """As `truerun`, for steps that must succeed; raises StoryError."""
        done = self.truerun(*words, key=key, env=env)
        if done.code not in codes:
            raise StoryError(f"truerun {' '.join(words)}: exit {done.code}\n{done.text()}")
        return done

    def commit(self, person: str, message: str) -> None:
        """Commit everything as *person*."""
        name = PEOPLE[person][0]
        identity = ("-c", f"user.name={name}", "-c", f"user.email={person}@example.org", "-c", "commit.gpgsign=false")
        for words in (("add", "-A"), ("commit", "-q", "--allow-empty", "-m", message)):
            done = self.command("git", *identity, *words)
            if done.code:
                raise StoryError(f"git {' '.join(words)}: {done.text()}")

    def lock(self, person: str, message: str = "change") -> None:
        """*person* locks the working tree and commits it."""
        self.must("lock", "--note", message, key=person)
        self.commit(person, message)

    def approve(self, person: str) -> None:
        self.must("approve", "--reason", "looked at it", key=person)

    def agree(self, author: str, message: str = "change") -> None:
        """*author* proposes the working tree and the people the built-in policy wants say yes."""
        self.lock(author, message)
        for person in {TRAINEE: (MENTOR,), MAINTAINER: (OWNER,)}.get(author, (MAINTAINER,)):
            self.approve(person)

    def run(
        self,
        *words: str,
        mode: str | None = "enforce",
        env: Mapping[str, str] | None = None,
        key: str = ENGINEER,
        options: tuple[str, ...] = (),
    ) -> Result:
        """`truerun run -- WORDS` (default: the declared command); `data` is the result it wrote with `--output`."""
        output = self.home / "result.json"
        output.unlink(missing_ok=True)
        chosen = () if mode is None else ("--mode", mode)
        done = self.truerun("run", *chosen, "--output", str(output), *options, "--", *(words or COMMAND), key=key, env=env)
        data = json.loads(output.read_text()) if output.exists() else None
        return Result(code=done.code, out=done.out, err=done.err, seconds=done.seconds, data=data)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> int:
        """Replace the one occurrence of *old* in *path*; return its line, from 1."""
        text = self.read(path)
        if text.count(old) != 1:
            raise StoryError(f"{path} holds {old!r} {text.count(old)} times")
        self.write(path, text.replace(old, new))
        return text[: text.index(old)].count("\n") + 1

    def table(self, name: str = "train") -> pl.DataFrame:
        return pl.read_parquet(self.root / "data" / f"{name}.parquet")

    def save_table(self, table: pl.DataFrame, name: str = "train") -> None:
        table.write_parquet(self.root / "data" / f"{name}.parquet")

    def spare(self) -> pl.DataFrame:
        """Good rows that are not in the project yet, without a contributor."""
        return pl.read_parquet(self.home / "spare.parquet")

    def copy(self, home: Path) -> Project:
        """The same project somewhere else, with its history."""
        shutil.copytree(self.home, home, symlinks=True)
        return Project(home)


def build(home: Path, seed: int) -> Project:
    """Make the project in *home*: files, environment, people, and a first lock that is approved."""
    project = Project(home)
    draw = random.Random(f"project {seed}")
    (home / "keys").mkdir(parents=True)
    create_environment(home / "env")
    shutil.copytree(BASE, project.root)
    project.replace("config.yaml", "seed: 7", f"seed: {draw.randrange(1, 10_000)}")
    project.replace("config.yaml", "hidden: 48", f"hidden: {draw.choice((32, 48, 64))}")
    (project.root / ".gitignore").write_text(".truerun/\n__pycache__/\ncheckpoints/\npredictions.parquet\n")
    _write_data(project, draw)
    _write_weights(project, draw)
    for person in PEOPLE:
        make_key(project, person)
    project.command("git", "init", "-q", "-b", "main")
    _introduce(project)
    project.lock(ENGINEER, "first lock")
    project.approve(MAINTAINER)
    return project


def build_ledger(project: Project, home: Path) -> Project:
    """The same files and the same people with the same keys, in *home*, with a ledger of its own that knows nothing yet."""
    other = project.copy(home)
    shutil.rmtree(other.root / ".truerun")
    (other.root / "truerun.lock").unlink()
    _introduce(other)
    return other


def make_key(project: Project, name: str) -> Path:
    """An ed25519 key without passphrase for *name*."""
    path = project.key(name)
    done = project.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@example.org", "-f", str(path))
    if done.code:
        raise StoryError(f"ssh-keygen: {done.text()}")
    return path


def add_person(project: Project, name: str, role: str, signer: str = OWNER, mentor: str | None = None) -> Result:
    """`truerun people add`; the key must exist already."""
    full = PEOPLE.get(name, (f"{name} (made up)",))[0]
    words = ["people", "add", name, "--name", full, "--role", role, "--key-file", str(project.public_key(name))]
    return project.truerun(*words, *(("--mentor", mentor) if mentor else ()), "--key", str(project.key(signer)))


def _introduce(project: Project) -> None:
    project.must("init", "--key", str(project.key(OWNER)), "--id", OWNER, "--name", PEOPLE[OWNER][0], "--yes")
    for person, (_, role, mentor) in PEOPLE.items():
        if person != OWNER:
            done = add_person(project, person, role, mentor=mentor)
            if done.code:
                raise StoryError(f"people add {person}: exit {done.code}\n{done.text()}")


def _write_data(project: Project, draw: random.Random) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    names = [f"p{number}" for number in range(64)]
    order = list(range(len(digits.target)))
    draw.shuffle(order)
    table = pl.DataFrame(digits.data[order], schema=names).with_columns(pl.Series("digit", digits.target[order].astype("int64")))
    weights = [draw.uniform(0.6, 1.6) for _ in CONTRIBUTORS]
    added = pl.Series("added_by", draw.choices(CONTRIBUTORS, weights, k=len(order)))
    (project.root / "data").mkdir()
    project.save_table(table.with_columns(added)[:1150])
    project.save_table(table.with_columns(added)[1150:1450], "holdout")
    table[1450:].write_parquet(project.home / "spare.parquet")


def _write_weights(project: Project, draw: random.Random) -> None:
    done = project.command("python", "-c", INITIAL.format(seed=draw.randrange(10_000)))
    if done.code:
        raise StoryError(f"initial weights: {done.text()}")


INITIAL = """
import os, torch, yaml
from model import Digits
torch.manual_seed({seed})
os.makedirs("weights")
torch.save(Digits(yaml.safe_load(open("config.yaml"))["model"]["hidden"]).state_dict(), "weights/init.pt")
"""
