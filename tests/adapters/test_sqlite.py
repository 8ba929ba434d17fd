"""The ledger on disk: every bit of every column (P1), kills, full disks, read-only folders, crowds (P8)."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.ledger.material import ANA, LOG_KEY, make_ledger, revoked

from truerun.adapters.file_queue import FileQueue
from truerun.adapters.sqlite import SqliteStore
from truerun.core.errors import InputError, LedgerCorruptError, StorageError
from truerun.ledger import merkle
from truerun.ledger.ledger import Ledger

ROOT = Path(__file__).parents[2]
APPEND = """
import sys
from pathlib import Path
from tests.ledger.material import ANA, LOG_KEY, revoked
from truerun.adapters.sqlite import SqliteStore
from truerun.ledger.ledger import Ledger
exec(sys.argv[4])
ledger = Ledger(SqliteStore(Path(sys.argv[1])), LOG_KEY)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    print(ledger.append(revoked(number), ANA).index, flush=True)
"""


def command(file, first, last, before=""):
    return [sys.executable, "-c", APPEND, str(file), str(first), str(last), before]


@pytest.fixture
def file(tmp_path):
    store = SqliteStore(tmp_path / "ledger.db")
    make_ledger(store)
    store.close()
    return tmp_path / "ledger.db"


def first_bad(file):
    with pytest.raises(LedgerCorruptError) as refused:
        Ledger(SqliteStore(file, read_only=True)).verify()
    return refused.value.index


def test_it_is_durable_as_promised_and_quick_to_open(file):
    store = SqliteStore(file)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    begun = time.perf_counter()
    ledger = Ledger(SqliteStore(file), LOG_KEY)
    assert len(ledger) == 6
    assert time.perf_counter() - begun < 0.25  # usually 2 ms; the machine may be busy
    ledger.verify()


class Attacker:
    """Somebody with the database file: flips one bit of one value and puts it back."""

    def __init__(self, file):
        self.connection = sqlite3.connect(file, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = OFF")

    def targets(self):
        """(table, key column, key, column, value) of everything that is stored."""
        for table, key, column in (("entries", "idx", "envelope"), ("nodes", "place", "hash"), ("head", "id", "note")):
            for number, value in self.connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                yield table, key, number, column, value

    def write(self, table, key, number, column, value):
        self.connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, number))


def flip_all(file, step, offset=0):
    """Flip every *step*-th bit of everything stored, one at a time; each must be found at the right index."""
    attacker, reader = Attacker(file), Ledger(SqliteStore(file, read_only=True))
    reader.verify()
    flipped = 0
    for table, key, number, column, value in list(attacker.targets()):
        wanted = {"entries": number, "nodes": merkle.first_leaf(number), "head": 5}[table]
        for bit in range(offset % step, 8 * len(value), step):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            attacker.write(table, key, number, column, bytes(changed))
            with pytest.raises(LedgerCorruptError) as refused:
                reader.verify()
            assert refused.value.index == wanted, (table, number, bit)
            flipped += 1
        attacker.write(table, key, number, column, value)
    reader.verify()
    return flipped


def test_flipped_bits_of_every_stored_value_are_found_with_their_index(file):
    assert flip_all(file, 211, random.randrange(211)) > 200


@pytest.mark.slow
def test_every_single_bit_of_every_stored_value_is_found_with_its_index(file):
    assert flip_all(file, 1) > 50_000


def test_flipped_bits_of_row_numbers_are_found(file):
    attacker = Attacker(file)
    for table, key, number in (("entries", "idx", 4), ("nodes", "place", 4)):
        change = f"UPDATE {table} SET {key} = ? WHERE {key} = ?"
        for bit in range(63):
            other = number ^ (1 << bit)
            try:
                attacker.connection.execute(change, (other, number))
            except sqlite3.IntegrityError:
                continue  # that row exists: SQLite itself refuses
            assert first_bad(file) <= number
            attacker.connection.execute(change, (number, other))
    Ledger(SqliteStore(file, read_only=True)).verify()


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("DELETE FROM entries WHERE idx = 2", 2),
        ("DELETE FROM entries WHERE idx = 5", 5),
        ("DELETE FROM nodes WHERE place = 4", 3),
        ("DELETE FROM head", 0),
        ("UPDATE entries SET envelope = CAST(envelope AS TEXT) WHERE idx = 3", 3),
        ("UPDATE nodes SET hash = 7 WHERE place = 4", 0),
        ("UPDATE head SET note = CAST(note AS TEXT)", 0),
        ("INSERT INTO entries SELECT 6, envelope FROM entries WHERE idx = 5", 6),
        ("INSERT INTO entries SELECT -1, envelope FROM entries WHERE idx = 5", 0),
        ("INSERT INTO nodes VALUES (10, zeroblob(32))", 6),
        ("UPDATE entries SET envelope = zeroblob(20000000) WHERE idx = 3", 3),
        ("DROP TABLE nodes", 0),
        ("PRAGMA user_version = 9", 0),
        ("PRAGMA application_id = 9", 0),
    ],
)
def test_rows_and_tables_tampered_with_are_found(file, statement, index):
    Ledger(SqliteStore(file, read_only=True)).verify()
    Attacker(file).connection.execute(statement)
    assert first_bad(file) == index


def test_a_file_that_is_no_database_or_a_damaged_one_is_named_and_never_a_traceback(tmp_path, file):
    (tmp_path / "text.db").write_text("not a database " * 100)
    (tmp_path / "empty.db").write_bytes(b"")
    for name in ("text.db", "empty.db"):
        assert first_bad(tmp_path / name) == 0
    with pytest.raises(InputError, match="no ledger"):
        SqliteStore(tmp_path / "missing.db", read_only=True)
    whole = file.read_bytes()
    for cut in range(512, len(whole), 3000):
        (tmp_path / "cut.db").write_bytes(whole[:cut])
        first_bad(tmp_path / "cut.db")
    for at in range(0, len(whole) - 600, 521):
        (tmp_path / "hole.db").write_bytes(whole[:at] + b"\xa5" * 600 + whole[at + 600 :])
        try:
            Ledger(SqliteStore(tmp_path / "hole.db", read_only=True)).verify()
        except LedgerCorruptError:
            continue
        # Only free space was hit: what is stored is still the same.
        assert [entry.envelope for entry in Ledger(SqliteStore(tmp_path / "hole.db", read_only=True)).entries()] == [
            entry.envelope for entry in Ledger(SqliteStore(file, read_only=True)).entries()
        ]


def kill_while_appending(file, first):
    """Start a process that appends, kill it, and give what it acknowledged."""
    process = subprocess.Popen(command(file, first, first + 10_000), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(random.random() / 10)
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in process.stdout.read().splitlines() if line]
    process.wait()
    process.stdout.close()
    return acknowledged


def kill_cycles(file, count):
    ledger = Ledger(SqliteStore(file), LOG_KEY)
    for cycle in range(count):
        acknowledged = kill_while_appending(file, cycle * 10_000)
        ledger.verify()
        assert len(ledger) > max(acknowledged, default=0)
    indices = [entry.index for entry in ledger.entries()]
    assert indices == list(range(len(ledger)))
    assert ledger.append(revoked(-1), ANA).index == len(indices)


def test_nothing_acknowledged_is_lost_when_the_recorder_is_killed(file):
    """P8: kill -9 at random moments; the next process continues without hand work."""
    kill_cycles(file, 4)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_a_hundred_kills(file):
    kill_cycles(file, 100)


def test_four_processes_at_once_stay_in_one_line(file):
    processes = [
        subprocess.Popen(command(file, 1000 * number, 1000 * number + 15), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    indices = [int(line) for process in processes for line in process.communicate()[0].split()]
    assert sorted(indices) == list(range(6, 66))
    ledger = Ledger(SqliteStore(file))
    assert len(ledger) == 66
    ledger.verify()


LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
"""


