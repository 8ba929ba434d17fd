"""A digest: an algorithm's name and a value; the name records every parameter (in-toto DigestSet, OpenSSF Model Signing)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Self

from truerun.core.canonical import render_canonical
from truerun.core.errors import FormatError

_TEXT = re.compile(r"([a-z0-9][a-z0-9-]{1,40}):([0-9a-f]{32,128})")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """
    `algorithm:hexadecimal`, for example `sha256:9f86…` or `blake3:af13…`.

    Law: `Digest.parse(digest.render()) == digest`.
    """

    algorithm: str
    value: str

    def __post_init__(self) -> None:
        if not _TEXT.fullmatch(f"{self.algorithm}:{self.value}"):
            raise FormatError("not a digest", got=f"{self.algorithm}:{self.value}"[:80], expected="algorithm:hexadecimal")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `algorithm:hex`; raises FormatError."""
        algorithm, _, value = text.partition(":")
        return cls(algorithm, value)

    def render(self) -> str:
        """Render as `algorithm:hex`."""
        return f"{self.algorithm}:{self.value}"

    def __str__(self) -> str:
        return self.render()

    @property
    def short(self) -> str:
        """The first twelve hexadecimal digits, for people."""
        return self.value[:12]


def digest_bytes(data: bytes) -> Digest:
    """SHA-256 of *data*."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def digest_value(value: Any) -> Digest:
    """SHA-256 of the canonical JSON (RFC 8785) of *value*."""
    return digest_bytes(render_canonical(value))
