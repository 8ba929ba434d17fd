"""A lock to take tests from; every part can be replaced."""

from dataclasses import replace

from truerun.core.digest import Digest, digest_bytes
from truerun.core.lock import (
    Lock,
    LockedConfig,
    LockedData,
    LockedEnvironment,
    LockedFile,
    LockedKey,
    LockedPackage,
)


def digest(text: str) -> Digest:
    return digest_bytes(text.encode())


def file(path: str, text: str = "") -> LockedFile:
    return LockedFile(path=path, digest=digest(text or path), size=len(text))


def config(path: str = "config.yaml", text: str = "one", **keys: object) -> LockedConfig:
    return LockedConfig(
        file=file(path, text),
        keys={name.replace("__", "."): LockedKey(value=value, line=line) for line, (name, value) in enumerate(keys.items(), 1)},
    )


DATA = LockedData(
    role="training",
    files=(file("data/a.csv"), file("data/b.csv")),
    rows=10,
    columns={"x": "Int64", "label": "String"},
    row_digests=digest("rows"),
    profile=digest("profile"),
    contributors={"ana": 6, "bo": 4},
    file_rows=(6, 4),
)
LOCK = Lock(
    project="digits",
    command="python train.py",
    critical=True,
    declaration=file("truerun.toml"),
    config={"config.yaml": config(optimizer__lr=0.003, seed=1)},
    data={"train": DATA},
    code={"train.py": file("train.py")},
    environment=LockedEnvironment(
        python="3.11.7", packages={"torch": LockedPackage(version="2.13.0", record=digest("torch"))}, variables={"LR_SCALE": None}
    ),
    checkpoints={"init.pt": file("init.pt")},
)


def with_config(**keys: object) -> Lock:
    return replace(LOCK, config={"config.yaml": config(text="two", **keys)})


def with_data(**fields: object) -> Lock:
    return replace(LOCK, data={"train": replace(DATA, **fields)})
