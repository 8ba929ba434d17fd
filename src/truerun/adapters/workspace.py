"""A project rebuilt in a folder of its own: the reference's inputs plus any subset of the changes that followed.

All changes give the run's own inputs byte for byte, none the reference's. Files come from the object store; what is not
locked (scripts, small assets) is copied from the project as it is. Code edits that follow each other in one file are merged
in three ways (`git merge-file`); where a later one does not merge without an earlier one, it needs it, and says so.
Does not rebuild installed packages, nor files outside the project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from truerun.adapters.config_edits import dump_config, get_key, load_config, remove_key, set_key
from truerun.adapters.files import IGNORED_FOLDERS
from truerun.adapters.objects import ObjectStore, blake3_of
from truerun.attribution.candidates import Candidate, Lever, Subset, closure, independent
from truerun.core.change import Action, ChangeKind
from truerun.core.digest import Digest
from truerun.core.errors import InputError, StorageError
from truerun.core.lock import Lock, LockedData, LockedFile

LINK_ABOVE_BYTES = 8 * 1024**2
MERGE_SECONDS = 20
Bytes = bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A rebuilt project: where it is and how its command is started there. `env` overrides variables (None removes one)."""

    folder: Path
    command: tuple[str, ...]
    env: Mapping[str, str | None]


