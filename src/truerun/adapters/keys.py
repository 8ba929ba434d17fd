"""Keys on disk and in the SSH agent: the world's side of `truerun.ledger.signing` and `truerun.ledger.note`.

People sign with the SSH keys they already have. A plain key file is read here; what a file cannot give (a passphrase, a
security key, an agent) is left to `ssh-keygen -Y sign`, so that secrets stay where they are. Keys are never shown or logged.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from truerun.core.errors import FormatError, SigningKeyError, VerificationError
from truerun.ledger.note import NoteSigner
from truerun.ledger.signing import Ed25519Signer, Signer, key_id, verify_signature
from truerun.ledger.sshsig import NAMESPACE, parse_armor, parse_public_key

MAX_KEY_FILE_BYTES = 64 * 1024
_TOUCH_SECONDS = 120
_AGENT_SECONDS = 10
_MAKE = "make one with: ssh-keygen -t ed25519, or give one with --key FILE"


def load_signer(path: Path | None = None) -> Signer:
    """
    The key to sign with: *path*, else `TRUERUN_KEY`, else the SSH agent, else `~/.ssh/id_ed25519`.

    A `.pub` file means the agent's key of that name. Raises SigningKeyError where there is none, or one that cannot be used.
    """
    if path is None and os.environ.get("TRUERUN_KEY"):
        path = Path(os.environ["TRUERUN_KEY"])
    if path is not None:
        return _load(path.expanduser())
    usual = Path("~/.ssh/id_ed25519").expanduser()
    line = _agent_choice(usual.with_suffix(".pub"))
    if line is not None:
        return SshKeygenSigner(line)
    if usual.exists():
        return _load(usual)
    raise SigningKeyError(
        "there is no key to sign with", expected=f"--key, TRUERUN_KEY, an SSH agent or {usual}", next_step=_MAKE
    )


class SshKeygenSigner:
    """Signs through `ssh-keygen -Y sign`: with the agent's key, a key file with a passphrase, or a security key."""

    def __init__(self, public_key: str, private_file: Path | None = None) -> None:
        self._public_key = public_key
        self._private_file = private_file

    @property
    def public_key(self) -> str:
        """The public key as one line."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The SSHSIG blob over *message*; raises SigningKeyError when ssh-keygen does not give one that holds."""
        if self._private_file is not None:
            return self._sign(message, self._private_file)
        with tempfile.TemporaryDirectory() as folder:
            public_file = Path(folder) / "key.pub"
            public_file.write_text(self._public_key + "\n", encoding="ascii")
            return self._sign(message, public_file)

    def _sign(self, message: bytes, key_file: Path) -> bytes:
        command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key_file)]
        # On a terminal, ssh-keygen asks for the passphrase or the touch itself.
        done = _call(command, _TOUCH_SECONDS, message=message, keep_errors=not sys.stderr.isatty())
        try:
            signature = parse_armor(done.stdout.decode("ascii"))
            verify_signature(self._public_key, message, signature)
        except (UnicodeDecodeError, FormatError, VerificationError) as error:
            said = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
            raise SigningKeyError(
                f"ssh-keygen did not sign with {key_id(self._public_key)}",
                got=said[-1] if said else f"exit code {done.returncode}",
                next_step="add the key to the agent with ssh-add, or give another key with --key",
            ) from error
        return signature


def create_key(path: Path, comment: str = "") -> Signer:
    """Make a new ed25519 key at *path* (0600, OpenSSH format, no passphrase) and *path*.pub; raises SigningKeyError if it exists."""
    private_key = Ed25519PrivateKey.generate()
    signer = Ed25519Signer(private_key)
    data = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    _write_new(path, data, 0o600)
    line = f"{signer.public_key} {re.sub(r'[^ -~]', '?', comment)}".rstrip() + "\n"
    _write_new(path.with_name(path.name + ".pub"), line.encode(), 0o644)
    return signer


def create_run_key() -> Signer:
    """A new key that lives in memory only, for one run's observations."""
    return Ed25519Signer(Ed25519PrivateKey.generate())


def read_public_key(path: Path) -> str:
    """The public key in the `.pub` file *path*, as one line without comment; raises SigningKeyError."""
    data = _read(path)
    if data.startswith(b"-----BEGIN"):
        raise SigningKeyError(f"{path} is a private key", expected="its public half", next_step=f"give {path}.pub")
    try:
        return parse_public_key(data.decode("utf-8")).line
    except (FormatError, UnicodeDecodeError) as error:
        raise SigningKeyError(f"{path} is not a public key Truerun can use", got=str(error), next_step=_MAKE) from error


def create_log_key(path: Path, origin: str) -> NoteSigner:
    """Make the key that signs the tree heads of ledger *origin* at *path* (0600); raises SigningKeyError if it exists."""
    signer = NoteSigner(origin, secrets.token_bytes(32))
    _write_new(path, signer.render_secret().encode() + b"\n", 0o600)
    return signer


