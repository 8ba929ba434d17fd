"""Keys on disk and in a real SSH agent; what cannot be used is refused with the way out."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from truerun.adapters.keys import (
    create_key,
    create_log_key,
    create_run_key,
    load_log_key,
    load_signer,
    new_origin,
    read_public_key,
)
from truerun.core.errors import SigningKeyError
from truerun.ledger.signing import key_id, verify_signature

MESSAGE = b"a message"
openssh = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs OpenSSH's client")


def accepts(signer):
    verify_signature(signer.public_key, MESSAGE, signer.sign(MESSAGE))
    return signer.public_key


def ssh_keygen(file, *options, kind="ed25519", passphrase=""):
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "made-up", "-f", str(file), *options]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A real ssh-agent of our own, empty."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.PIPE)
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    yield
    process.terminate()
    process.wait()
    process.stdout.close()


def ssh_add(file):
    subprocess.run(["ssh-add", "-q", str(file)], check=True, capture_output=True)


def usual():
    return Path(os.environ["HOME"]) / ".ssh" / "id_ed25519"


def test_a_made_key_signs_is_private_and_is_read_by_openssh(tmp_path):
    made = create_key(tmp_path / "keys" / "id", "ana@example.org\nsecond line")
    line = accepts(made)
    assert accepts(load_signer(tmp_path / "keys" / "id")) == line == read_public_key(tmp_path / "keys" / "id.pub")
    assert (tmp_path / "keys" / "id").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys" / "id.pub").read_text() == f"{line} ana@example.org?second line\n"
    if shutil.which("ssh-keygen"):
        shown = subprocess.run(
            ["ssh-keygen", "-y", "-f", str(tmp_path / "keys" / "id")], capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == line


def test_a_key_is_never_overwritten(tmp_path):
    line = create_key(tmp_path / "id").public_key
    with pytest.raises(SigningKeyError, match="exists already"):
        create_key(tmp_path / "id")
    assert load_signer(tmp_path / "id").public_key == line


def test_the_order_is_key_then_variable_then_agent_then_home(tmp_path, monkeypatch, agent):
    with pytest.raises(SigningKeyError, match="no key to sign with"):
        load_signer()
    home, in_agent, in_variable, given = (create_key(file).public_key for file in (usual(), *(tmp_path / name for name in "avg")))
    assert accepts(load_signer()) == home
    ssh_add(tmp_path / "a")
    assert accepts(load_signer()) == in_agent
    monkeypatch.setenv("TRUERUN_KEY", str(tmp_path / "v"))
    assert accepts(load_signer()) == in_variable
    assert accepts(load_signer(tmp_path / "g")) == given


@openssh
def test_the_agent_signs_for_a_public_file_and_refuses_one_it_does_not_hold(tmp_path, agent):
    line = create_key(tmp_path / "id").public_key
    with pytest.raises(SigningKeyError, match="agent does not hold"):
        load_signer(tmp_path / "id.pub")
    ssh_add(tmp_path / "id")
    (tmp_path / "id").unlink()
    assert accepts(load_signer(tmp_path / "id.pub")) == line


@openssh
def test_of_several_agent_keys_the_usual_one_is_taken_or_the_reader_is_asked(tmp_path, agent):
    for file in (usual(), tmp_path / "other"):
        create_key(file)
        ssh_add(file)
    assert accepts(load_signer()) == read_public_key(usual().with_suffix(".pub"))
    line = read_public_key(usual().with_suffix(".pub"))
    usual().with_suffix(".pub").unlink()
    with pytest.raises(SigningKeyError, match="several keys") as refused:
        load_signer()
    assert key_id(line) in str(refused.value)
    assert "--key FILE.pub" in str(refused.value)


@openssh
def test_a_key_with_a_passphrase_is_used_through_the_agent_and_never_asked_for_without_a_terminal(tmp_path, agent, monkeypatch):
    file = ssh_keygen(tmp_path / "locked", passphrase="a passphrase")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "never")
    signer = load_signer(file)
    with pytest.raises(SigningKeyError, match="did not sign") as refused:
        in_no_terminal(signer)
    assert "ssh-add" in str(refused.value)
    opened = tmp_path / "opened"
    shutil.copy(file, opened)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "a passphrase", "-N", "", "-f", str(opened)], check=True, capture_output=True)
    ssh_add(opened)
    assert accepts(load_signer(file)) == read_public_key(tmp_path / "locked.pub")
    (tmp_path / "locked.pub").unlink()
    with pytest.raises(SigningKeyError, match="is not beside it"):
        load_signer(file)


def in_no_terminal(signer):
    """Sign; the tests may have a terminal, which ssh-keygen would ask on, so its input is closed to it."""
    if os.path.exists("/dev/tty"):
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
        except OSError:
            pass
        else:
            pytest.skip("a terminal is attached")
    signer.sign(MESSAGE)


@openssh
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_key_types_are_refused_and_ignored_in_the_agent(tmp_path, kind, agent):
    file = ssh_keygen(tmp_path / kind, kind=kind)
    for path in (file, file.with_suffix(".pub")):
        with pytest.raises(SigningKeyError) as refused:
            load_signer(path)
        assert "ssh-keygen -t ed25519" in str(refused.value)
    ssh_add(file)
    line = create_key(usual()).public_key
    assert accepts(load_signer()) == line


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o777])
def test_a_private_key_that_others_may_read_is_refused_until_it_is_closed(tmp_path, mode):
    create_key(tmp_path / "id")
    (tmp_path / "id").chmod(mode)
    with pytest.raises(SigningKeyError, match="others may read") as refused:
        load_signer(tmp_path / "id")
    assert f"chmod 600 {tmp_path / 'id'}" in str(refused.value)
    (tmp_path / "id").chmod(0o600)
    accepts(load_signer(tmp_path / "id"))


@pytest.mark.parametrize(
    "content",
    ["", "text", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "-----BEGIN", "x" * 70_000],
)
def test_a_file_that_is_no_key_is_refused_without_being_quoted(tmp_path, content):
    (tmp_path / "id").write_text(content)
    (tmp_path / "id").chmod(0o600)
    with pytest.raises(SigningKeyError):
        load_signer(tmp_path / "id")
    with pytest.raises(SigningKeyError):
        load_signer(tmp_path / "missing")


def test_a_private_key_given_for_a_public_one_is_refused(tmp_path):
    create_key(tmp_path / "id")
    assert read_public_key(tmp_path / "id.pub").startswith("ssh-ed25519 ")
    with pytest.raises(SigningKeyError, match="private key") as refused:
        read_public_key(tmp_path / "id")
    assert "id.pub" in str(refused.value)
    (tmp_path / "x.pub").write_text("ssh-ed25519 AAAA")
    with pytest.raises(SigningKeyError, match="not a public key"):
        read_public_key(tmp_path / "x.pub")


def test_the_log_key_is_kept_private_and_read_back(tmp_path):
    origin = new_origin("my digits / ünï")
    assert origin.startswith("truerun/my-digits-n/")
    assert origin != new_origin("my digits / ünï")
    made = create_log_key(tmp_path / "log.key", origin)
    assert load_log_key(tmp_path / "log.key").key == made.key
    with pytest.raises(SigningKeyError, match="exists already"):
        create_log_key(tmp_path / "log.key", origin)
    (tmp_path / "log.key").chmod(0o644)
    with pytest.raises(SigningKeyError, match="others may read"):
        load_log_key(tmp_path / "log.key")
    (tmp_path / "log.key").chmod(0o600)
    secret = (tmp_path / "log.key").read_text()
    for damaged in (secret[:-3], "", secret.replace("PRIVATE", "private"), secret + "x"):
        (tmp_path / "log.key").write_text(damaged)
        with pytest.raises(SigningKeyError, match="not a log key") as refused:
            load_log_key(tmp_path / "log.key")
        assert secret[-20:-1] not in str(refused.value)


def test_a_run_key_is_new_every_time():
    assert accepts(create_run_key()) != accepts(create_run_key())


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SigningKeyError, match="cannot be written"):
        create_key(tmp_path / "file" / "id")
