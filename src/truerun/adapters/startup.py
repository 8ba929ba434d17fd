"""What an interpreter would meet at start-up, found by looking at files and variables; nothing is imported or executed.

Follows the standard library's `site` module: site-packages folders, the folders that `.pth` files add, PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from truerun.adapters.files import read_bounded
from truerun.adapters.installed import Covered, covered_startup
from truerun.adapters.packages import Interpreter, distributions
from truerun.core.digest import Digest, digest_bytes
from truerun.core.errors import InputError
from truerun.inspection.environment.startup_injection import Startup, StartupFile

MAX_PATH_FILE_BYTES = 1 << 20
_CUSTOM = ("sitecustomize", "usercustomize")
_PROBE = Path(__file__).parent / "pytorch" / "startup"
_MODULE_SUFFIXES = (".py", ".so", ".pyc")


def read_startup(interpreter: Interpreter, environ: Mapping[str, str], covered: Covered, root: Path) -> Startup:
    """What *interpreter* would meet under *environ*; *covered* are the start-up files that a RECORD lists, with their hashes."""
    path_files = tuple(_read(file, file.name, covered) for folder in interpreter.site_packages for file in _glob_pth(folder))
    added = [Path(folder) for file in path_files for folder in _folders(file)]
    # An empty entry of PYTHONPATH is the current folder: the project's.
    entries = [root / entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep)] if environ.get("PYTHONPATH") else []
    own = [entry for entry in entries if not _same(entry, _PROBE)]
    later = [*interpreter.site_packages, *added]
    custom = {str(file): _read(file, name, covered) for folder in (*own, *later) for file, name in _custom_modules(folder)}
    library = _library_folder(interpreter)
    return Startup(
        path_files=path_files,
        custom=tuple(custom.values()),
        bundled=tuple(str(file) for file, _ in _custom_modules(library)) if library else (),
        shadows=tuple(_shadows(own, later)),
        startup=environ.get("PYTHONSTARTUP") or None,
    )


def unrecorded_startup(interpreter: Interpreter) -> dict[str, Digest]:
    """The start-up files in the interpreter's own folders that no RECORD covers: name -> digest, for a lock."""
    startup = read_startup(interpreter, {}, covered_startup(distributions(interpreter)), Path())
    return {file.name: file.digest for file in startup.unrecorded}


def _glob_pth(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pth"))


def _read(file: Path, name: str, covered: Covered) -> StartupFile:
    try:
        data = read_bounded(file, MAX_PATH_FILE_BYTES)
    except InputError:
        # Too large or unreadable for us is not so for Python: it counts as code that nobody accounts for.
        data = b"import unreadable"
    owner, algorithm, value = covered.get(str(file), (None, "sha256", ""))
    known = hashlib.new(algorithm, data).hexdigest() == value
    text = data.decode("utf-8", "replace")
    return StartupFile(path=str(file), name=name, text=text, digest=digest_bytes(data), owner=owner if known else None)


def _folders(file: StartupFile) -> Iterator[str]:
    for line in file.text.splitlines():
        entry = line.strip()
        if entry and not entry.startswith(("#", "import ", "import\t")):
            yield os.path.normpath(os.path.join(os.path.dirname(file.path), entry))


def _custom_modules(folder: Path) -> list[tuple[Path, str]]:
    """The sitecustomize and usercustomize modules in *folder*, each with the name it has in any folder."""
    names = [name for custom in _CUSTOM for name in (f"{custom}/__init__.py", *(f"{custom}{end}" for end in _MODULE_SUFFIXES))]
    return [(folder / name, name) for name in names if (folder / name).is_file()]


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
