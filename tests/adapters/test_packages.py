"""The interpreter is found by reading; distributions are told apart by version and RECORD; secrets are never written down."""

import os
import sys
from pathlib import Path

import pytest

from truerun.adapters.packages import (
    Interpreter,
    distributions,
    find_interpreter,
    is_secret,
    locked_packages,
    record_digest,
    recorded_value,
    variable_reads,
    variables_read,
)
from truerun.core.errors import FormatError, InputError, UsageError

RECORD = "torch/optim/sgd.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,12\ntorch/a.pyc,,\n"
OWN = "torch-2.13.0.dist-info/RECORD,,\ntorch-2.13.0.dist-info/INSTALLER,sha256=abc,4\n../../../bin/torchrun,sha256=def,200\n"


@pytest.fixture
def venv(tmp_path):
    """A virtual environment as far as files tell; its interpreter would fail if it were ever executed."""
    site = tmp_path / "venv" / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.4\ninclude-system-site-packages = false\n")
    binary = tmp_path / "venv" / "bin" / "python"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\ntouch executed; exit 1\n")
    binary.chmod(0o755)
    install(site, "torch-2.13.0", RECORD + OWN)
    return tmp_path / "venv"


def install(site, name, record):
    folder = site / f"{name}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "RECORD").write_text(record)


def interpreter_of(command, root, venv):
    return find_interpreter(command, root, {"PATH": str(venv / "bin")})


@pytest.mark.parametrize(
    "command", ["python train.py", "LR=1 python3 -m train", "env A=b python train.py", "nice -n 5 python -u train.py"]
)
def test_the_interpreter_is_found_and_not_executed(venv, tmp_path, command):
    (venv / "bin" / "python3").symlink_to("python")
    found = interpreter_of(command, tmp_path, venv)
    assert found.version == "3.12.4"
    assert found.site_packages == (venv / "lib/python3.12/site-packages",)
    assert not list(tmp_path.rglob("executed"))


def test_folders_that_a_pth_file_names_are_looked_into(venv, tmp_path):
    """An environment chained to another by a path-only `.pth`: the other's packages are locked and verified too."""
    other, site = tmp_path / "shared", venv / "lib/python3.12/site-packages"
    other.mkdir()
    install(other, "numpy-2.4.6", RECORD)
    (site / "shared.pth").write_text(f"# the cluster's\nimport os; os.mkdir('executed')\n{other}\n/nowhere\n")
    found = interpreter_of("python train.py", tmp_path, venv)
    assert found.site_packages == (site, other)
    assert [item.name for item in distributions(found)] == ["numpy", "torch"]
    assert not list(tmp_path.rglob("executed"))


def test_launchers_and_shell_scripts_lead_to_their_interpreter(venv, tmp_path):
    launcher = venv / "bin" / "torchrun"
    launcher.write_text(f"#!{venv}/bin/python\nimport torch\n")
    launcher.chmod(0o755)
    (tmp_path / "train.sh").write_text("#!/bin/bash\nset -e\necho 'don''t\ntorchrun --nproc-per-node 2 train.py\n")
    for command in ("torchrun train.py", "bash train.sh", "./train.sh"):
        assert interpreter_of(command, tmp_path, venv).version == "3.12.4"


def test_runners_and_shell_text_lead_to_their_interpreter(venv, tmp_path):
    assert interpreter_of("bash -lc 'cd x && python train.py'", tmp_path, venv).version == "3.12.4"
    (tmp_path / ".venv").symlink_to(venv)
    for command in ("uv run train.py", "poetry run python train.py"):
        assert find_interpreter(command, tmp_path, {"PATH": ""}).path == tmp_path / ".venv/bin/python"


def test_a_command_without_python_means_our_own(tmp_path):
    found = find_interpreter("make train", tmp_path, {"PATH": ""})
    assert found.path == Path(sys.executable)
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert "pytest" in {distribution.name for distribution in distributions(found)}


