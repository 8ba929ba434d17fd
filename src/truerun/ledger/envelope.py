"""An entry's bytes: an in-toto Statement v1 about a fact, in a DSSE envelope with exactly one signature.

```
envelope   {"payload": base64(statement), "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": "SHA256:…", "sig": base64(SSHSIG over PAE(payloadType, payload))}]}
statement  {"_type": "https://in-toto.io/Statement/v1", "predicate": the fact, "predicateType": "urn:truerun:<kind>:1",
            "subject": [the ledger as its author saw it, every digest the fact names]}
```

Both are canonical JSON (RFC 8785), so one value has one form and one form has one value. The SSHSIG carries the public
key: nothing else is needed to verify. The first subject, `{"name": origin, "digest": {"rfc6962-sha256": root},
"annotations": {"size": n}}`, is the tree head that the author saw when signing. It binds the entry to this ledger and to
everything before it, so an entry can be neither replayed nor left standing on a rewritten history, not even by someone
who holds the log's key.
Sources: DSSE v1 protocol (PAE), in-toto attestation framework v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from truerun.core.canonical import parse_canonical, render_canonical
from truerun.core.codec import from_json
from truerun.core.digest import Digest
from truerun.core.errors import FormatError
from truerun.core.fact import Fact, named_digests, parse_predicate, render_predicate
from truerun.ledger.signing import Signer, verify_sshsig
from truerun.ledger.sshsig import SshSignature, parse_sshsig, render_sshsig
from truerun.ledger.tree_head import MAX_SIZE, TreeHead
from truerun.ledger.wire import parse_base64, render_base64

MAX_ENVELOPE_BYTES = 4 * 1024 * 1024
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
ROOT_ALGORITHM = "rfc6962-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an author says: a fact, and the tree head they had seen when they said it."""

    fact: Fact
    seen: TreeHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload, still bytes, and one signature over it. Law: `parse_envelope(render_envelope(e)) == e` and back."""

    payload: bytes
    signature: SshSignature

    @property
    def key(self) -> str:
        """The public key line that the signature carries."""
        return self.signature.public_key.line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    keyid: str
    sig: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    payload: str
    payloadType: str  # noqa: N815 (DSSE's name)
    signatures: tuple[_Signature, ...]


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of *payload* under our payload type: what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def sign_statement(statement: Statement, signer: Signer) -> bytes:
    """The envelope of *statement*, signed by *signer*; raises FormatError when it is too large."""
    payload = render_statement(statement)
    _require_size(len(payload) * 4 // 3)
    return render_envelope(Envelope(payload=payload, signature=parse_sshsig(signer.sign(pae(payload)))))


def verify_envelope(envelope: Envelope) -> Statement:
    """The statement in *envelope*; raises VerificationError unless its signature holds, FormatError unless all is canonical."""
    verify_sshsig(envelope.signature, pae(envelope.payload))
    return parse_statement(envelope.payload)


def render_envelope(envelope: Envelope) -> bytes:
    """Render as canonical JSON; raises FormatError beyond 4 MiB."""
    signature = envelope.signature
    data = render_canonical(
        {
            "payload": render_base64(envelope.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": signature.public_key.id, "sig": render_base64(render_sshsig(signature))}],
        }
    )
    _require_size(len(data))
    return data


def parse_envelope(data: bytes) -> Envelope:
    """Parse strictly: canonical JSON, our payload type, one signature, whose key id fits; raises FormatError."""
    _require_size(len(data))
    parsed = from_json(_Envelope, parse_canonical(data), "envelope")
    if parsed.payloadType != PAYLOAD_TYPE:
        raise FormatError("an envelope of another payload type", got=parsed.payloadType[:80], expected=PAYLOAD_TYPE)
    if len(parsed.signatures) != 1:
        raise FormatError("an envelope without exactly one signature", got=len(parsed.signatures), expected=1)
    signature = parse_sshsig(parse_base64(parsed.signatures[0].sig, "an envelope's signature"))
    expected = signature.public_key.id
    if parsed.signatures[0].keyid != expected:
        raise FormatError("an envelope whose key id does not fit", got=parsed.signatures[0].keyid[:60], expected=expected)
    return Envelope(payload=parse_base64(parsed.payload, "an envelope's payload"), signature=signature)


def render_statement(statement: Statement) -> bytes:
    """Render as canonical JSON."""
    return render_canonical(_frame(statement.seen, *render_predicate(statement.fact), named_digests(statement.fact)))


def parse_statement(payload: bytes) -> Statement:
    """
    Parse strictly; raises FormatError for another frame, other subjects than the fact's, and anything not canonical.

    A field that a fact gained later, with a default, may be absent: entries written by older releases stay readable.
    """
    data = parse_canonical(payload)
    try:
        seen = _parse_seen(data["subject"][0])
        predicate_type, predicate = data["predicateType"], data["predicate"]
        fact = parse_predicate(predicate_type, predicate)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise FormatError("not an in-toto statement of Truerun", got=repr(payload[:80]), expected=STATEMENT_TYPE) from error
    if data != _frame(seen, predicate_type, predicate, named_digests(fact)):
        raise FormatError("a statement with other fields or subjects than its fact's", got=repr(payload[:80]))
    return Statement(fact=fact, seen=seen)


def _frame(seen: TreeHead, predicate_type: str, predicate: Any, named: Mapping[str, Digest]) -> dict[str, Any]:
    subjects = [{"digest": {digest.algorithm: digest.value}, "name": name} for name, digest in named.items()]
    return {
        "_type": STATEMENT_TYPE,
        "predicate": predicate,
        "predicateType": predicate_type,
        "subject": [_render_seen(seen), *subjects],
    }


def _render_seen(seen: TreeHead) -> dict[str, Any]:
    return {"annotations": {"size": seen.size}, "digest": {ROOT_ALGORITHM: seen.root.hex()}, "name": seen.origin}


def _parse_seen(subject: Mapping[str, Any]) -> TreeHead:
    size, root, origin = subject["annotations"]["size"], subject["digest"][ROOT_ALGORITHM], subject["name"]
    if type(size) is not int or not 0 <= size <= MAX_SIZE or type(root) is not str or type(origin) is not str:
        raise FormatError("a statement whose first subject is not a tree head", got=repr(subject)[:80])
    try:
        return TreeHead(origin=origin, size=size, root=bytes.fromhex(root))
    except ValueError as error:
        raise FormatError("a root that is not hexadecimal", got=root[:80]) from error


def _require_size(size: int) -> None:
    if size > MAX_ENVELOPE_BYTES:
        raise FormatError(
            "an entry that is too large",
            got=f"{size} bytes",
            expected=f"at most {MAX_ENVELOPE_BYTES}",
            next_step="store the large part as an object and record its digest",
        )
