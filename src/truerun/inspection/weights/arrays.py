"""NumPy's `.npy` header, read strictly: object arrays are pickles and are refused. NEP 1 (format), versions 1 to 3."""

from __future__ import annotations

import ast
import math
import re

from truerun.core.errors import FormatError
from truerun.inspection.weights.source import Source

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
_PLAIN = re.compile(r"[<>|=]?[?biufcSUVmM][0-9]{0,6}(\[[a-z0-9]{1,8}\])?")


def verify_array(source: Source) -> None:
    """Raise FormatError unless *source* is one `.npy` array of numbers, text or bytes that fills the file exactly."""
    head = source.read_at(0, min(12, source.size))
    if head[:6] != MAGIC or len(head) < 10 or head[6] not in (1, 2, 3):
        raise FormatError("not a .npy array of version 1 to 3", got=repr(head[:8]))
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError("a .npy header that is too long", got=length, expected=MAX_HEADER_BYTES)
    text = source.read_at(8 + width, length).decode("utf-8" if head[6] == 3 else "latin-1", "replace")
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise FormatError("a .npy header that is not a literal", got=text[:60]) from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise FormatError("a .npy header with other keys", got=text[:60], expected="descr, fortran_order, shape")
    _check_description(header["descr"])
    shape = header["shape"]
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise FormatError("a .npy shape that is not a tuple of sizes", got=str(shape)[:60])
    size = _item_bytes(header["descr"])
    if size is not None and 8 + width + length + size * math.prod(shape) != source.size:
        raise FormatError("a .npy array that does not fill its file", got=f"{source.size} bytes")


def _check_description(description: object, depth: int = 0) -> None:
    if isinstance(description, str) and _PLAIN.fullmatch(description):
        return
    if isinstance(description, list) and depth < 4:
        for item in description:
            if not isinstance(item, tuple) or len(item) not in (2, 3):
                break
            _check_description(item[1], depth + 1)
        else:
            return
    raise FormatError("an array of Python objects, which NumPy stores as a pickle", got=str(description)[:60])


def _item_bytes(description: object) -> int | None:
    if not isinstance(description, str):
        return None
    match = re.fullmatch(r"[<>|=]?([a-zA-Z?])([0-9]+)(\[.*\])?", description)
    return None if match is None else int(match[2]) * (4 if match[1] == "U" else 1)
