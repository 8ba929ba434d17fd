"""Bytecode beside its source: the project's own modules, and what trains in torch. Read, never executed or unmarshalled.

A pair that agreed and has not changed since (size, inode, mtime, ctime of both) is not compared again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from truerun.adapters.files import read_bounded
from truerun.adapters.originals import TRAINING
from truerun.adapters.packages import Interpreter
from truerun.adapters.statcache import StatCache, identity
from truerun.core.errors import InputError
from truerun.inspection.environment.bytecode_modified import Bytecode, explain_difference

MAX_BYTES = 8 * 1024 * 1024


def find_bytecode(
    interpreter: Interpreter, root: Path, code: Iterable[str], cache: StatCache | None
) -> tuple[list[Bytecode], int]:
    """The files whose bytecode is not their source's, and how many pairs there are. *code* are the project's own files."""
    sources = [("project", root / path, path) for path in code if path.endswith(".py")]
    for folder in interpreter.site_packages:
        sources += [("torch", path, str(path.relative_to(folder))) for part in TRAINING for path in _modules(folder / part)]
    differing, pairs = [], 0
    for owner, source, name in sources:
        compiled = importlib.util.cache_from_source(str(source))
        try:
            stats = os.stat(source), os.stat(compiled)
        except OSError:
            # No bytecode, so Python compiles the source.
            continue
        pairs += 1
        key = f"bytecode-1:{source}:{[identity(stat) for stat in stats]}"
        if cache is not None and cache.recall(key):
            continue
        with contextlib.suppress(InputError):  # gone or too large since: Python cannot use what we cannot read
            file = Bytecode(
                owner=owner,
                source_path=name,
                path=os.path.join(os.path.dirname(name), "__pycache__", os.path.basename(compiled)),
                source=read_bounded(source, MAX_BYTES),
                compiled=read_bounded(Path(compiled), MAX_BYTES),
                modified_seconds=int(stats[0].st_mtime),
            )
            if explain_difference(file) is not None:
                differing.append(file)
            elif cache is not None:
                cache.remember(key, "agrees")
    if cache is not None:
        cache.flush()
    return differing, pairs


def _modules(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if path.is_file())