class Workspaces:
    """
    Rebuilds *root* below *scratch* for any subset of *candidates*.

    *locks* holds every lock that a candidate names; *commands* the command lines of reference and run. `candidates` is the
    same list with the needs that merging showed. Raises InputError where something locked is not stored any more.
    """

    def __init__(
        self,
        *,
        root: Path,
        scratch: Path,
        objects: ObjectStore,
        locks: Mapping[Digest, Lock],
        reference: Lock,
        run: Lock,
        candidates: Sequence[Candidate],
        commands: tuple[Sequence[str], Sequence[str]],
        outputs: Sequence[str] = (),
    ) -> None:
        self._root, self._scratch, self._objects = root, scratch, objects
        self._locks, self._reference, self._run = locks, reference, run
        self._commands = commands
        self._outputs = tuple(path.strip("/") for path in outputs)
        self._rows: object | None = None
        self._copies: dict[Digest, int] = {}
        self.candidates = tuple(candidates)
        self.candidates = tuple(self._relaxed(candidate) for candidate in self.candidates)
        self._everything = frozenset(candidate.position for candidate in self.candidates if candidate.applies)

    def build(self, subset: Subset, name: str) -> Built:
        """The project with the changes in *subset* (and what they need) in the folder *name*, made anew."""
        target = self._scratch / name
        applied = [item for item in self.candidates if item.applies and item.position in closure(self.candidates, subset)]
        try:
            if target.exists():
                shutil.rmtree(target)
            shutil.copytree(self._template(), target, copy_function=_copy_or_link, symlinks=True)
        except OSError as error:
            raise StorageError(
                f"cannot rebuild the project in {target}: {error.strerror or error}", next_step="free some space"
            ) from error
        for path, data in self._small_files(applied).items():
            if data is not None:
                self._write(target, path, data)
        self._place_checkpoints(target, applied)
        self._place_data(target, applied)
        return Built(folder=target, command=self._command(applied, target), env=self._environment(applied, target))

    # Small files: configuration and code.

    def _small_files(self, applied: Sequence[Candidate]) -> dict[str, Bytes]:
        result: dict[str, Bytes] = {}
        for path in sorted({*self._reference.code, *self._run.code, *_paths(applied, ChangeKind.CODE)}):
            result[path] = self._code(path, applied)
        for path in sorted({*self._reference.config, *self._run.config, *_paths(applied, ChangeKind.CONFIG)}):
            result[path] = self._config(path, applied)
        declaration = self._reference.declaration
        result[declaration.path] = self._bytes(declaration)
        return result

    def _code(self, path: str, applied: Sequence[Candidate]) -> Bytes:
        mine = [item for item in applied if (item.change.kind, item.change.name) == (ChangeKind.CODE, path)]
        if mine and len(mine) == len(self._all_of(ChangeKind.CODE, path)):
            return self._bytes(self._run.code.get(path))
        content = self._bytes(self._reference.code.get(path))
        for candidate in mine:
            merged = self._edited(content, candidate)
            if merged is _CONFLICT:
                raise InputError(f"{candidate.change.title()} does not apply without the edits before it")
            content = merged  # type: ignore[assignment]
        return content

    def _edited(self, content: Bytes, candidate: Candidate) -> object:
        """*content* with the edit of *candidate* on top; `_CONFLICT` where it does not fit."""
        before = self._digest_bytes(candidate.change.before)
        after = self._digest_bytes(candidate.change.after)
        if content in (before, after):
            return after
        if content is None or before is None or after is None:
            return _CONFLICT
        return _merge(content, before, after)

    def _relaxed(self, candidate: Candidate) -> Candidate:
        """*candidate* with only those needs that it turns out to have."""
        if candidate.lever is not Lever.FILE or candidate.change.kind is not ChangeKind.CODE or not candidate.needs:
            return candidate
        base = self._bytes(self._reference.code.get(candidate.change.name))
        if self._edited(base, candidate) is not _CONFLICT:
            return independent(candidate, frozenset())
        return candidate

    def _config(self, path: str, applied: Sequence[Candidate]) -> Bytes:
        mine = [item for item in applied if (item.change.kind, item.change.name) == (ChangeKind.CONFIG, path)]
        reference, run = self._reference.config.get(path), self._run.config.get(path)
        if len(mine) == len(self._all_of(ChangeKind.CONFIG, path)):
            return self._bytes(run.file if run else None)
        content = self._bytes(reference.file if reference else None)
        if not mine:
            return content
        for candidate in mine:
            if candidate.lever is Lever.FILE:
                content = self._digest_bytes(candidate.change.after)
            elif content is not None:
                content = self._config_key(path, content, candidate)
        return content

    def _config_key(self, path: str, content: bytes, candidate: Candidate) -> bytes:
        key = candidate.change.key
        assert key is not None
        tree = load_config(content, path)
        if candidate.change.action is Action.REMOVED:
            remove_key(tree, key)
        else:
            # The value as the file holds it: dates and infinities are text in a lock.
            file = self._locks[candidate.after].config[path].file
            set_key(tree, key, get_key(load_config(self._required(file), path), key))
        return dump_config(tree, path)

    # Large files: checkpoints and data.

    def _place_checkpoints(self, target: Path, applied: Sequence[Candidate]) -> None:
        for path in sorted({*self._reference.checkpoints, *self._run.checkpoints, *_paths(applied, ChangeKind.CHECKPOINT)}):
            mine = [item for item in applied if (item.change.kind, item.change.name) == (ChangeKind.CHECKPOINT, path)]
            file = self._locks[mine[-1].after].checkpoints.get(path) if mine else self._reference.checkpoints.get(path)
            if file is not None:
                self._place(target, file)

    def _place_data(self, target: Path, applied: Sequence[Candidate]) -> None:
        for name in sorted({*self._reference.data, *self._run.data}):
            mine = [item for item in applied if (item.change.kind, item.change.name) == (ChangeKind.DATA, name)]
            reference, run = self._reference.data.get(name), self._run.data.get(name)
            if mine and len(mine) < len(self._all_of(ChangeKind.DATA, name)):
                self._place_rows(target, name, mine)
                continue
            whole = run if mine else reference
            for file in whole.files if whole else ():
                self._place(target, file)

    def _place_rows(self, target: Path, name: str, mine: Sequence[Candidate]) -> None:
        from truerun.adapters.rebuilt_rows import RowStore

        if self._rows is None:
            self._rows = RowStore(self._objects, self._scratch / "versions")
        assert isinstance(self._rows, RowStore)
        history: dict[Digest, LockedData] = {
            item.after: self._locks[item.after].data[name] for item in mine if name in self._locks[item.after].data
        }
        newest = self._run.data.get(name) or next(reversed(history.values()), None)
        if newest is None:
            return
        made = self._scratch / "mixed" / f"{name}-{'-'.join(str(item.position) for item in mine)}"
        if not made.exists():
            partial = made.with_name(made.name[:120] + f".{os.getpid()}.partial")
            self._rows.write(partial, self._reference.data.get(name), newest, mine, history)
            partial.replace(made)
        shutil.copytree(made, target, copy_function=_copy_or_link, dirs_exist_ok=True)

    def _place(self, target: Path, file: LockedFile) -> None:
        if not _is_inside(file.path):
            return  # the command reads it where it is
        place = target / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.digest in self._objects:
            _copy_or_link(str(self._pristine(file.digest)), str(place))
        else:
            self._write(target, file.path, self._required(file))

    def _pristine(self, digest: Digest) -> Path:
        """
        A file that may be linked into a workspace: never the stored object, which a script that writes to its input would
        damage, but a copy of it, made anew where such a script has changed it.
        """
        stored = self._objects.path(digest)
        if stored.stat().st_size <= LINK_ABOVE_BYTES:
            return stored
        copy = self._scratch / "pristine" / digest.value
        if digest not in self._copies or copy.stat().st_mtime_ns != self._copies[digest]:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            shutil.copyfile(stored, copy)
            self._copies[digest] = copy.stat().st_mtime_ns
        return copy

    # Command, variables, and what is not locked.

    def _command(self, applied: Sequence[Candidate], target: Path) -> tuple[str, ...]:
        changed = any(item.lever is Lever.COMMAND for item in applied)
        command = tuple(self._commands[1 if changed else 0])
        program = self._root / command[0]
        if os.sep in command[0] and not os.path.isabs(command[0]) and not (target / command[0]).exists() and program.exists():
            # A virtual environment inside the project is not copied; it is used where it is.
            return (os.path.abspath(program), *command[1:])
        return command

    def _environment(self, applied: Sequence[Candidate], target: Path) -> dict[str, str | None]:
        env: dict[str, str | None] = {}
        path = os.environ.get("PYTHONPATH")
        if path:
            env["PYTHONPATH"] = os.pathsep.join(self._moved(part, target) for part in path.split(os.pathsep))
        before, after = self._reference.environment.variables, self._run.environment.variables
        for name in sorted({*before, *after}):
            if any(self._is_variable(item, name) for item in self.candidates):
                mine = [item for item in applied if self._is_variable(item, name)]
                env[name] = mine[-1].change.after if mine else before.get(name)
        return env

    def _moved(self, part: str, target: Path) -> str:
        full = Path(part or ".").absolute()
        return str(target / full.relative_to(self._root)) if full.is_relative_to(self._root) else part

    @staticmethod
    def _is_variable(item: Candidate, name: str) -> bool:
        return item.lever is Lever.VARIABLE and item.change.key == name

    def _template(self) -> Path:
        """What is not locked, copied once."""
        template = self._scratch / "unlocked"
        if not template.exists():
            locked = {path for lock in (self._reference, self._run, *self._locks.values()) for path in _locked_paths(lock)}
            partial = self._scratch / "unlocked.partial"
            partial.mkdir(parents=True)
            self._copy_unlocked(self._root, partial, locked)
            partial.rename(template)
        return template

    def _copy_unlocked(self, source: Path, target: Path, locked: set[str]) -> None:
        for entry in sorted(os.scandir(source), key=lambda item: item.name):
            relative = Path(entry.path).relative_to(self._root).as_posix()
            if entry.name in IGNORED_FOLDERS or relative in locked or relative in self._outputs:
                continue
            if Path(entry.path) == self._scratch or (entry.is_dir() and os.path.exists(f"{entry.path}/pyvenv.cfg")):
                continue
            if entry.is_symlink():
                link = os.path.join(os.path.dirname(entry.path), os.readlink(entry.path))
                os.symlink(os.path.abspath(link), target / entry.name)
            elif entry.is_dir():
                (target / entry.name).mkdir()
                self._copy_unlocked(Path(entry.path), target / entry.name, locked)
            elif entry.is_file():
                shutil.copy2(entry.path, target / entry.name)

    # Bytes.

    def _all_of(self, kind: ChangeKind, name: str) -> list[Candidate]:
        return [item for item in self.candidates if item.applies and (item.change.kind, item.change.name) == (kind, name)]

    def _bytes(self, file: LockedFile | None) -> Bytes:
        return None if file is None else self._required(file)

    def _required(self, file: LockedFile) -> bytes:
        if file.digest in self._objects:
            return self._objects.read(file.digest)
        here = self._root / file.path
        data = here.read_bytes() if here.is_file() else b""
        if blake3_of(data) != file.digest:
            raise InputError(
                f"{file.path} as it was locked is not stored here any more",
                got=file.digest.short,
                next_step="restore .truerun/objects from a backup, or raise TRUERUN_KEEP_BYTES and lock again",
            )
        return data

    def _digest_bytes(self, text: object) -> Bytes:
        return None if text is None else self._objects.read(Digest.parse(str(text)))

    def _write(self, target: Path, path: str, data: bytes) -> None:
        if not _is_inside(path):
            raise InputError("a locked file that lies outside the project cannot be rebuilt", got=path[:80])
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        if (self._root / path).exists():
            shutil.copymode(self._root / path, place)  # a script may have to be executable


