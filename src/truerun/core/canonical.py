"""Canonical JSON (RFC 8785): one value, one sequence of bytes, so that a digest of it means something.

Does not parse leniently: `parse_canonical` refuses any text that is not the canonical form of its own value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from truerun.core.errors import FormatError

MAX_EXACT_INTEGER = 2**53 - 1
MAX_DEPTH = 64
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = re.compile(r'[\x00-\x1f"\\]')


def render_canonical(value: Any) -> bytes:
    """
    Render *value* as canonical JSON.

    Raises FormatError for anything JSON or I-JSON (RFC 7493) cannot hold: NaN, infinities, integers beyond 2**53-1,
    lone surrogates, keys that are not text, nesting deeper than 64.
    """
    parts: list[str] = []
    _render(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise FormatError("text with a lone surrogate has no canonical form", got=repr(error.object[:40])) from error


def parse_canonical(data: bytes) -> Any:
    """Parse *data*; raises FormatError unless it is exactly the canonical form of the value it holds."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError("not JSON", got=repr(data[:60]), expected="canonical JSON (RFC 8785)") from error
    if render_canonical(value) != data:
        raise FormatError("JSON that is not canonical", got=repr(data[:60]), expected="the RFC 8785 form of the same value")
    return value


def _integer(text: str) -> int | float:
    # Canonical JSON writes the double 2.0**53 as 9007199254740992: whole numbers that are not exact integers are doubles.
    return int(text) if len(text) <= 17 and abs(int(text)) <= MAX_EXACT_INTEGER else float(text)


def _refuse(token: str) -> None:
    raise FormatError("a number JSON cannot hold", got=token)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("a JSON object with a repeated key", got=[key for key, _ in pairs][:8])
    return value


def _render(value: Any, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError("JSON nested too deeply", expected=f"at most {MAX_DEPTH} levels")
    if value is None or value is True or value is False:
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        parts.append(_render_text(value))
    elif isinstance(value, int):
        if abs(value) > MAX_EXACT_INTEGER:
            raise FormatError("an integer JSON cannot hold exactly", got=value, expected="at most 2**53 - 1")
        parts.append(str(int(value)))
    elif isinstance(value, float):
        parts.append(_render_number(value))
    elif isinstance(value, Mapping):
        _render_object(value, parts, depth)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        parts.append("[")
        for position, item in enumerate(value):
            if position:
                parts.append(",")
            _render(item, parts, depth + 1)
        parts.append("]")
    else:
        raise FormatError("a value JSON cannot hold", got=type(value).__name__)


def _render_object(value: Mapping[str, Any], parts: list[str], depth: int) -> None:
    for key in value:
        if not isinstance(key, str):
            raise FormatError("a JSON object key that is not text", got=repr(key))
    parts.append("{")
    # RFC 8785 section 3.2.3: keys are sorted by UTF-16 code units.
    for position, key in enumerate(sorted(value, key=lambda text: text.encode("utf-16-be", "surrogatepass"))):
        if position:
            parts.append(",")
        parts.append(_render_text(key) + ":")
        _render(value[key], parts, depth + 1)
    parts.append("}")


def _render_text(text: str) -> str:
    return '"' + _ESCAPED.sub(lambda match: _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}", text) + '"'


def _render_number(number: float) -> str:
    """Render as ECMAScript Number::toString does (ECMA-262 section 6.1.6.1.20)."""
    if not math.isfinite(number):
        raise FormatError("a number JSON cannot hold", got=number)
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent_text = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + ("" if fraction == "0" else fraction)).lstrip("0")
    point = (
        len(whole) + int(exponent_text or 0)
        if whole != "0"
        else int(exponent_text or 0) - (len(fraction) - len(fraction.lstrip("0")))
    )
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    exponent = point - 1
    tail = f"e{'+' if exponent > 0 else '-'}{abs(exponent)}"
    return sign + digits[0] + (f".{digits[1:]}" if count > 1 else "") + tail
