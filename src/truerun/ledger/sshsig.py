"""SSHSIG (OpenSSH PROTOCOL.sshsig): the signature format of `ssh-keygen -Y sign`, as a strict, invertible value.

```
byte[6]  "SSHSIG"
uint32   version = 1
string   public key    string "ssh-ed25519" · string key[32]
string   namespace     "truerun"
string   reserved      empty
string   hash          "sha512"
string   signature     string "ssh-ed25519" · string signature[64]
```

Security keys (`sk-ssh-ed25519@openssh.com`, PROTOCOL.u2f) add an application to the key, and flags and a counter to the
signature. Other key types are refused. Formats only: `signing.py` signs and verifies.
"""

from __future__ import annotations

import hashlib
import textwrap
from dataclasses import dataclass

from truerun.core.errors import FormatError
from truerun.ledger.wire import WireReader, parse_base64, render_base64, wire_string

MAGIC = b"SSHSIG"
VERSION = 1
NAMESPACE = "truerun"
HASH = "sha512"
ED25519 = "ssh-ed25519"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
MAX_SIGNATURE_BYTES = 4096
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_ARMOR_WIDTH = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """An ed25519 public key (32 bytes); `application` is set for a security key, usually `ssh:`."""

    key: bytes
    application: bytes | None = None

    @property
    def kind(self) -> str:
        """The SSH name of the key type."""
        return ED25519 if self.application is None else SK_ED25519

    def encode(self) -> bytes:
        """The SSH wire form."""
        tail = b"" if self.application is None else wire_string(self.application)
        return wire_string(self.kind.encode()) + wire_string(self.key) + tail

    @property
    def line(self) -> str:
        """As in a `.pub` file, without comment: `ssh-ed25519 AAAA…`."""
        return f"{self.kind} {render_base64(self.encode())}"

    @property
    def id(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it: `SHA256:…`."""
        return "SHA256:" + render_base64(hashlib.sha256(self.encode()).digest()).rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSignature:
    """
    A signature and the key it claims. Namespace and hash are fixed, so they are checked and not stored.

    `flags` and `counter` are what a security key signed beside the message; both None for plain keys.
    Law: `parse_sshsig(render_sshsig(s)) == s` and the other way round.
    """

    public_key: PublicKey
    signature: bytes
    flags: int | None = None
    counter: int | None = None


def parse_public_key(line: str) -> PublicKey:
    """Parse `ssh-ed25519 AAAA… [comment]`; raises FormatError for other key types and anything not canonical."""
    parts = line.strip().split(None, 2)
    if len(parts) < 2 or len(line) > 2 * MAX_SIGNATURE_BYTES:
        raise FormatError("not an SSH public key", got=repr(line[:60]), expected="ssh-ed25519 AAAA…")
    if parts[0] not in (ED25519, SK_ED25519):
        raise FormatError(
            "a key type Truerun does not use",
            got=repr(parts[0][:40]),
            expected=f"{ED25519} or {SK_ED25519}",
            next_step="make a key with: ssh-keygen -t ed25519",
        )
    key = _decode_key(parse_base64(parts[1], "an SSH public key"))
    if key.kind != parts[0]:
        raise FormatError("an SSH public key whose two type names differ", got=key.kind, expected=parts[0])
    return key


def _decode_key(blob: bytes) -> PublicKey:
    reader = WireReader(blob, "an SSH public key")
    kind = reader.string()
    if kind not in (ED25519.encode(), SK_ED25519.encode()):
        raise FormatError("a key type Truerun does not use", got=repr(kind[:40]), expected=f"{ED25519} or {SK_ED25519}")
    key = reader.string()
    application = reader.string() if kind == SK_ED25519.encode() else None
    reader.end()
    if len(key) != 32:
        raise FormatError("an ed25519 key of the wrong size", got=f"{len(key)} bytes", expected="32 bytes")
    return PublicKey(key=key, application=application)


def parse_sshsig(blob: bytes) -> SshSignature:
    """Parse an unarmoured SSHSIG; raises FormatError."""
    if len(blob) > MAX_SIGNATURE_BYTES:
        raise FormatError(
            "an SSH signature that is too large", got=f"{len(blob)} bytes", expected=f"at most {MAX_SIGNATURE_BYTES}"
        )
    reader = WireReader(blob, "an SSH signature")
    if reader.take(len(MAGIC)) != MAGIC or reader.uint32() != VERSION:
        raise FormatError("not an SSH signature", got=repr(blob[:10]), expected="SSHSIG version 1")
    key = _decode_key(reader.string())
    for name, expected in (("namespace", NAMESPACE), ("reserved field", ""), ("hash", HASH)):
        got = reader.string()
        if got != expected.encode():
            raise FormatError(f"an SSH signature with another {name}", got=repr(got[:40]), expected=repr(expected))
    value = reader.string()
    reader.end()
    return _decode_signature(key, value)


def _decode_signature(key: PublicKey, value: bytes) -> SshSignature:
    reader = WireReader(value, "an SSH signature value")
    kind, signature = reader.string(), reader.string()
    flags = counter = None
    if key.application is not None:
        flags, counter = reader.take(1)[0], reader.uint32()
    reader.end()
    if kind != key.kind.encode() or len(signature) != 64:
        raise FormatError("an SSH signature that does not fit its key", got=repr(kind[:40]), expected=f"{key.kind}, 64 bytes")
    return SshSignature(public_key=key, signature=signature, flags=flags, counter=counter)


def render_sshsig(signature: SshSignature) -> bytes:
    """Render without armour."""
    value = wire_string(signature.public_key.kind.encode()) + wire_string(signature.signature)
    if signature.flags is not None and signature.counter is not None:
        value += bytes([signature.flags]) + signature.counter.to_bytes(4, "big")
    strings = (signature.public_key.encode(), NAMESPACE.encode(), b"", HASH.encode(), value)
    return MAGIC + VERSION.to_bytes(4, "big") + b"".join(map(wire_string, strings))


def signed_bytes(message: bytes) -> bytes:
    """What a key really signs for *message* (PROTOCOL.sshsig, "Signed Data, of which the signature goes into the blob")."""
    strings = (NAMESPACE.encode(), b"", HASH.encode(), hashlib.sha512(message).digest())
    return MAGIC + b"".join(map(wire_string, strings))


def parse_armor(text: str) -> bytes:
    """The blob inside `-----BEGIN SSH SIGNATURE-----` as ssh-keygen writes it; raises FormatError."""
    lines = text.removesuffix("\n").split("\n")
    if len(text) > 2 * MAX_SIGNATURE_BYTES or len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise FormatError("not an armoured SSH signature", got=repr(text[:40]), expected=_BEGIN)
    return parse_base64("".join(lines[1:-1]), "an armoured SSH signature")


def render_armor(blob: bytes) -> str:
    """*blob* as ssh-keygen writes it, so that `ssh-keygen -Y verify` reads it."""
    return "\n".join([_BEGIN, *textwrap.wrap(render_base64(blob), _ARMOR_WIDTH), _END]) + "\n"
