"""
What a tired engineer meets at 3 a.m.: each bad input ends with a clear message and the contract's exit code, never with
a traceback, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TOML = """
[project]
name = "small"
command = "python train.py"

[data.train]
path = "train.csv"
label = "label"
contributor = "by"

[config]
files = ["config.yaml"]

[environment]
packages = "none"
"""
TRAIN = """
import time, pathlib
pathlib.Path("started").write_text("yes")
for step in range(600):
    if pathlib.Path("stop").exists():
        break
    time.sleep(0.05 if pathlib.Path("slow").exists() else 0)
print("trained")
"""
MAIN = "from truerun.apps.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class Place:
    """A project folder, with a key beside it."""

    root: Path
    key: Path
    program: tuple[str, ...] = (sys.executable, "-c", MAIN)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        home = self.key.parent
        folder = Path(sys.executable).parent
        return {
            **kept,
            "PATH": f"{folder}{os.pathsep}{kept['PATH']}",
            "HOME": str(home),
            "TRUERUN_KEY": str(self.key),
            "TRUERUN_CACHE": str(home / "cache"),
            "NO_COLOR": "1",
        }

    def words(self, *arguments: str) -> list[str]:
        return [*self.program, *arguments]

    def truerun(self, *arguments: str, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes or 0, resource.RLIM_INFINITY))

        done = subprocess.run(
            self.words(*arguments),
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            preexec_fn=limit if limit_bytes is not None else None,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def must(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.truerun(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def size(self) -> int:
        """Entries in the ledger, every one of them verified."""
        done = self.must("ledger", "verify", "--format", "json")
        return int(json.loads(done.stdout)["entries"])


def _fill(root: Path) -> None:
    (root / "truerun.toml").write_text(TOML)
    (root / "train.py").write_text(TRAIN)
    (root / "config.yaml").write_text("lr: 0.003\n")
    (root / "train.csv").write_text("x,label,by\n" + "".join(f"{row},{row % 2},ana\n" for row in range(40)))


def _key(folder: Path) -> Path:
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one owner and a lock, and the owner's key beside it."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "project").mkdir()
    _fill(folder / "project")
    _begin(Place(folder / "project", _key(folder)))
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Place:
    """A copy of that project to spoil."""
    shutil.copytree(template, tmp_path / "copy")
    return Place(tmp_path / "copy" / "project", tmp_path / "copy" / "id")


def _begin(place: Place) -> None:
    place.must("init", "--key", str(place.key), "--id", "olga", "--name", "Olga Example", "--yes")
    place.must("lock", "--note", "first")


def _says(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    for word in words:
        assert word in done.stderr, f"{word!r} is missing in: {done.stderr}"


@pytest.mark.parametrize("command", ["lock", "diff", "check", "runs", "approve"])
def test_no_declaration(tmp_path: Path, command: str) -> None:
    """Without truerun.toml every command says so and names the next step."""
    _says(Place(tmp_path, tmp_path / "none").truerun(command), 2, "truerun.toml", "truerun init")


@pytest.mark.parametrize("command", ["lock", "check", "run"])
def test_malformed_declaration(place: Place, command: str) -> None:
    """What is not TOML is named with its file and line."""
    (place.root / "truerun.toml").write_text(TOML.replace('name = "small"', 'name = "small'))
    words = (command, "--", "python", "train.py") if command == "run" else (command,)
    _says(place.truerun(*words), 2, "truerun.toml", "3")
    assert not (place.root / "started").exists()


def test_unknown_key(place: Place) -> None:
    """A key that nobody knows may be a misspelt one: it is refused by name."""
    (place.root / "truerun.toml").write_text(TOML.replace("contributor =", "contributer ="))
    _says(place.truerun("lock"), 2, "contributer", "contributor")


def test_wrong_kind(place: Place) -> None:
    """A value of the wrong kind is named with its key."""
    (place.root / "truerun.toml").write_text(TOML.replace('path = "train.csv"', "path = 3"))
    _says(place.truerun("lock"), 2, "data.train.path", "3")


def test_data_missing(place: Place) -> None:
    """Data that is not there: no answer is possible, and nothing is recorded."""
    before = place.size()
    (place.root / "train.csv").unlink()
    _says(place.truerun("lock"), 3, "train.csv")
    assert place.size() == before


def test_data_is_a_dangling_link(place: Place) -> None:
    """A link that leads nowhere counts as missing data."""
    (place.root / "train.csv").unlink()
    (place.root / "train.csv").symlink_to("nowhere.csv")
    _says(place.truerun("lock"), 3, "train.csv")


def test_data_is_not_what_its_name_says(place: Place) -> None:
    """Random bytes under the name of a parquet file."""
    (place.root / "train.parquet").write_bytes(bytes(range(256)) * 8)
    (place.root / "truerun.toml").write_text(TOML.replace("train.csv", "train.parquet"))
    _says(place.truerun("lock"), 3, "train.parquet")


def test_config_does_not_parse(place: Place) -> None:
    """A configuration file that is not YAML is named with its line."""
    (place.root / "config.yaml").write_text("lr: 0.003\nbad: [1, 2\n")
    done = place.truerun("lock")
    assert done.returncode in (2, 3)
    assert "config.yaml" in done.stderr


def test_damaged_lock_file(place: Place) -> None:
    """A merge conflict left in truerun.lock."""
    lock = place.root / "truerun.lock"
    lock.write_text("<<<<<<< HEAD\n" + lock.read_text())
    done = place.truerun("diff")
    assert done.returncode in (0, 2), done.stderr
    assert place.truerun("lock").returncode == 0, "locking again writes a good one"


def _damage(place: Place, how: str) -> None:
    ledger = place.root / ".truerun" / "ledger.db"
    for extra in ledger.parent.glob("ledger.db-*"):
        extra.unlink()
    data = bytearray(ledger.read_bytes())
    if how == "not a database":
        data[:] = b"not a database " * 400
    elif how == "cut off":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    ledger.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["not a database", "cut off"])
@pytest.mark.parametrize("words", [("ledger", "verify"), ("lock",), ("runs",), ("approve",)], ids=" ".join)
def test_damaged_ledger(place: Place, how: str, words: tuple[str, ...]) -> None:
    """A ledger file that is damaged: integrity is broken, exit 5, and the file is left as evidence."""
    _damage(place, how)
    before = (place.root / ".truerun" / "ledger.db").read_bytes()
    _says(place.truerun(*words), 5, "ledger")
    assert (place.root / ".truerun" / "ledger.db").read_bytes() == before


def test_damaged_ledger_does_not_stop_an_observed_run(place: Place) -> None:
    """A fault in Truerun never stops training in observe mode: it is said, and the command's own code is the exit code."""
    _damage(place, "not a database")
    done = place.truerun("run", "--mode", "observe", "--", "python", "train.py")
    assert "trained" in done.stdout
    assert done.returncode == 0
    assert "ledger" in done.stderr