def load_log_key(path: Path) -> NoteSigner:
    """The log key at *path*; raises SigningKeyError where it is missing, readable by others or damaged."""
    _require_private(path)
    try:
        return NoteSigner.parse(_read(path).decode("utf-8").removesuffix("\n"))
    except (FormatError, UnicodeDecodeError):
        # The text itself is a secret: neither it nor the error that may quote it is shown.
        raise SigningKeyError(
            f"{path} is not a log key", next_step="restore it from a copy; entries cannot be added without it"
        ) from None


def new_origin(project: str) -> str:
    """A new name for a ledger, unlike any other: `truerun/<project>/<random>`."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", project).strip("-")[:60] or "project"
    return f"truerun/{plain}/{secrets.token_hex(8)}"


def _load(path: Path) -> Signer:
    data = _read(path)
    if not data.startswith(b"-----BEGIN"):
        line = read_public_key(path)
        if line not in _agent_keys():
            raise SigningKeyError(
                f"the SSH agent does not hold {path}", next_step="add it with ssh-add, or give the private key file"
            )
        return SshKeygenSigner(line)
    _require_private(path)
    try:
        private_key = serialization.load_ssh_private_key(data, password=None)
    except TypeError:
        return _load_locked(path)  # a passphrase is needed
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"sk-ssh-ed25519" in _public_half(path):
            return _load_locked(path)
        raise SigningKeyError(f"{path} is not an OpenSSH private key Truerun can use", next_step=_MAKE) from error
    if not isinstance(private_key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} is not an ed25519 key", got=type(private_key).__name__.lstrip("_"), next_step=_MAKE)
    return Ed25519Signer(private_key)


def _load_locked(path: Path) -> Signer:
    """A key file that only ssh-keygen can use: its public half must lie beside it."""
    public_file = path.with_name(path.name + ".pub")
    if not public_file.is_file():
        raise SigningKeyError(
            f"{path} needs a passphrase or a security key, and {public_file.name} is not beside it",
            next_step=f"write it with: ssh-keygen -y -f {path} > {public_file}",
        )
    line = read_public_key(public_file)
    return SshKeygenSigner(line, None if line in _agent_keys() else path)


def _public_half(path: Path) -> bytes:
    public_file = path.with_name(path.name + ".pub")
    return _read(public_file) if public_file.is_file() else b""


def _agent_choice(usual: Path) -> str | None:
    """The agent's key to use: the only one, or the one whose public half is *usual*; None where there is no agent."""
    lines = _agent_keys()
    if len(lines) <= 1:
        return lines[0] if lines else None
    if usual.is_file() and (line := read_public_key(usual)) in lines:
        return line
    raise SigningKeyError(
        "the SSH agent holds several keys",
        got=", ".join(map(key_id, lines)),
        next_step="say which: --key FILE.pub or TRUERUN_KEY=FILE.pub",
    )


def _agent_keys() -> list[str]:
    """The ed25519 keys that the agent holds, as lines; none where there is no agent."""
    if not os.environ.get("SSH_AUTH_SOCK"):
        return []
    listed = _call(["ssh-add", "-L"], _AGENT_SECONDS).stdout.decode("utf-8", "replace").splitlines()
    return [parse_public_key(line).line for line in listed if line.startswith(("ssh-ed25519 ", "sk-ssh-ed25519@openssh.com "))]


def _call(
    command: list[str], seconds: int, *, message: bytes = b"", keep_errors: bool = True
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            input=message,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keep_errors else None,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise SigningKeyError(
            f"{command[0]} is not installed", next_step="install OpenSSH's client, or use a plain key file"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SigningKeyError(
            f"{command[0]} gave no answer in {seconds} s", next_step="was the key touched, the passphrase given?"
        ) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise SigningKeyError(f"the key file cannot be read: {error.strerror}: {path}", next_step=_MAKE) from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise SigningKeyError(f"{path} is too large for a key", expected=f"at most {MAX_KEY_FILE_BYTES} bytes")
    return data


def _require_private(path: Path) -> None:
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise SigningKeyError(f"the key file cannot be read: {error.strerror}: {path}", next_step=_MAKE) from error
    if mode & 0o077:
        raise SigningKeyError(
            f"others may read or write the private key {path}",
            got=f"mode {mode:04o}",
            expected="mode 0600",
            next_step=f"chmod 600 {path}",
        )


def _write_new(path: Path, data: bytes, mode: int) -> None:
    if path.exists():
        raise SigningKeyError(f"{path} exists already", next_step="give another path, or use the key that is there")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise SigningKeyError(
            f"the key cannot be written: {error.strerror}: {path}", next_step="choose a writable folder"
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
