"""What this process runs, small enough to be compared with what the other ranks run: code by digest, arguments, settings.

Code is what Python has loaded from outside its own folders, by the bytes of the files as this process finds them. Files
beyond a bound are left out.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

MAX_MODULES = 300
MAX_BYTES = 1 << 20
OURS = ("truerun", "sitecustomize")
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "LD_PRELOAD",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "PYTHONPATH",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def describe_program() -> dict[str, Any]:
    """Arguments, code digests and the settings that numbers depend on."""
    return {
        "arguments": [text[:400] for text in sys.argv[:100]],
        "code": _code(),
        "settings": {
            **{name: os.environ[name][:400] for name in VARIABLES if name in os.environ},
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "float32 matmul precision": torch.get_float32_matmul_precision(),
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "default type": str(torch.get_default_dtype()),
        },
    }


def _code() -> dict[str, str]:
    """Digests of what was loaded from outside the folders of Python and its packages, by module name."""
    folders = {path for name, path in sysconfig.get_paths().items() if "lib" in name}
    installed = tuple(f"{path}{os.sep}" for path in folders | {os.path.realpath(path) for path in folders})
    found: dict[str, str] = {}
    for name, module in sorted(sys.modules.copy().items()):
        path = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if not isinstance(path, str) or path.startswith(installed) or not path.endswith(".py"):
            continue
        if name.partition(".")[0] not in OURS and len(found) < MAX_MODULES and (digest := _digest(Path(path))) is not None:
            found[name] = digest
    return found


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES)
    except OSError:
        return None
    return hashlib.blake2b(content, digest_size=12).hexdigest()
