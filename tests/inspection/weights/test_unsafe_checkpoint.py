"""K1: code in a checkpoint, however it is wrapped; and genuine checkpoints, which are let through. Nothing is ever loaded."""

import collections
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truerun.core.finding import Severity
from truerun.inspection.weights.source import MemorySource
from truerun.inspection.weights.unsafe_checkpoint import check_checkpoint


class Payload:
    """Loading it would call os.system; it is only ever written."""

    def __reduce__(self):
        return os.system, ("false",)


def look(data: bytes, name: str = "weights/init.pt"):
    return check_checkpoint(name, MemorySource(data))


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return buffer.getvalue()


PLAIN = {
    "model": collections.OrderedDict(a=[1.5, None, True], b=(1, 2, (3, "x"))),
    "step": 2**70,
    "set": {1, 2},
    "frozen": frozenset([3]),
    "bytes": b"\x00\xff" * 50,
    "array": np.arange(6.0).reshape(2, 3),
    "scalar": np.float32(1.5),
    "python": random.getstate(),
}


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_named_with_opcode_offset_and_global_in_every_protocol(protocol):
    """A reduce of os.system hides between plain values."""
    (finding,) = look(pickle.dumps({"a": 1, "b": Payload(), "c": 2}, protocol=protocol))
    assert finding.severity is Severity.CRITICAL
    assert finding.evidence["global"] == "posix.system"
    assert finding.evidence["opcode"] in ("GLOBAL", "STACK_GLOBAL")
    assert finding.evidence["offset"] > 0
    assert {"REDUCE"} <= {refusal["opcode"] for refusal in finding.evidence["refusals"]}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_no_finding_in_every_protocol(protocol):
    """Accept twin: containers, numbers, bytes and NumPy arrays."""
    assert look(pickle.dumps(PLAIN, protocol=protocol)) == ()


HAND_WRITTEN = {
    "INST": b"(S'false'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'false'\no.",
    "NEWOBJ": b"\x80\x02csubprocess\nPopen\nX\x05\x00\x00\x00false\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
    "BUILD on a global": b"\x80\x02ctorch\nFloatStorage\n}X\x01\x00\x00\x00aK\x01sb.",
    "BUILD on a tensor": b"\x80\x02ctorch._utils\n_rebuild_tensor\n)R}b.",
    "getattr": b"cbuiltins\ngetattr\n(cos\nS'system'\ntR(S'false'\ntR.",
    "a dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
    "a computed name": b"\x80\x04NN\x93.",
    "an allowed global called in a way nobody needs": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    "an array that would allocate what the file does not hold": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R."
    ),
    "an object dtype": b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00OK\x00K\x01\x87R.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pfile\n.",
    "a second pickle": pickle.dumps(1) + pickle.dumps(Payload()),
    "bytes after the end": pickle.dumps(1) + b"\x00more",
    "a pickle that breaks after its payload": pickle.dumps(Payload(), protocol=0)[:-1] + b"\xff",
    "no STOP": b"\x80\x02K\x01",
    "a memo with holes": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "an opcode newer than the protocol": b"\x80\x02\x8c\x01a.",
    "two protocol headers": b"\x80\x02\x80\x02N.",
    "a string that ends in another frame": b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00\x8c\x03abc.",
    "a frame inside a frame": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x95\x01\x00\x00\x00\x00\x00\x00\x00N." + b"."),
    "a frame that reaches past the end": b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00N.",
    "more taken than was put": b"\x80\x020.",
    "too much left": b"\x80\x02NN.",
}


@pytest.mark.parametrize("story", HAND_WRITTEN)
def test_hand_written_pickles_are_refused(story):
    """Each does something that no checkpoint needs, or that two unpicklers could read differently."""
    findings = look(HAND_WRITTEN[story])
    assert findings, story
    assert all(finding.severity.rank >= Severity.ERROR.rank for finding in findings)


def test_hooks_put_into_a_tensor_after_it_was_made_are_refused():
    """Only allowed globals, but the backward hooks are filled once the tensor exists."""
    data = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89ccollections\nOrderedDict\n)Rq\x00tR0h\x00K\x01ctorch\nSize\ns."
    )
    (finding,) = look(data)
    assert "hooks" in str(finding.evidence["refusals"])


def test_wrapping_does_not_help():
    """Nested archives, tar, compressed members, other member names and other extensions."""
    payload = pickle.dumps(Payload(), protocol=2)
    torch_like = zipped({"archive/data.pkl": payload, "archive/version": b"3\n"})
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = len(payload)
        archive.addfile(info, io.BytesIO(payload))
    for wrapped in (
        torch_like,
        zipped({"inner.pt": torch_like}),
        zipped({"archive/data.pkl": pickle.dumps(1, protocol=2), "archive/extra.bin": payload}),
        zipped({"archive/data.pkl": payload}, zipfile.ZIP_DEFLATED),
        tar.getvalue(),
    ):
        for name in ("weights/init.pt", "weights/init.safetensors", "weights/init.bin"):
            findings = look(wrapped, name)
            assert max(finding.severity.rank for finding in findings) >= Severity.ERROR.rank


