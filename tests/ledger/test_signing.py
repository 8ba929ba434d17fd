"""SSH signatures, both ways with OpenSSH itself and with the `sshsig` package; every refusal has its accept twin."""

import base64
import hashlib
import shutil
import subprocess

import pytest
import sshsig
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.material import ANA, BEN

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.signing import key_id, verify_signature
from truerun.ledger.sshsig import (
    PublicKey,
    SshSignature,
    parse_armor,
    parse_public_key,
    parse_sshsig,
    render_armor,
    render_sshsig,
    signed_bytes,
)
from truerun.ledger.wire import wire_string

MESSAGE = b"a message"
openssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH's client")


def ssh_keygen(*arguments, stdin=b""):
    return subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "id"
    assert ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "made-up", "-f", str(file)).returncode == 0
    return file


@openssh
def test_a_signature_by_ssh_keygen_verifies(key_file):
    armored = ssh_keygen("-Y", "sign", "-n", "truerun", "-f", str(key_file), stdin=MESSAGE).stdout.decode()
    line = key_file.with_suffix(".pub").read_text()
    verify_signature(line, MESSAGE, parse_armor(armored))
    assert render_armor(parse_armor(armored)) == armored
    with pytest.raises(VerificationError):
        verify_signature(line, MESSAGE + b".", parse_armor(armored))


@openssh
@pytest.mark.parametrize("option", [("-n", "git"), ("-n", "truerun", "-O", "hashalg=sha256")])
def test_a_signature_for_another_purpose_is_refused(key_file, option):
    """A signature that its author gave under another namespace, or over another hash, is replayed here (accept twin above)."""
    armored = ssh_keygen("-Y", "sign", *option, "-f", str(key_file), stdin=MESSAGE).stdout.decode()
    with pytest.raises(VerificationError):
        verify_signature(key_file.with_suffix(".pub").read_text(), MESSAGE, parse_armor(armored))


@openssh
def test_ssh_keygen_verifies_our_signature_and_refuses_it_over_other_bytes(tmp_path):
    (tmp_path / "allowed").write_text(f'ana@example.org namespaces="truerun" {ANA.public_key}\n')
    (tmp_path / "signature").write_text(render_armor(ANA.sign(MESSAGE)))
    command = ("-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "ana@example.org", "-s", str(tmp_path / "signature"))
    assert ssh_keygen(*command, "-n", "truerun", stdin=MESSAGE).returncode == 0
    assert ssh_keygen(*command, "-n", "truerun", stdin=MESSAGE + b".").returncode != 0
    assert ssh_keygen(*command, "-n", "git", stdin=MESSAGE).returncode != 0


@openssh
def test_key_ids_are_those_of_ssh_keygen(key_file):
    line = key_file.with_suffix(".pub").read_text()
    assert key_id(line) in ssh_keygen("-l", "-f", str(key_file)).stdout.decode()


def test_the_sshsig_package_reads_ours_and_refuses_other_bytes():
    armored = render_armor(ANA.sign(MESSAGE))
    assert sshsig.check_signature(MESSAGE, armored, namespace="truerun")
    with pytest.raises(sshsig.InvalidSignature):
        sshsig.check_signature(MESSAGE + b".", armored, namespace="truerun")


def test_a_signature_by_another_key_is_refused():
    verify_signature(ANA.public_key, MESSAGE, ANA.sign(MESSAGE))
    with pytest.raises(VerificationError, match="another key"):
        verify_signature(ANA.public_key, MESSAGE, BEN.sign(MESSAGE))


def test_a_key_put_in_the_place_of_the_signer_is_refused():
    """The attacker keeps the signature and writes their own name over it."""
    stolen = parse_sshsig(ANA.sign(MESSAGE))
    claimed = render_sshsig(SshSignature(public_key=parse_public_key(BEN.public_key), signature=stolen.signature))
    with pytest.raises(VerificationError, match="does not hold"):
        verify_signature(BEN.public_key, MESSAGE, claimed)


@pytest.mark.parametrize("bit", range(0, 8 * len(ANA.sign(MESSAGE)), 3))
def test_every_changed_bit_of_a_signature_is_refused(bit):
    blob = bytearray(ANA.sign(MESSAGE))
    verify_signature(ANA.public_key, MESSAGE, bytes(blob))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationError):
        verify_signature(ANA.public_key, MESSAGE, bytes(blob))


