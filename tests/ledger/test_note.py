"""Signed notes: Go's published vectors, laws, and forgeries."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.note import (
    Note,
    NoteKey,
    NoteSignature,
    NoteSigner,
    parse_note,
    parse_note_key,
    render_note,
    render_note_key,
    verify_note,
)

# The example of Go's golang.org/x/mod/sumdb/note.
GO_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SIGNER = NoteSigner("example.org/log", b"\x05" * 32)
TEXT = "a text\n\nin two parts\n"


def test_the_note_of_go_verifies_and_is_made_again_bit_for_bit():
    signer = NoteSigner.parse(GO_SECRET)
    assert signer.render_secret() == GO_SECRET
    assert render_note_key(signer.key) == GO_KEY
    note = parse_note(GO_NOTE.encode())
    verify_note(note, parse_note_key(GO_KEY))
    assert render_note(note).decode() == GO_NOTE
    assert render_note(Note(text=note.text, signatures=(signer.sign(note.text),))).decode() == GO_NOTE


def signed(text=TEXT, *signers):
    return Note(text=text, signatures=tuple(signer.sign(text) for signer in signers or (SIGNER,)))


def test_signatures_by_unknown_keys_are_ignored_and_not_needed():
    """As the specification demands: this is how witnesses cosign."""
    witness = NoteSigner("example.org/witness", b"\x06" * 32)
    note = signed(TEXT, witness, SIGNER)
    verify_note(parse_note(render_note(note)), SIGNER.key)
    verify_note(note, witness.key)
    with pytest.raises(VerificationError):
        verify_note(signed(TEXT, witness), SIGNER.key)


@pytest.mark.parametrize(
    "forged",
    [
        Note(text="another text\n", signatures=signed().signatures),
        Note(text=TEXT, signatures=()),
        Note(text=TEXT, signatures=signed().signatures * 2),
        Note(text=TEXT, signatures=(NoteSignature(name=SIGNER.key.name, hash=SIGNER.key.hash, value=b"\x00" * 64),)),
        Note(text=TEXT, signatures=(NoteSignature(name=SIGNER.key.name, hash=SIGNER.key.hash, value=b"short"),)),
        signed(TEXT, NoteSigner("example.org/log", b"\x06" * 32)),
        signed(TEXT, NoteSigner("example.org/other", b"\x05" * 32)),
    ],
)
def test_a_forged_note_is_refused(forged):
    verify_note(signed(), SIGNER.key)
    with pytest.raises(VerificationError):
        verify_note(forged, SIGNER.key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name",
        b"text\n\nname AAAAAAAA\n",
        "text\n\n— name AAAAAAAA\n\n".encode(),
        "text\n\n— na+me AAAAAAAA\n".encode(),
        "text\n\n— na\u00a0me AAAAAAAA\n".encode(),
        "text\n\n—  AAAAAAAA\n".encode(),
        "text\n\n— name AAAA\n".encode(),
        "text\n\n— name AAAAAAA\n".encode(),
        "text\n\n— name AAAAAAB=\n".encode(),
        "te\txt\n\n— name AAAAAAAA\n".encode(),
        "text\r\n\n— name AAAAAAAA\n".encode(),
        b"\xff\n\n\xe2\x80\x94 name AAAAAAAA\n",
        ("text\n\n" + "— name AAAAAAAA\n" * 33).encode(),
        b"x" * 300_000,
    ],
)
def test_a_malformed_note_is_refused(data):
    assert parse_note("text\n\n— name AAAAAAA=\n".encode()).signatures[0].value == b"\x00"
    with pytest.raises(FormatError):
        parse_note(data)


def test_a_damaged_secret_is_refused_without_being_shown():
    secret = SIGNER.render_secret()
    assert NoteSigner.parse(secret).key == SIGNER.key
    for damaged in ("", secret[:-1], secret[12:], secret.replace("+", "-"), secret[:-1] + "!", secret.replace("BQUF", "BQUG", 1)):
        with pytest.raises(FormatError) as refused:
            NoteSigner.parse(damaged)
        assert "BQUF" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "name", "a+b", GO_KEY[:-1], GO_KEY.replace("c7", "c8"), GO_KEY.replace("+AR", "+AA"), "a b+00+AA=="]
)
def test_a_malformed_key_is_refused(text):
    assert render_note_key(parse_note_key(GO_KEY)) == GO_KEY
    with pytest.raises(FormatError):
        parse_note_key(text)


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="+"), min_size=1, max_size=20).filter(
    lambda name: name.isprintable() and not any(letter.isspace() for letter in name)
)
TEXTS = st.text(st.characters(min_codepoint=32, codec="utf-8") | st.just("\n"), max_size=80).map(lambda text: text + "\n")
SIGNATURES = st.builds(
    NoteSignature, name=NAMES, hash=st.binary(min_size=4, max_size=4), value=st.binary(min_size=1, max_size=70)
)


@given(st.builds(Note, text=TEXTS, signatures=st.lists(SIGNATURES, min_size=1, max_size=4).map(tuple)))
def test_parse_and_render_are_inverse(note):
    assert parse_note(render_note(note)) == note


@given(NAMES, st.binary(min_size=32, max_size=32))
def test_keys_parse_and_render(name, raw):
    key = NoteKey(name=name, key=raw)
    assert parse_note_key(render_note_key(key)) == key


@given(st.binary(max_size=200), st.data())
def test_random_and_changed_notes_are_refused_or_canonical(noise, data):
    whole = bytearray(render_note(signed()))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    for candidate in (noise, bytes(whole)):
        with contextlib.suppress(FormatError):
            assert render_note(parse_note(candidate)) == candidate