def test_a_shim_stands_for_the_version_it_would_start(venv, tmp_path):
    shims = tmp_path / "pyenv" / "shims"
    shims.mkdir(parents=True)
    (shims / "python").write_text("#!/usr/bin/env bash\n")
    (shims / "python").chmod(0o755)
    (tmp_path / "pyenv" / "versions").mkdir()
    (tmp_path / "pyenv" / "versions" / "3.12.4").symlink_to(venv)
    for setting in ({"PYENV_VERSION": "3.12"}, {"PYENV_VERSION": "3.12.4"}):
        assert find_interpreter("python x.py", tmp_path, {"PATH": str(shims), **setting}).version == "3.12.4"


def test_a_command_that_does_not_parse_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not parse"):
        find_interpreter("python 'train.py", tmp_path, {})


def test_a_record_digest_names_the_files_and_not_the_installer_or_the_place(venv, tmp_path):
    """E1: an edited file whose RECORD line was edited too changes the digest; another installer or folder does not."""
    site = venv / "lib/python3.12/site-packages"
    found = interpreter_of("python x", tmp_path, venv)

    def digest():
        return record_digest(distributions(found)[0])

    first = digest()
    install(site, "torch-2.13.0", "\n".join(reversed(RECORD.strip().split("\n"))) + "\n" + OWN.replace("def", "xyz"))
    assert digest() == first
    install(site, "torch-2.13.0", RECORD.replace("47DEQ", "57DEQ"))
    assert digest() != first


def test_what_is_locked_follows_the_declaration(venv, tmp_path):
    site = venv / "lib/python3.12/site-packages"
    install(site, "My_Pkg-1.0", "")
    (site / "old.egg-info").mkdir()
    (site / "old-3.0-py3.12.egg-info").mkdir()
    found = interpreter_of("python x", tmp_path, venv)
    everything = locked_packages(found, "all")
    assert {name: package.version for name, package in everything.items()} == {"my-pkg": "1.0", "old": "3.0", "torch": "2.13.0"}
    assert everything["old"].record is None
    assert set(locked_packages(found, ("My.Pkg",))) == {"my-pkg"}
    assert locked_packages(found, "none") == {}
    with pytest.raises(InputError, match="numpy is declared"):
        locked_packages(found, ("numpy",))


@pytest.mark.parametrize("record", ['a,"\n', "\xff"])
def test_a_malformed_record_is_said(tmp_path, record):
    """A RECORD that cannot be read stops the lock with its name, never with a traceback."""
    install(tmp_path, "a-1", record)
    (tmp_path / "a-1.dist-info" / "RECORD").write_bytes(record.encode("latin-1"))
    with pytest.raises(FormatError, match="RECORD"):
        locked_packages(Interpreter(path=tmp_path, version="3", site_packages=(tmp_path,)), "all")


def test_variables_that_code_reads_are_found_with_their_lines():
    """C2: the value behind `os.environ` is part of the configuration."""
    code = b"""
import os
from os import environ, getenv
a = os.environ["LR"]
b = os.environ.get("WARMUP", 3)
c = getenv("SEED")
d = environ["BATCH"]
e = os.environ.get(name)
f = settings.get("NOT_ENV")
g = os.environ["LOCAL_RANK"], os.environ.get("HOME")
"""
    assert sorted(variable_reads(code)) == [("BATCH", 7), ("LR", 4), ("SEED", 6), ("WARMUP", 5)]
    assert variables_read(b"this is not python") == set()
    assert variables_read(b"\x00") == set()
    assert variables_read(b"x = '\\d'; os.getenv('A')") == {"A"}, "a questionable escape is no warning of ours"


def test_a_secret_is_recorded_as_a_digest():
    for name in ("WANDB_API_KEY", "HF_TOKEN", "db_password", "AWS_SECRET", "MY_PASSWD"):
        assert is_secret(name)
        value = recorded_value(name, "hunter2")
        assert value.startswith("sha256:")
        assert "hunter2" not in value
        assert recorded_value(name, None) is None
    assert recorded_value("LR", "0.1") == "0.1"
    assert "pw" not in recorded_value("DATABASE", "postgres://user:pw@host/db")
    assert recorded_value("LIST", "x" * 5000).startswith("sha256:")
    assert recorded_value("RAW", "\udcff") == "\\udcff"


def test_this_environment_is_read_quickly():
    assert os.path.isdir(find_interpreter("", Path.cwd(), {}).site_packages[0])