def security_key_signature(*, flags=1, counter=7, application=b"ssh:"):
    """As a FIDO key would make it (PROTOCOL.u2f), from a key in memory."""
    private = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    key = PublicKey(key=private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), application=application)
    tail = bytes([flags]) + counter.to_bytes(4, "big")
    signed = hashlib.sha256(application).digest() + tail + hashlib.sha256(signed_bytes(MESSAGE)).digest()
    return key.line, render_sshsig(SshSignature(public_key=key, signature=private.sign(signed), flags=flags, counter=counter))


def test_a_security_key_verifies_and_without_a_touch_it_does_not():
    line, blob = security_key_signature()
    assert line.startswith("sk-ssh-ed25519@openssh.com ")
    verify_signature(line, MESSAGE, blob)
    with pytest.raises(VerificationError, match="does not hold"):
        verify_signature(line, MESSAGE + b".", blob)
    line, blob = security_key_signature(flags=0)
    with pytest.raises(VerificationError, match="touch"):
        verify_signature(line, MESSAGE, blob)


@openssh
def test_openssh_agrees_on_security_key_signatures(tmp_path):
    (tmp_path / "signature").write_text(render_armor(security_key_signature()[1]))
    command = ("-Y", "check-novalidate", "-n", "truerun", "-s", str(tmp_path / "signature"))
    assert ssh_keygen(*command, stdin=MESSAGE).returncode == 0
    assert ssh_keygen(*command, stdin=MESSAGE + b".").returncode != 0


def test_other_key_types_are_refused_with_the_command_that_makes_a_usable_one():
    rsa = (
        "ssh-rsa " + base64.b64encode(wire_string(b"ssh-rsa") + wire_string(b"\x01\x00\x01") + wire_string(b"\x00" * 32)).decode()
    )
    with pytest.raises(FormatError) as refused:
        parse_public_key(rsa)
    assert "ssh-keygen -t ed25519" in str(refused.value)
    assert parse_public_key(ANA.public_key + " with a comment").line == ANA.public_key


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA", ANA.public_key[:-4], "x " + ANA.public_key]
)
def test_a_malformed_public_key_is_refused(line):
    with pytest.raises(FormatError):
        parse_public_key(line)


KEYS = st.builds(PublicKey, key=st.binary(min_size=32, max_size=32), application=st.none() | st.binary(max_size=40))


@st.composite
def signatures(draw):
    key, hardware = draw(KEYS), {}
    if key.application is not None:
        hardware = {"flags": draw(st.integers(0, 255)), "counter": draw(st.integers(0, 2**32 - 1))}
    return SshSignature(public_key=key, signature=draw(st.binary(min_size=64, max_size=64)), **hardware)


@given(signatures())
def test_parse_and_render_are_inverse(signature):
    blob = render_sshsig(signature)
    assert parse_sshsig(blob) == signature
    assert parse_armor(render_armor(blob)) == blob
    assert parse_public_key(signature.public_key.line) == signature.public_key


@given(signatures(), st.data())
def test_changed_signatures_are_refused_or_are_the_form_of_another_value(signature, data):
    blob = bytearray(render_sshsig(signature))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        parsed = parse_sshsig(bytes(blob))
    except FormatError:
        return
    assert render_sshsig(parsed) == bytes(blob)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: b"SSHSIG\x00\x00\x00\x01" + tail))
def test_random_bytes_are_refused(data):
    with pytest.raises(FormatError):
        parse_sshsig(data)


@given(st.text(max_size=200))
def test_random_text_is_no_armour_and_no_key(text):
    with pytest.raises(FormatError):
        parse_armor(text)
    with pytest.raises(FormatError):
        parse_public_key(text)


def test_a_signature_that_claims_a_huge_string_is_refused():
    with pytest.raises(FormatError):
        parse_sshsig(b"SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff")
    with pytest.raises(FormatError):
        parse_sshsig(b"SSHSIG" + b"\x00" * 5000)