_CONFLICT = object()


def _merge(ours: bytes, base: bytes, theirs: bytes) -> object:
    """Three-way merge with `git merge-file`; `_CONFLICT` when the edits overlap or git is not there."""
    with tempfile.TemporaryDirectory(prefix="truerun-merge-") as folder:
        for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
            Path(folder, name).write_bytes(data)
        command = ["git", "merge-file", "-p", "--quiet", "ours", "base", "theirs"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=MERGE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return _CONFLICT  # without git the later edit simply needs the earlier one
    return done.stdout if done.returncode == 0 else _CONFLICT


def _paths(applied: Sequence[Candidate], kind: ChangeKind) -> set[str]:
    return {item.change.name for item in applied if item.change.kind is kind}


def _locked_paths(lock: Lock) -> set[str]:
    data = {file.path for item in lock.data.values() for file in item.files}
    return {lock.declaration.path, "truerun.lock", *lock.config, *lock.code, *lock.checkpoints, *data}


def _is_inside(path: str) -> bool:
    return not os.path.isabs(path) and ".." not in path.split("/")


def _copy_or_link(source: str, target: str) -> None:
    """A copy; of a large file a hard link, which a training script has no reason to write to."""
    if os.path.getsize(source) > LINK_ABOVE_BYTES:
        try:
            os.link(source, target)
        except OSError:
            pass  # another file system, or links are not allowed: copy
        else:
            return
    shutil.copyfile(source, target)
    shutil.copymode(source, target)
