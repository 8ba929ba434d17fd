"""Locking against what it cannot beat: reading the bytes, and plain SHA-256. CPU seconds, because machines are shared; ratios.

Floor of hashing: reading the same file, from the page cache. Peer: hashlib's SHA-256. Row digests have no floor of their own;
they are set beside Polars' own `hash_rows` (64 bit, not cryptographic, not stable across versions).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from truerun.adapters.files import StatCache, hash_file
from truerun.adapters.packages import distributions, find_interpreter, record_digest
from truerun.adapters.tables import row_digests

FILE_BYTES = 256 << 20
ROWS = 100_000


def cpu(action: Callable[[], object], repeat: int = 3) -> float:
    """The least CPU seconds of *repeat* calls."""
    times = []
    for _ in range(repeat):
        before = time.process_time()
        action()
        times.append(time.process_time() - before)
    return min(times)


def read(path: Path) -> None:
    with path.open("rb", buffering=0) as stream:
        buffer = bytearray(1 << 20)
        while stream.readinto(buffer):
            pass


def hashing(folder: Path) -> None:
    path = folder / "shard"
    path.write_bytes(os.urandom(1 << 20) * (FILE_BYTES >> 20))
    ours, floor = cpu(lambda: hash_file(path)), cpu(lambda: read(path))
    peer = cpu(lambda: hashlib.sha256(path.read_bytes()))
    print(
        f"hash_file: {FILE_BYTES / ours / 1e9:.1f} GB per CPU second, {ours / floor:.1f}x reading, {peer / ours:.1f}x less than SHA-256"
    )
    os.utime(path, (1, 1))
    time.sleep(0.2)
    cache = StatCache(folder / "cache", recheck_share=0)
    hash_file(path, cache)
    cache.flush()
    print(f"hash_file, unchanged since: {cpu(lambda: [hash_file(path, cache) for _ in range(1000)]) * 1e3:.0f} us a file")


def rows() -> None:
    rng = np.random.default_rng(0)
    columns = {f"f{i}": rng.random(ROWS) for i in range(10)} | {f"i{i}": rng.integers(0, 1000, ROWS) for i in range(6)}
    frame = pl.DataFrame(columns | {f"s{i}": rng.integers(0, 50, ROWS).astype(str) for i in range(4)})
    ours, peer = cpu(lambda: row_digests(frame)), cpu(frame.hash_rows)
    print(f"row_digests: {ROWS / ours / 1e6:.2f} million rows of 20 columns per CPU second, {ours / peer:.0f}x hash_rows")


def packages(folder: Path) -> None:
    found = distributions(find_interpreter("", Path.cwd(), os.environ))
    cold = cpu(lambda: [record_digest(distribution) for distribution in found], repeat=1)
    cache = StatCache(folder / "packages", recheck_share=0)
    for distribution in found:
        record_digest(distribution, cache)
    warm = cpu(lambda: [record_digest(distribution, cache) for distribution in found])
    print(f"packages: {len(found)} distributions in {cold * 1e3:.0f} ms of CPU, unchanged since in {warm * 1e3:.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        hashing(Path(name))
        rows()
        packages(Path(name))