def test_an_archive_that_two_readers_see_differently_is_refused():
    """Changed local names, flag bits, a wrong checksum, prepended and appended bytes, a missing directory."""
    good = zipped({"archive/data.pkl": pickle.dumps({"a": 1}, protocol=2), "archive/version": b"3\n"})
    assert look(good) == ()
    at = good.index(b"archive/data.pkl")
    flags = bytearray(good)
    flags[6] |= 1
    for bad in (
        good[:at] + b"archive/dat_.pkl" + good[at + 16 :],
        bytes(flags),
        good.replace(b"K\x01", b"K\x02", 1),
        b"\x80\x02." + good,
        good + b"more",
        good[:-22],
        good[: len(good) // 2],
    ):
        assert look(bad)


def test_arrays_of_objects_are_refused_and_arrays_of_numbers_are_not():
    plain, objects, several, packed = (io.BytesIO() for _ in range(4))
    np.save(plain, np.ones((3, 4)))
    np.save(objects, np.array([1, "a"], dtype=object), allow_pickle=True)
    np.savez(several, a=np.ones(3), b=np.arange(4, dtype=np.uint8))
    np.savez_compressed(packed, a=np.zeros(1000))
    assert [look(buffer.getvalue()) for buffer in (plain, several, packed)] == [(), (), ()]
    assert look(objects.getvalue())
    assert look(plain.getvalue() + b"more")


def safetensors(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_cover_their_file_exactly():
    def entry(begin, end):
        return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}

    assert look(safetensors({"a": entry(0, 8), "b": entry(8, 12), "__metadata__": {"format": "pt"}}, bytes(12))) == ()
    for bad in (
        safetensors({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        safetensors({"a": entry(0, 8)}, bytes(12)),
        safetensors({"a": {**entry(0, 8), "shape": [1]}}, bytes(8)),
        safetensors(b'{"a":1,"a":2}', b""),
        safetensors({"a": entry(0, 8)}, bytes(4)),
    ):
        assert look(bad)


def test_what_is_not_known_is_neither_harm_nor_an_all_clear():
    (finding,) = look(b"hello world\n" * 20)
    assert finding.severity is Severity.WARNING
    assert "could not be told" in finding.message
    assert look(b"\x89HDF\r\n\x1a\n" + bytes(100))[0].severity is Severity.WARNING
    assert look(b"")[0].severity is Severity.ERROR
    assert look(b"\x1f\x8b\x08" + bytes(30))[0].severity is Severity.ERROR


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data):
    look(data)
    look(b"\x80\x02" + data)
    look(b"PK\x03\x04" + data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_no_single_changed_byte_makes_it_raise(position, value):
    data = bytearray(zipped({"archive/data.pkl": pickle.dumps(collections.OrderedDict(a=1), protocol=2)}))
    data[position % len(data)] = value
    look(bytes(data))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(values, st.integers(0, 5))
def test_no_plain_value_is_refused(value, protocol):
    """Accept twin of everything above: whatever the standard pickler writes for plain values."""
    assert look(pickle.dumps(value, protocol=protocol)) == ()


@pytest.mark.torch
def test_genuine_torch_checkpoints_are_let_through():
    """State dicts of a model and an optimizer, random states, sparse and half tensors; new and legacy layout."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    everything = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]).state_dict(),
        "rng": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002 (it is what old checkpoints hold)
        "half": torch.ones(3).half(),
        "brain": torch.ones(3).bfloat16(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "sparse": torch.eye(3).to_sparse(),
        "shared": (model[0].weight[:2], model[0].weight),
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
    }
    for options in ({}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}):
        buffer = io.BytesIO()
        torch.save(everything, buffer, **options)
        assert look(buffer.getvalue()) == (), options


@pytest.mark.torch
def test_torch_checkpoints_with_a_payload_or_a_wrong_storage_are_refused():
    import torch

    for options in ({}, {"_use_new_zipfile_serialization": False}):
        buffer = io.BytesIO()
        torch.save({"w": torch.ones(3), "p": Payload()}, buffer, **options)
        (finding,) = look(buffer.getvalue())
        assert finding.evidence["global"] == "posix.system"
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(3)}, buffer, _use_new_zipfile_serialization=False)
    assert look(buffer.getvalue()[:-4])
    assert look(buffer.getvalue() + b"more")
