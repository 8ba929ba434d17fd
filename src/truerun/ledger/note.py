"""Signed notes (c2sp.org/signed-note) with ed25519 keys: the text, an empty line, one line per signature.

```
any text that ends in a newline

— example.org/key base64(key hash[4] || signature[64])
```

Keys have the textual forms of Go's `golang.org/x/mod/sumdb/note`: `name+hash+base64(0x01 || key)` to verify with, and
`PRIVATE+KEY+name+hash+base64(0x01 || seed)` to sign with. Signatures by unknown keys are ignored, as the specification
demands: that is how witnesses will cosign.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.wire import parse_base64, render_base64

MAX_NOTE_BYTES = 256 * 1024
MAX_SIGNATURES = 32
_ED25519 = b"\x01"
_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line: `name` and `hash` (4 bytes) say which key, `value` is what it signed."""

    name: str
    hash: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text that ends in a newline, and its signatures in order. Law: `parse_note(render_note(n)) == n` and back."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A key that notes are verified with: a name without spaces or `+`, and 32 bytes of ed25519."""

    name: str
    key: bytes

    def __post_init__(self) -> None:
        """Refuse names a signature line could not hold, and keys of the wrong size."""
        _require_name(self.name)
        if len(self.key) != 32:
            raise FormatError("a note key of the wrong size", got=f"{len(self.key)} bytes", expected="32 bytes")

    @property
    def hash(self) -> bytes:
        """SHA-256(name || newline || 0x01 || key)[:4]: what signature lines call the key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:4]


class NoteSigner:
    """Signs notes under *name* with an ed25519 key. It signs tree heads only; people sign with SSH keys."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._seed = seed
        self._private_key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = NoteKey(name=name, key=public)

    @classmethod
    def parse(cls, text: str) -> NoteSigner:
        """Parse `PRIVATE+KEY+…`; raises FormatError and never shows what it got."""
        name, hash_text, encoded = _split_key(text.removeprefix(_PRIVATE)) if text.startswith(_PRIVATE) else ("", "", "")
        data = parse_base64(encoded, "a private note key") if _private_is_plain(encoded) else b""
        if len(data) != 33 or data[:1] != _ED25519:
            raise FormatError("not a private note key", expected=f"{_PRIVATE}name+hash+key")
        signer = cls(name, data[1:])
        if signer.key.hash.hex() != hash_text:
            raise FormatError("a private note key whose hash does not fit")
        return signer

    def render_secret(self) -> str:
        """`PRIVATE+KEY+…`: for the key file only."""
        return f"{_PRIVATE}{self.key.name}+{self.key.hash.hex()}+{render_base64(_ED25519 + self._seed)}"

    def sign(self, text: str) -> NoteSignature:
        """The signature over *text*."""
        return NoteSignature(name=self.key.name, hash=self.key.hash, value=self._private_key.sign(text.encode()))


def parse_note_key(text: str) -> NoteKey:
    """Parse `name+hash+base64(0x01 || key)`; raises FormatError."""
    name, hash_text, encoded = _split_key(text)
    data = parse_base64(encoded, "a note key")
    if data[:1] != _ED25519:
        raise FormatError("a note key that is not ed25519", got=data[:1].hex(), expected=_ED25519.hex())
    key = NoteKey(name=name, key=data[1:])
    if key.hash.hex() != hash_text:
        raise FormatError("a note key whose hash does not fit", got=hash_text[:8], expected=key.hash.hex())
    return key


def render_note_key(key: NoteKey) -> str:
    """Render as `name+hash+base64(0x01 || key)`."""
    return f"{key.name}+{key.hash.hex()}+{render_base64(_ED25519 + key.key)}"


def parse_note(data: bytes) -> Note:
    """Parse a signed note; raises FormatError for anything that would not be rendered the same."""
    if len(data) > MAX_NOTE_BYTES:
        raise FormatError("a signed note that is too large", got=f"{len(data)} bytes", expected=f"at most {MAX_NOTE_BYTES}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("a signed note that is not UTF-8", got=repr(data[:40])) from error
    text, separator, lines = whole.rpartition("\n\n")
    if not separator or not lines.endswith("\n") or _CONTROL.search(whole):
        raise FormatError("not a signed note", got=repr(whole[:60]), expected="text, an empty line, signature lines")
    signatures = tuple(map(_parse_signature, lines[:-1].split("\n")))
    if len(signatures) > MAX_SIGNATURES:
        raise FormatError("a signed note with too many signatures", got=len(signatures), expected=f"at most {MAX_SIGNATURES}")
    return Note(text=text + "\n", signatures=signatures)


def render_note(note: Note) -> bytes:
    """Render text, empty line and signature lines."""
    lines = (f"{_DASH}{line.name} {render_base64(line.hash + line.value)}\n" for line in note.signatures)
    return (note.text + "\n" + "".join(lines)).encode()


def verify_note(note: Note, key: NoteKey) -> None:
    """Raise VerificationError unless exactly one signature of *note* names *key*, and it holds."""
    own = [line for line in note.signatures if (line.name, line.hash) == (key.name, key.hash)]
    if len(own) != 1:
        raise VerificationError(
            "a note without one signature of this key", got=f"{len(own)} of them", expected=render_note_key(key)
        )
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(own[0].value, note.text.encode())
    except InvalidSignature as error:
        raise VerificationError(
            "a note whose signature does not hold", expected=f"a signature by {render_note_key(key)}"
        ) from error


def _parse_signature(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not separator:
        raise FormatError("not a signature line", got=repr(line[:60]), expected="— name base64")
    _require_name(name)
    data = parse_base64(encoded, "a note signature")
    if len(data) < 5:
        raise FormatError("a note signature that is too short", got=f"{len(data)} bytes")
    return NoteSignature(name=name, hash=data[:4], value=data[4:])


def _require_name(name: str) -> None:
    if not name or len(name) > 255 or "+" in name or any(letter.isspace() or not letter.isprintable() for letter in name):
        raise FormatError("not a key name", got=repr(name[:60]), expected="text without spaces and without +")


def _split_key(text: str) -> tuple[str, str, str]:
    parts = text.split("+", 2)  # base64 may hold + itself
    if len(parts) != 3 or len(text) > 1024:
        raise FormatError("not a note key", expected="name+hash+key")
    return parts[0], parts[1], parts[2]


def _private_is_plain(encoded: str) -> bool:
    """Whether *encoded* is 33 bytes of base64; asked first so that no error message can quote a secret."""
    return re.fullmatch(r"[A-Za-z0-9+/]{44}", encoded) is not None
