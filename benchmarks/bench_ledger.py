"""The ledger against the disk's own limit: durable signed appends, proofs, verification. Prints ratios, because machines differ.

The floor is `fdatasync` of a small write to the same file system, measured in the same run: nothing durable can be faster,
one at a time. Peer: pymerkle's SqliteTree as shipped (no signatures), where it is installed.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from truerun.adapters.keys import create_key, load_signer
from truerun.adapters.ledger_files import create_ledger, open_ledger
from truerun.core.fact import PersonRevoked
from truerun.ledger import merkle
from truerun.ledger.ledger import Ledger

AT = "2026-11-20T09:30:00Z"
SECONDS = 2.0
MANY = 3000


def fact(number: int) -> PersonRevoked:
    return PersonRevoked(person=f"person-{number}", reason="x" * 60, at=AT)


def rate(action: Callable[[int], object], seconds: float = SECONDS) -> tuple[float, list[float]]:
    """Calls per second, and the duration of each in seconds."""
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        action(len(times))
        times.append(time.perf_counter() - before)
    return len(times) / (time.perf_counter() - begun), times


def floor(folder: Path) -> float:
    descriptor = os.open(folder / "floor", os.O_RDWR | os.O_CREAT)
    block = b"x" * 4096

    def write(number: int) -> None:
        os.pwrite(descriptor, block, 4096 * (number % 1000))
        os.fdatasync(descriptor)

    per_second, _ = rate(write)
    os.close(descriptor)
    return per_second


def quantiles(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms, max {max(times) * 1e3:.2f} ms"


def line(what: str, value: str, note: str = "") -> None:
    print(f"{what:<46} {value:>16}  {note}")


def append_rates(folder: Path, ledger: Ledger) -> None:
    signer = load_signer(folder / "id")
    limit = floor(folder)
    line("fdatasync floor, one at a time", f"{limit:,.0f} /s")
    single, times = rate(lambda number: ledger.append(fact(number), signer))
    line("durable signed append, one at a time", f"{single:,.0f} /s", f"{single / limit:.2f} of the floor; {quantiles(times)}")
    batches, _ = rate(lambda number: ledger.append_all([fact(100 * number + item) for item in range(100)], signer))
    line("durable signed append, batches of 100", f"{100 * batches:,.0f} /s", f"{100 * batches / limit:.1f} of the floor")
    command = [sys.executable, __file__, str(folder)]
    workers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    crowd = sum(float(worker.communicate()[0]) for worker in workers)
    line("durable signed append, 4 processes", f"{crowd:,.0f} /s", f"{crowd / limit:.2f} of the floor")
    print()
    peer(folder, single)


def peer(folder: Path, ours: float) -> None:
    if importlib.util.find_spec("pymerkle") is None:
        line("peer: pymerkle SqliteTree", "not installed", "skipped; pip install pymerkle to compare")
        return
    from pymerkle import SqliteTree

    tree = SqliteTree(str(folder / "peer.db"))
    per_second, _ = rate(lambda number: tree.append_entry(b"x" * 400 + str(number).encode()))
    line("peer: pymerkle SqliteTree, unsigned", f"{per_second:,.0f} /s", f"ours, signed, is {ours / per_second:.1f} times that")


def proofs(ledger: Ledger) -> None:
    size, head = len(ledger), ledger.tree_head()
    per_second, times = rate(lambda number: ledger.prove_inclusion(number * 7919 % size), 1.0)
    line(f"inclusion proof among {size:,}", f"{1e6 / per_second:,.0f} µs", quantiles(times))
    per_second, times = rate(lambda number: ledger.prove_consistency(1 + number * 7919 % size), 1.0)
    line("consistency proof", f"{1e6 / per_second:,.0f} µs", quantiles(times))
    leaf, proof = merkle.leaf_hash(ledger.entry(size // 3).envelope), ledger.prove_inclusion(size // 3)
    per_second, _ = rate(lambda _: merkle.verify_inclusion(leaf, size // 3, size, proof, head.root), 0.5)
    line("verify an inclusion proof", f"{1e6 / per_second:,.0f} µs", f"{len(proof)} hashes")


def verification(folder: Path, ledger: Ledger) -> None:
    begun = time.perf_counter()
    ledger.verify()
    seconds = time.perf_counter() - begun
    envelopes = [entry.envelope for entry in ledger.entries()]
    size = len(envelopes)
    begun = time.perf_counter()
    for envelope in envelopes:
        merkle.leaf_hash(envelope)
    hashing = time.perf_counter() - begun
    line(
        f"verify everything, {size:,} entries",
        f"{seconds:.2f} s",
        f"{seconds / size * 1e6:,.0f} µs an entry; hashing alone {hashing:.3f} s",
    )
    begun = time.perf_counter()
    len(open_ledger(folder, read_only=True))
    line("open and read the tree head", f"{(time.perf_counter() - begun) * 1e3:.1f} ms")


def main() -> None:
    if len(sys.argv) == 3:  # one of the four processes
        folder = Path(sys.argv[1])
        ledger, signer = open_ledger(folder), load_signer(folder / "id")
        per_second, _ = rate(lambda number: ledger.append(fact(10**6 * (1 + int(sys.argv[2])) + number), signer))
        print(per_second)
        return
    line(
        "load of this machine, 1 minute", f"{os.getloadavg()[0]:.1f}", f"{os.cpu_count()} cores; figures are good below 1 a core"
    )
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        signer = create_key(folder / "id", "benchmark")
        ledger = create_ledger(folder, project="benchmark", signer=signer, at=AT)
        append_rates(folder, ledger)
        ledger.append_all([fact(-number) for number in range(MANY)], signer)
        proofs(ledger)
        verification(folder, ledger)


if __name__ == "__main__":
    main()