def test_a_full_disk_is_said_clearly_and_loses_nothing(file):
    """P8: no file may grow beyond 120 kB, which is how a full disk or quota looks to SQLite."""
    done = subprocess.run(command(file, 0, 1000, LIMIT), cwd=ROOT, capture_output=True, text=True, check=False)
    acknowledged = [int(line) for line in done.stdout.split()]
    assert "StorageError" in done.stderr
    assert "nothing that was acknowledged is lost" in done.stderr
    ledger = Ledger(SqliteStore(file), LOG_KEY)
    ledger.verify()
    assert len(ledger) == max(acknowledged) + 1 > 6
    assert ledger.append(revoked(-1), ANA).index == len(acknowledged) + 6


VERIFY = """
import sys
from pathlib import Path
from truerun.adapters.sqlite import SqliteStore
from truerun.ledger.ledger import Ledger
exec(sys.argv[2])
Ledger(SqliteStore(Path(sys.argv[1]), read_only=True)).verify()
"""
AS_NOBODY = """
import os
from tests.ledger.material import make_ledger
make_ledger().verify()  # nobody may not read Python's own files: import what is needed before
os.setgid(65534), os.setuid(65534)
"""


def test_a_read_only_folder_is_said_clearly_and_can_still_be_verified():
    """Root may write anywhere, so the reader is somebody else."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        file = Path(folder) / "ledger.db"
        store = SqliteStore(file)
        make_ledger(store)
        store.close()
        file.chmod(0o644)
        Path(folder).chmod(0o555)
        before = AS_NOBODY if os.geteuid() == 0 else ""
        done = subprocess.run(command(file, 0, 1, before), cwd=ROOT, capture_output=True, text=True, check=False)
        assert "StorageError" in done.stderr
        assert "cannot be written" in done.stderr
        assert "check the permissions" in done.stderr
        read = subprocess.run([sys.executable, "-c", VERIFY, str(file), before], cwd=ROOT, check=False)
        assert read.returncode == 0
        Path(folder).chmod(0o755)


def test_a_missing_folder_is_said_clearly(tmp_path):
    with pytest.raises(StorageError, match="cannot be opened"):
        SqliteStore(tmp_path / "missing" / "ledger.db")


def test_a_store_opened_to_read_refuses_to_write(file):
    with pytest.raises(StorageError, match="cannot be written"):
        Ledger(SqliteStore(file, read_only=True), LOG_KEY).append(revoked(1), ANA)


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a+b")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_who_waits_too_long_is_told_which_process_to_look_at(tmp_path):
    queue = FileQueue(tmp_path / "lock", wait_seconds=0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    with pytest.raises(StorageError, match="another process has held the ledger"), queue.turn():
        pass
    holder.communicate()
    with queue.turn():
        assert (tmp_path / "lock").read_text().strip().isdigit()


def test_a_reader_sees_one_state_while_others_write(file):
    reading, writing = SqliteStore(file, read_only=True), Ledger(SqliteStore(file), LOG_KEY)
    with reading.reading() as view:
        before = view.head()
        writing.append(revoked(1), ANA)
        assert view.head() == before
        assert [index for index, _ in view.envelopes()] == list(range(6))
    assert len(Ledger(reading)) == 7


def test_a_child_after_a_fork_does_not_share_the_connection(file):
    ledger = Ledger(SqliteStore(file), LOG_KEY)
    ledger.append(revoked(1), ANA)
    child = os.fork()
    if child == 0:
        ledger.append(revoked(2), ANA)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.append(revoked(3), ANA).index == 8
    ledger.verify()