def test_damaged_ledger_stops_an_enforced_run(place: Place) -> None:
    """In enforce mode nothing starts on a history that does not hold."""
    _damage(place, "not a database")
    done = place.truerun("run", "--mode", "enforce", "--", "python", "train.py")
    assert done.returncode == 5, done.stderr
    assert not (place.root / "started").exists()


def test_log_key_is_gone(place: Place) -> None:
    """Without the key that signs tree heads nothing can be recorded; reading still works."""
    (place.root / ".truerun" / "log.key").unlink()
    (place.root / "config.yaml").write_text("lr: 0.3\n")
    _says(place.truerun("lock", "--note", "again"), 2, "key")
    assert place.truerun("ledger", "verify").returncode == 0


def test_no_signing_key(place: Place) -> None:
    """Nobody to sign: the message says where keys are looked for."""
    other = Place(place.root, place.root / "no-such-key")
    _says(other.truerun("approve", "--reason", "x"), 2, "key")


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_command_does_not_exist(place: Place, mode: str) -> None:
    """A misspelt command: exit 2, and the ledger still verifies."""
    done = place.truerun("run", "--mode", mode, "--", "pyhton", "train.py")
    assert done.returncode in (2, 4), done.stderr
    if mode == "observe":
        _says(done, 2, "pyhton")
    assert place.size() > 0


