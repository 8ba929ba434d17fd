"""A digest is an algorithm and a hexadecimal value; nothing else parses, and equal values have equal digests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.digest import Digest, digest_bytes, digest_value
from truerun.core.errors import FormatError


@given(st.binary())
def test_parse_inverts_render(data):
    digest = digest_bytes(data)
    assert Digest.parse(digest.render()) == digest
    assert str(digest) == digest.render()


def test_sha256_of_the_empty_text():
    assert digest_bytes(b"").value == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_value_has_one_digest_whatever_the_order_of_its_keys():
    assert digest_value({"a": 1, "b": 2.0}) == digest_value({"b": 2, "a": 1.0})
    assert digest_value({"a": 1}) != digest_value({"a": True})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:xyz",
        "SHA256:" + "a" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "../x:" + "a" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text):
    with pytest.raises(FormatError, match="not a digest"):
        Digest.parse(text)
