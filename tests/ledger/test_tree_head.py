"""Tree heads: the example of the specification, laws, and forgeries."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.errors import FormatError, VerificationError
from truerun.ledger.note import Note, NoteSigner, parse_note, render_note
from truerun.ledger.tree_head import TreeHead, parse_tree_head, render_tree_head, sign_tree_head, verify_tree_head

# The example of c2sp.org/tlog-checkpoint.
C2SP = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
SIGNER = NoteSigner("example.org/log", b"\x05" * 32)
HEAD = TreeHead(origin="example.org/log", size=3, root=b"\x01" * 32)


def test_the_example_of_the_specification_parses_and_renders_the_same():
    note = parse_note(C2SP.encode())
    head = parse_tree_head(note.text)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert render_tree_head(head) == note.text


def test_a_signed_head_verifies_and_not_for_another_ledger_or_key():
    data = sign_tree_head(HEAD, SIGNER)
    assert verify_tree_head(data, SIGNER.key) == HEAD
    with pytest.raises(VerificationError):
        verify_tree_head(data, NoteSigner("example.org/log", b"\x06" * 32).key)
    foreign = render_tree_head(TreeHead(origin="example.org/other", size=3, root=b"\x01" * 32))
    with pytest.raises(VerificationError, match="another ledger"):
        verify_tree_head(render_note(Note(text=foreign, signatures=(SIGNER.sign(foreign),))), SIGNER.key)


def test_every_changed_bit_of_a_signed_head_is_refused():
    data = sign_tree_head(HEAD, SIGNER)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, VerificationError)):
            verify_tree_head(bytes(changed), SIGNER.key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        "\n1\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
        "o\n01\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
        "o\n-1\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
        "o\n99999999999999999999\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
        "o\n9999999999999999\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
        "o\n1\nAQE=\n",
        "o\n1\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        "o\n1\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nextension\n",
        "o\n１\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
    ],
)
def test_a_malformed_head_is_refused(text):
    parse_tree_head("o\n1\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n")
    with pytest.raises(FormatError):
        parse_tree_head(text)


@given(
    st.text(st.characters(min_codepoint=33, codec="utf-8"), min_size=1),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_parse_and_render_are_inverse(origin, size, root):
    head = TreeHead(origin=origin, size=size, root=root)
    assert parse_tree_head(render_tree_head(head)) == head


@given(st.text(max_size=100), st.data())
def test_random_and_changed_heads_are_refused_or_canonical(noise, data):
    text = render_tree_head(HEAD)
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    for candidate in (noise, changed):
        with contextlib.suppress(FormatError):
            assert render_tree_head(parse_tree_head(candidate)) == candidate