def test_command_fails(place: Place) -> None:
    """In observe mode the exit code is the command's own."""
    done = place.truerun("run", "--mode", "observe", "--", "python", "-c", "raise SystemExit(7)")
    assert done.returncode == 7, done.stderr


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_killed_run(place: Place, mode: str) -> None:
    """
    SIGKILL hits truerun in the middle of a run. Every entry acknowledged before is still there and verifies, the run is
    listed as unfinished, and the next run works. Observing ends nothing: the training goes on to its end. In enforce mode
    it does not go on unwatched.
    """
    (place.root / "slow").write_text("")
    before = place.size()
    words = place.words("run", "--mode", mode, "--run-id", "killed", "--", "python", "train.py")
    running = subprocess.Popen(
        words,
        cwd=place.root,
        env=place.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    _wait_for(place.root / "started")
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert place.size() > before, "the start of the run was acknowledged before the command began"
    assert json.loads(place.must("runs", "--format", "json").stdout)["runs"][-1]["verdict"] == "unfinished"
    shown = place.truerun("show", "killed")
    assert shown.returncode in (0, 3)
    assert "unfinished" in shown.stdout
    if mode == "enforce":
        assert _ends(running.pid), "the training process is still there, and nobody watches it"
    else:
        assert _living(running.pid), "the training was ended, and it was only observed"
    (place.root / "slow").unlink()
    assert running.communicate(timeout=60)[0] == ("" if mode == "enforce" else "trained\n")
    assert _ends(running.pid)
    place.must("run", "--mode", "observe", "--", "python", "train.py")


def test_interrupted_run(place: Place) -> None:
    """Ctrl-C reaches the command and Truerun; the run is recorded as ended."""
    (place.root / "slow").write_text("")
    words = place.words("run", "--mode", "observe", "--run-id", "stopped", "--", "python", "train.py")
    running = subprocess.Popen(
        words, cwd=place.root, env=place.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    _wait_for(place.root / "started")
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert b"Traceback" not in errors.replace(b"KeyboardInterrupt", b"").split(b"truerun:")[-1]
    assert running.returncode != 0
    assert "stopped" in place.must("runs").stdout
    assert place.size() > 0


def _wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} never appeared"
        time.sleep(0.02)


def _ends(group: int, seconds: float = 15) -> bool:
    """Whether no process of the session *group* lives any more, within *seconds*."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not _living(group):
            return True
        time.sleep(0.1)
    return False


def _living(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 3 MiB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root; test_write_limit covers the same messages without it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _on_disk(folder: Path, tmp_path: Path) -> Place:
    root = folder / "project"
    root.mkdir()
    _fill(root)
    place = Place(root, _key(tmp_path))
    _begin(place)
    return place


def test_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """No space is left: exit 3 that says so; entries from before are all there, and work goes on once there is space."""
    place = _on_disk(small_disk, tmp_path)
    before = place.size()
    (place.root / "config.yaml").write_text("lr: 0.3\n")
    filler = _fill_up(small_disk)
    done = place.truerun("lock", "--note", "x" * 50_000)
    assert done.returncode == 3, done.stderr
    assert "space" in done.stderr.lower() or "full" in done.stderr.lower()
    filler.unlink()
    assert place.size() >= before
    place.must("lock", "--note", "again")


def _fill_up(folder: Path) -> Path:
    """Leave no free block in the file system of *folder*; return the file that takes it all."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


def test_full_disk_does_not_stop_an_observed_run(small_disk: Path, tmp_path: Path) -> None:
    """Training that needs no space of this disk goes on in observe mode; what could not be recorded is said."""
    place = _on_disk(small_disk, tmp_path)
    (place.root / "train.py").write_text('print("trained")\n')
    _fill_up(small_disk)
    done = place.truerun("run", "--mode", "observe", "--", "python", "train.py")
    assert "trained" in done.stdout
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip(), "nothing was said about the full disk"


def test_read_only_folder(small_disk: Path, tmp_path: Path) -> None:
    """A read-only file system: what only reads works, what must write says so with exit 3."""
    place = _on_disk(small_disk, tmp_path)
    (place.root / "config.yaml").write_text("lr: 0.3\n")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        done = place.truerun("lock", "--note", "again")
        assert done.returncode == 3, done.stderr
        assert (
            "read-only" in done.stderr.lower()
            or "cannot be written" in done.stderr.lower()
            or "cannot be opened" in done.stderr.lower()
        )
        assert place.truerun("ledger", "verify").returncode == 0
        observed = place.truerun("run", "--mode", "observe", "--", "python", "-c", "print('trained')")
        assert "trained" in observed.stdout
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    place.must("lock", "--note", "again")


def test_write_limit(place: Place) -> None:
    """A limit on file size ends writes as a full disk does, without any right to mount."""
    before = place.size()
    (place.root / "config.yaml").write_text("lr: 0.3\n")
    done = place.truerun("lock", "--note", "again", limit_bytes=2048)
    assert done.returncode == 3, f"{done.returncode} {done.stderr}"
    assert place.size() >= before
    place.must("lock", "--note", "again")


def test_hostile_names_are_shown_escaped(place: Place) -> None:
    """Terminal control codes in a note or a configuration key are shown, not obeyed."""
    (place.root / "config.yaml").write_text('lr: 0.003\n"\\e[2Jkey\\u202e": 1\n')
    done = place.truerun("lock", "--note", "\x1b[31mred")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\u202e" not in done.stdout + done.stderr
    shown = place.truerun("ledger", "show")
    assert "\x1b" not in shown.stdout + shown.stderr


@pytest.mark.slow
def test_core_installation_without_torch(tmp_path: Path) -> None:
    """With core dependencies only, the command line works and says which extra would bring what is missing."""
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    source = Path(__file__).parents[2]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(source)], check=True)
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True)
    names = {item["name"] for item in json.loads(listed.stdout)} - {"pip", "setuptools"}
    assert not names & {"torch", "numpy", "polars"}
    assert len(names) <= 15, names
    root = tmp_path / "project"
    root.mkdir()
    _fill(root)
    place = Place(root, _key(tmp_path), (str(environment / "bin" / "truerun"),))
    place.must("--help")
    done = place.truerun("init", "--key", str(place.key), "--id", "olga", "--name", "Olga Example", "--yes")
    assert done.returncode == 0, done.stderr
    assert place.truerun("ledger", "verify").returncode == 0
    locked = place.truerun("lock")
    assert locked.returncode in (0, 2)
    if locked.returncode == 2:
        assert "truerun[data]" in locked.stderr
    (root / "truerun.toml").write_text(
        TOML.replace('[data.train]\npath = "train.csv"\nlabel = "label"\ncontributor = "by"\n', "")
    )
    place.must("lock", "--note", "without data")
    assert place.truerun("check").returncode == 0
    _says(place.truerun("run", "--", str(python), "train.py"), 2, "numpy", "truerun[data]")
    assert not (root / "started").exists()
