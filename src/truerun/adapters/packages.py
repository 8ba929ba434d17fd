"""The interpreter a command would use and what is installed for it, found by reading alone: it is never executed.

What is locked of a distribution is its version and a digest of its RECORD (PEP 376, PEP 427) that is the same in every
environment: paths and hashes of the installed files, sorted, without what the installer writes for itself and without
scripts beside the environment's interpreter, whose first line names the environment. Reading RECORD says what the files
should be; whether they are is for `inspection/` to check.
"""

from __future__ import annotations

import ast
import csv
import io
import os
import platform
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from truerun.adapters.files import blake3_of, read_bounded
from truerun.adapters.statcache import StatCache
from truerun.core.digest import Digest, digest_value
from truerun.core.errors import FormatError, InputError, UsageError
from truerun.core.lock import LockedPackage

MAX_RECORD_BYTES = 64 * 1024 * 1024
MAX_SCRIPT_BYTES = 256 * 1024
MAX_VARIABLE_LENGTH = 4096
SCAN_VERSION = 1
_INSTALLER_FILES = frozenset(
    {"INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json", "uv_cache.json", "uv_build.json"}
)
_PYTHON = re.compile(r"python(\d+(\.\d+)?)?")
_LAUNCHERS = frozenset({"torchrun", "accelerate", "deepspeed", "horovodrun", "composer"})
# These start the Python of the project's own environment, whatever the PATH says.
_RUNNERS = frozenset({"uv", "poetry", "pdm"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})
_SHELL_TEXT = re.compile(r"-[a-z]*c")
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist-info|egg-info)")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
# Who and where, not what: these differ between people and ranks of the same job, and launchers set them.
_IDENTITY = re.compile(
    r"HOME|USER|LOGNAME|PWD|HOSTNAME|TMPDIR|PATH|TERM|SHELL|RANK|LOCAL_RANK|GROUP_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE"
    r"|MASTER_ADDR|MASTER_PORT|TORCHELASTIC_.*|SLURM_.*|TRUERUN_.*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """An interpreter: its path as the command finds it, its version, and the folders its distributions lie in."""

    path: Path
    version: str
    site_packages: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One installed distribution: normalised name (PEP 503), version, the folder it lies in, and its metadata folder."""

    name: str
    version: str
    location: Path
    metadata: Path


def find_interpreter(command: str, root: Path, environ: Mapping[str, str]) -> Interpreter:
    """
    The Python that *command* would use: named in it, in the first line of a launcher or in a shell script; else ours.

    Raises UsageError for a command that does not parse.
    """
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        raise UsageError(f"the command does not parse: {error}", got=command[:80], next_step="correct project.command") from error
    path = _from_words(words, root, environ) or Path(sys.executable)
    return _describe(path)


def _from_words(words: Sequence[str], root: Path, environ: Mapping[str, str], depth: int = 0) -> Path | None:
    for position, word in enumerate(words):
        name = os.path.basename(word)
        if _PYTHON.fullmatch(name):
            return _which(word, root, environ)
        if name in _RUNNERS and (root / ".venv" / "bin" / "python").is_file():
            return root / ".venv" / "bin" / "python"
        if _SHELL_TEXT.fullmatch(word) and os.path.basename(words[position - 1]) in _SHELLS and depth < 3:
            return _from_words(_split(" ".join(words[position + 1 : position + 2])), root, environ, depth + 1)
        script = _which(word, root, environ) if name in _LAUNCHERS or word.endswith(".sh") else None
        if script is None and word.endswith(".sh") and (root / word).is_file():
            script = root / word
        if script is not None and depth < 3:
            return _from_script(script, root, environ, depth)
    return None


def _from_script(script: Path, root: Path, environ: Mapping[str, str], depth: int) -> Path | None:
    """The interpreter of a launcher's first line, or the one the last Python line of a shell script names."""
    lines = read_bounded(script, MAX_SCRIPT_BYTES).decode("utf-8", "replace").split("\n")
    first = lines[0].removeprefix("#!").split() if lines[0].startswith("#!") else []
    for word in first:
        if _PYTHON.fullmatch(os.path.basename(word)):
            return _which(word, root, environ)
    found = (_from_words(_split(line), root, environ, depth + 1) for line in reversed(lines))
    return next((path for path in found if path is not None), None)


def _split(line: str) -> list[str]:
    """The words of a shell's line; none of a line that only a shell can read (an open quote), which names nothing to us."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def _which(word: str, root: Path, environ: Mapping[str, str]) -> Path | None:
    if "/" in word:
        path = root / word
        return path if path.is_file() else None
    found = shutil.which(word, path=environ.get("PATH"))
    if found is None:
        return None
    path = Path(found)
    return _behind_shim(path, root, environ) if path.parent.name == "shims" else path


def _behind_shim(shim: Path, root: Path, environ: Mapping[str, str]) -> Path:
    """The file that a pyenv shim stands for, by pyenv's order: PYENV_VERSION, .python-version here or above, its own setting."""
    home = shim.parent.parent
    files = [folder / ".python-version" for folder in (root, *root.parents)] + [home / "version"]
    named = environ.get("PYENV_VERSION") or next(
        (read_bounded(file, 4096).decode("utf-8", "replace") for file in files if file.is_file()), ""
    )
    for version in named.replace(":", " ").split():
        if re.fullmatch(r"[\w.-]+", version):
            # `3.11` means the newest 3.11.x; an exact name comes first.
            for folder in (home / "versions" / version, *sorted((home / "versions").glob(f"{version}.*"), reverse=True)):
                if (folder / "bin" / shim.name).is_file():
                    return folder / "bin" / shim.name
    return shim


def _describe(path: Path) -> Interpreter:
    """What the files around the interpreter at *path* say; links are followed only to tell the version."""
    real = Path(os.path.realpath(path))
    prefix = Path(os.path.abspath(path)).parent.parent
    settings = _venv_settings(prefix)
    if settings is None:
        prefix = real.parent.parent
    version = platform.python_version() if real == Path(os.path.realpath(sys.executable)) else (settings or {}).get("version")
    short = ".".join(version.split(".")[:2]) if version else real.name.removeprefix("python")
    homes = [prefix]
    if settings and settings.get("include-system-site-packages") == "true":
        homes.append(real.parent.parent)
    folders = [folder for home in homes for folder in _site_folders(home, short)]
    if settings is None:
        folders += [folder for folder in (Path.home() / f".local/lib/python{short}/site-packages",) if folder.is_dir()]
    folders += [linked for folder in folders for linked in _linked_folders(folder)]
    return Interpreter(path=path, version=version or short, site_packages=tuple(dict.fromkeys(folders)))


def _linked_folders(folder: Path) -> list[Path]:
    """Folders that `.pth` files in *folder* put on the path, as `site.py` reads them; what they import is not run."""
    lines = [
        line
        for file in sorted(folder.glob("*.pth"))
        for line in read_bounded(file, MAX_SCRIPT_BYTES).decode("utf-8", "replace").split("\n")
    ]
    named = [folder / line.strip() for line in lines if line.strip() and not line.startswith(("#", "import ", "import\t"))]
    return [path for path in named if path.is_dir()]


def _venv_settings(prefix: Path) -> dict[str, str] | None:
    config = prefix / "pyvenv.cfg"
    if not config.is_file():
        return None
    lines = read_bounded(config, MAX_SCRIPT_BYTES).decode("utf-8", "replace").split("\n")
    pairs = (line.partition("=") for line in lines if "=" in line)
    settings = {key.strip().lower(): value.strip() for key, _, value in pairs}
    return {**settings, "version": settings.get("version") or settings.get("version_info", "")}


def _site_folders(home: Path, short: str) -> list[Path]:
    names = [f"lib/python{short}/site-packages", f"lib64/python{short}/site-packages", f"lib/python{short}/dist-packages"]
    folders = [home / name for name in (*names, "lib/python3/dist-packages")]
    return list({os.path.realpath(folder): folder for folder in reversed(folders) if folder.is_dir()}.values())[::-1]


def distributions(interpreter: Interpreter) -> tuple[Distribution, ...]:
    """Every installed distribution, by name; of two with one name, the first on the interpreter's path counts."""
    found: dict[str, Distribution] = {}
    for folder in interpreter.site_packages:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise InputError(f"cannot read {folder}: {error.strerror}", next_step="check who may read it") from error
        for entry in names:
            match = _DIST_INFO.fullmatch(entry)
            if match:
                name = re.sub(r"[-_.]+", "-", match["name"]).lower()
                found.setdefault(
                    name, Distribution(name=name, version=match["version"], location=folder, metadata=folder / entry)
                )
    return tuple(found[name] for name in sorted(found))


def locked_packages(
    interpreter: Interpreter, wanted: str | Sequence[str], cache: StatCache | None = None
) -> dict[str, LockedPackage]:
    """
    The distributions that `[environment] packages` asks for (`all`, `none` or names).

    Raises InputError for one that is named and not installed.
    """
    if wanted == "none":
        return {}
    installed = {distribution.name: distribution for distribution in distributions(interpreter)}
    if wanted != "all":
        names = [re.sub(r"[-_.]+", "-", name).lower() for name in ([wanted] if isinstance(wanted, str) else wanted)]
        missing = [name for name in names if name not in installed]
        if missing:
            raise InputError(
                f"{missing[0]} is declared under [environment] and is not installed",
                got=f"{len(installed)} distributions of {interpreter.path}",
                next_step="install it, or take it out of packages in truerun.toml",
            )
        installed = {name: installed[name] for name in names}
    return {
        name: LockedPackage(version=distribution.version, record=record_digest(distribution, cache))
        for name, distribution in installed.items()
    }


def record_digest(distribution: Distribution, cache: StatCache | None = None) -> Digest | None:
    """The digest of a distribution's RECORD as described above; None when it has no RECORD."""
    path = distribution.metadata / "RECORD"
    try:
        stat = path.stat()
    except OSError:
        return None
    known = cache.get(str(path), stat, "record-1") if cache else None
    if known is not None:
        return Digest.parse(known)
    lines = []
    for name, digest, _ in _record_lines(read_bounded(path, MAX_RECORD_BYTES), path):
        folder, _, base = name.rpartition("/")
        own = folder == distribution.metadata.name and base in _INSTALLER_FILES
        if digest and not own and not name.startswith(("../", "/")):
            lines.append(f"{name},{digest}\n")
    found = blake3_of("".join(sorted(lines)).encode())
    if cache:
        cache.put(str(path), stat, "record-1", found.render())
    return found


def _record_lines(data: bytes, path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        for row in csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True):
            if row:
                name, digest, size = (*row, "", "")[:3]
                yield name, digest, size
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is not a RECORD", got=str(error)[:80], next_step="install the package again") from error


def variables_read(source: bytes) -> set[str]:
    """Names of environment variables that Python *source* reads by a literal name; none for source that does not parse."""
    return {name for name, _ in variable_reads(source)}


def variable_reads(source: bytes) -> Iterator[tuple[str, int]]:
    """Every `os.environ["X"]`, `os.environ.get("X")` and `os.getenv("X")` in *source*: the name and the line."""
    tree = parse_python(source)
    for node in ast.walk(tree) if tree else ():
        name: ast.expr | None = None
        if isinstance(node, ast.Subscript) and _named(node.value) == "environ":
            name = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            called = _named(node.func)
            if called == "getenv" or (
                called in ("get", "pop", "setdefault") and owner is not None and _named(owner) == "environ"
            ):
                name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and not _IDENTITY.fullmatch(name.value):
            yield name.value, name.lineno


def parse_python(source: bytes) -> ast.Module | None:
    """The syntax tree of Python *source*; None for what does not parse, and so does not run either. Nothing is executed."""
    with warnings.catch_warnings():
        # What the compiler thinks of somebody's escapes is not for us to repeat.
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def recorded_value(name: str, value: str | None) -> str | None:
    """*value* as it may be written down: of what looks like a secret, or is longer than a setting, only a digest."""
    if value is None:
        return None
    # Bytes that are not UTF-8 arrive as lone surrogates, which have no canonical form.
    text = value.encode("utf-8", "backslashreplace").decode()
    if is_secret(name) or _CREDENTIALS.search(text) or len(text) > MAX_VARIABLE_LENGTH:
        return digest_value([name, text]).render()
    return text


def is_secret(name: str) -> bool:
    """Whether the name of a variable looks like that of a secret."""
    return _SECRET.search(name) is not None


def _named(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None
