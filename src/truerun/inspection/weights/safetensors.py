"""The header of a safetensors file, checked as its format page says: nothing hidden, nothing overlapping, nothing missing.

The format holds no code; what this refuses is a file that two readers could understand differently.
Source: safetensors README, section "Format".
"""

from __future__ import annotations

import json
import math
from typing import Any

from truerun.core.errors import FormatError
from truerun.inspection.weights.source import Source

MAX_HEADER_BYTES = 100_000_000
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


def looks_like_safetensors(source: Source) -> bool:
    """Whether *source* begins with a plausible header length and a brace."""
    if source.size < 10:
        return False
    head = source.read_at(0, 9)
    return head[8:] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= source.size - 8


def verify_safetensors(source: Source) -> None:
    """Raise FormatError unless the header is strict JSON and its tensors cover the rest of the file without gap or overlap."""
    length = int.from_bytes(source.read_at(0, 8), "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError("a safetensors header that is too long", got=length, expected=MAX_HEADER_BYTES)
    try:
        header = json.loads(source.read_at(8, length).decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError("a safetensors header that is not JSON", got=str(error)[:80]) from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FormatError("safetensors metadata that is not text by text")
    position = 0
    for begin, end, name in sorted(_span(name, tensor) for name, tensor in header.items()):
        if begin != position:
            raise FormatError("safetensors with a gap or an overlap", got=f"{name} at {begin}", expected=f"a start at {position}")
        position = end
    if 8 + length + position != source.size:
        raise FormatError("safetensors that do not fill the file", got=f"{source.size} bytes", expected=8 + length + position)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("a safetensors header with a repeated name")
    return value


def _span(name: str, tensor: object) -> tuple[int, int, str]:
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"} or tensor["dtype"] not in _BITS:
        raise FormatError("a safetensors entry that is not dtype, shape and data_offsets", got=name)
    shape, offsets = tensor["shape"], tensor["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers) or len(offsets) != 2:
        raise FormatError("a safetensors entry whose shape or offsets are not sizes", got=name)
    if math.prod(shape) * _BITS[tensor["dtype"]] != (offsets[1] - offsets[0]) * 8:
        raise FormatError("a safetensors entry whose shape does not fit its bytes", got=name)
    return offsets[0], offsets[1], name
