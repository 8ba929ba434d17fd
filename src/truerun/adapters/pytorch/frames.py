"""What travels between the probe and the agent: one frame is a JSON header and raw numbers, never pickle.

```
header size (4 bytes, big endian) | body size (4 bytes, big endian) | header: JSON object | body: raw buffers, one after another
```

`header["buffers"]` lists `[name, type, bytes]` in the order of the body; type is `f4` or `f8`, little endian. Does not
interpret a frame: that is `probe.py` on one side and `apps/agent.py` on the other. Standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from truerun.core.errors import FormatError

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 8 * 1024 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
TYPES = {"f4": 4, "f8": 8}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: `header` is plain JSON with a `kind`; `buffers` maps a name to (type, bytes)."""

    header: Mapping[str, Any]
    buffers: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


def render_frame(header: Mapping[str, Any], buffers: Mapping[str, tuple[str, bytes]] | None = None) -> bytes:
    """Bytes of one frame. Law: parse_frames(render_frame(h, b)) gives one Frame(h, b) and no rest."""
    parts = buffers or {}
    full = {**header, "buffers": [[name, kind, len(data)] for name, (kind, data) in parts.items()]} if parts else header
    text = json.dumps(full, separators=(",", ":")).encode()
    body = b"".join(data for _, data in parts.values())
    return PREFIX.pack(len(text), len(body)) + text + body


def parse_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """All complete frames at the front of *data*, and the rest; raises FormatError for sizes or headers out of bounds."""
    frames: list[Frame] = []
    at = 0
    while len(data) - at >= PREFIX.size:
        header_size, body_size = PREFIX.unpack_from(data, at)
        if header_size > MAX_HEADER_BYTES or body_size > MAX_BODY_BYTES:
            raise FormatError("a probe frame that is too large", got=f"{header_size} + {body_size} bytes")
        end = at + PREFIX.size + header_size + body_size
        if end > len(data):
            break
        start = at + PREFIX.size
        frames.append(_parse(data[start : start + header_size], data[start + header_size : end]))
        at = end
    return frames, data[at:]


def _parse(text: bytes, body: bytes) -> Frame:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError("a probe frame without a JSON header", got=repr(text[:60])) from error
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise FormatError("a probe frame without a kind", got=repr(text[:60]))
    buffers: dict[str, tuple[str, bytes]] = {}
    at = 0
    for item in header.pop("buffers", []):
        name, kind, size = item if isinstance(item, list) and len(item) == 3 else (None, None, None)
        if not isinstance(name, str) or kind not in TYPES or not isinstance(size, int) or size < 0 or size % TYPES[kind]:
            raise FormatError("a probe frame with an unknown buffer", got=repr(item)[:60])
        buffers[name] = (kind, body[at : at + size])
        at += size
    if at != len(body):
        raise FormatError("a probe frame whose body does not fit its header", got=len(body), expected=at)
    return Frame(header, buffers)
