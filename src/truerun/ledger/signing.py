"""Signing with and verifying SSH keys: ed25519 and FIDO ed25519, SSHSIG, namespace "truerun".

Where private keys live is the business of `adapters/keys.py`; who a key belongs to, of `oversight/people.py`.
Sources: OpenSSH PROTOCOL.sshsig and PROTOCOL.u2f, RFC 8032.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.sshsig import PublicKey, SshSignature, parse_public_key, parse_sshsig, render_sshsig, signed_bytes

_USER_PRESENT = 0x01


class Signer(Protocol):
    """Something that signs as one SSH key: a key file, an agent, a security key."""

    @property
    def public_key(self) -> str:
        """The public key as one line without comment: `ssh-ed25519 AAAA…`."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The SSHSIG blob (no armour) over *message*; raises SigningKeyError where the key cannot sign now."""
        ...


class Ed25519Signer:
    """A signer that holds its private key in memory: run keys, key files without passphrase, tests."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        raw = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._public_key = PublicKey(key=raw)

    @classmethod
    def from_seed(cls, seed: bytes) -> Ed25519Signer:
        """The key of a 32-byte *seed* (RFC 8032 section 5.1.5); randomness is the caller's."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_key(self) -> str:
        """The public key as one line."""
        return self._public_key.line

    def sign(self, message: bytes) -> bytes:
        """The SSHSIG blob over *message*."""
        return render_sshsig(SshSignature(public_key=self._public_key, signature=self._private_key.sign(signed_bytes(message))))


def verify_signature(public_key: str, message: bytes, signature: bytes) -> None:
    """Raise VerificationError unless *signature* is *public_key*'s SSHSIG over *message*."""
    try:
        expected, parsed = parse_public_key(public_key), parse_sshsig(signature)
    except FormatError as error:
        raise VerificationError(error.message, got=error.got, expected=error.expected, next_step=error.next_step) from error
    if parsed.public_key != expected:
        raise VerificationError("a signature by another key", got=parsed.public_key.id, expected=expected.id)
    verify_sshsig(parsed, message)


def verify_sshsig(signature: SshSignature, message: bytes) -> None:
    """Raise VerificationError unless *signature* holds over *message* by the key it carries."""
    key = signature.public_key
    signed = signed_bytes(message)
    if key.application is not None:
        if signature.flags is None or signature.counter is None or not signature.flags & _USER_PRESENT:
            raise VerificationError(
                "a security key signature without a touch", got=f"flags {signature.flags}", expected="user present"
            )
        signed = (
            hashlib.sha256(key.application).digest()
            + bytes([signature.flags])
            + signature.counter.to_bytes(4, "big")
            + hashlib.sha256(signed).digest()
        )
    try:
        _public_key(key.key).verify(signature.signature, signed)
    except InvalidSignature as error:
        raise VerificationError(
            "a signature that does not hold",
            got=f"a signature claimed to be by {key.id}",
            expected="one over exactly these bytes",
        ) from error


def key_id(public_key: str) -> str:
    """The fingerprint `SHA256:…` of a public key line, as `ssh-keygen -l` prints it; raises FormatError."""
    return parse_public_key(public_key).id


@functools.lru_cache(maxsize=256)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)
