"""What an interpreter would meet at start-up, found by looking at files and variables; nothing is imported or executed.

Follows the standard library's `site` module: site-packages folders, the folders that `.pth` files add, PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from truerun.adapters.files import read_bounded
from truerun.adapters.packages import Interpreter
from truerun.core.errors import InputError
from truerun.inspection.environment.startup_injection import PathFile, Startup

MAX_PATH_FILE_BYTES = 1 << 20
_CUSTOM = ("sitecustomize", "usercustomize")
_PROBE = Path(__file__).parent / "pytorch" / "startup"
_MODULE_SUFFIXES = (".py", ".so", ".pyc")


def read_startup(
    interpreter: Interpreter, environ: Mapping[str, str], covered: Mapping[str, tuple[str, str, str]], root: Path
) -> Startup:
    """What *interpreter* would meet under *environ*; *covered* are the files that a RECORD lists, with their hashes."""
    path_files = tuple(_path_files(interpreter.site_packages, covered))
    added = [Path(folder) for file in path_files for folder in _folders(file)]
    # An empty entry of PYTHONPATH is the current folder: the project's.
    entries = [root / entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep)] if environ.get("PYTHONPATH") else []
    own = [entry for entry in entries if not _same(entry, _PROBE)]
    later = [*interpreter.site_packages, *added]
    custom = [file for folder in (*own, *later) for file in _custom_modules(folder) if not _is_covered(file, covered)]
    library = _library_folder(interpreter)
    return Startup(
        path_files=path_files,
        customized=tuple(dict.fromkeys(str(file) for file in custom)),
        bundled=tuple(str(file) for file in _custom_modules(library)) if library else (),
        shadows=tuple(_shadows(own, later)),
        startup=environ.get("PYTHONSTARTUP") or None,
    )


def _path_files(folders: tuple[Path, ...], covered: Mapping[str, tuple[str, str, str]]) -> Iterator[PathFile]:
    for folder in folders:
        for file in sorted(folder.glob("*.pth")):
            try:
                data = read_bounded(file, MAX_PATH_FILE_BYTES)
            except InputError:
                # Too large or unreadable: site.py would skip it or fail on it; either way it is nobody's record.
                data = b"import unreadable"
            owner, algorithm, value = covered.get(str(file), (None, "sha256", ""))
            known = hashlib.new(algorithm, data).hexdigest() == value
            yield PathFile(path=str(file), text=data.decode("utf-8", "replace"), owner=owner if known else None)


def _folders(file: PathFile) -> Iterator[str]:
    for line in file.text.splitlines():
        entry = line.strip()
        if entry and not entry.startswith(("#", "import ", "import\t")):
            yield os.path.normpath(os.path.join(os.path.dirname(file.path), entry))


def _custom_modules(folder: Path) -> list[Path]:
    found = []
    for name in _CUSTOM:
        candidates = (folder / name / "__init__.py", *(folder / f"{name}{suffix}" for suffix in _MODULE_SUFFIXES))
        found += [candidate for candidate in candidates if candidate.is_file()]
    return found


def _is_covered(file: Path, covered: Mapping[str, tuple[str, str, str]]) -> bool:
    if str(file) not in covered:
        return False
    _, algorithm, value = covered[str(file)]
    with contextlib.suppress(InputError):
        return hashlib.new(algorithm, read_bounded(file, MAX_PATH_FILE_BYTES)).hexdigest() == value
    return False


def _library_folder(interpreter: Interpreter) -> Path | None:
    short = ".".join(interpreter.version.split(".")[:2])
    folder = Path(os.path.realpath(interpreter.path)).parent.parent / "lib" / f"python{short}"
    return folder if folder.is_dir() else None


def _shadows(entries: list[Path], later: list[Path]) -> Iterator[tuple[str, str]]:
    installed: dict[str, Path] = {}
    for folder in later:
        for name, file in _modules(folder):
            installed.setdefault(name, file)
    for entry in entries:
        for name, file in _modules(entry):
            stands_for = installed.get(name)
            if name in sys.stdlib_module_names or (stands_for is not None and not _same(stands_for, file)):
                yield str(file), name


def _modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """The top-level modules that *folder* offers: name and file or package folder."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        # Python skips an entry of its path that is not there; so do we.
        return
    for entry in entries:
        name = entry.name.partition(".")[0]
        if not name.isidentifier() or name in _CUSTOM or entry.name.startswith("__"):
            continue
        if entry.name.endswith(_MODULE_SUFFIXES) or (entry.is_dir() and (Path(entry.path) / "__init__.py").is_file()):
            yield name, Path(entry.path)


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)
