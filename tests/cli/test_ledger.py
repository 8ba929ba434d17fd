"""`truerun ledger` as a person at a terminal and a program see it."""

import json
import sqlite3

import pytest
from tests.ledger.material import ANA, BEN, LOG_KEY, make_ledger, revoked

from truerun.adapters.sqlite import SqliteStore
from truerun.apps.cli.main import main
from truerun.ledger.ledger import Ledger


@pytest.fixture
def file(tmp_path, monkeypatch):
    folder = tmp_path / "project" / ".truerun"
    folder.mkdir(parents=True)
    store = SqliteStore(folder / "ledger.db")
    make_ledger(store)
    store.close()
    (tmp_path / "project" / "truerun.toml").write_text('[project]\nname = "digits"\ncommand = "python train.py"\n')
    monkeypatch.chdir(tmp_path / "project")
    return folder / "ledger.db"


@pytest.fixture
def truerun(capfd):
    def call(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["ledger", *map(str, arguments)])
        out, err = capfd.readouterr()
        return done.value.code, out, err

    return call


def log_key(truerun):
    return json.loads(truerun("verify", "--format", "json")[1])["log_key"]


def tamper(file, statement):
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_good_ledger_verifies_in_the_project_and_by_file(file, truerun, monkeypatch, tmp_path):
    code, out, err = truerun("verify")
    assert code == 0
    assert out.startswith("the ledger verifies: 6 entries")
    assert err == ""
    answer = json.loads(truerun("verify", "--format", "json")[1])
    assert answer["schema"] == 1
    assert answer["verified"] is True
    assert answer["entries"] == 6
    monkeypatch.chdir(tmp_path)
    assert truerun("verify", "--ledger", file)[0] == 0
    assert truerun("verify", "-q", "--ledger", file) == (0, "", "")


def test_a_touched_entry_gives_exit_code_5_and_its_index(file, truerun):
    tamper(file, "UPDATE entries SET envelope = replace(envelope, 'SHA256', 'SHA257') WHERE idx = 3")
    tamper(file, "UPDATE entries SET envelope = CAST(envelope AS BLOB)")
    code, out, err = truerun("verify")
    assert code == 5
    assert out == ""
    assert "entry 3" in err
    assert "first bad index: 3" in err
    assert "Traceback" not in err
    code, out, err = truerun("verify", "--format", "json")
    assert code == 5
    assert json.loads(out)["first_bad_index"] == 3
    assert json.loads(out)["verified"] is False
    assert truerun("show")[0] == 5


def test_a_file_that_is_no_ledger_is_said_clearly(tmp_path, truerun):
    (tmp_path / "x").write_text("text" * 500)
    code, _, err = truerun("verify", "--ledger", tmp_path / "x")
    assert code == 5
    assert "not a readable SQLite database" in err
    code, _, err = truerun("verify", "--ledger", tmp_path / "missing")
    assert code == 3
    assert "no ledger at" in err
    SqliteStore(tmp_path / "empty.db").close()
    code, _, err = truerun("verify", "--ledger", tmp_path / "empty.db")
    assert code == 3
    assert "empty" in err


def test_show_lists_who_did_what_in_plain_lines(file, truerun):
    code, out, _ = truerun("show")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 6
    assert lines[0].split() == ["0", "2026-11-20T09:30:00Z", "ana", "created", "the", "ledger", "of", "digits"]
    assert "  eva  " in lines[4]
    assert "proposed lock" in lines[4]
    assert "  ben  " in lines[5]
    assert "approved lock" in lines[5]
    assert truerun("show", "--last", "2")[1].splitlines() == lines[4:]
    entries = json.loads(truerun("show", "--format", "json")[1])["entries"]
    assert [entry["who"] for entry in entries[1:]] == ["ana", "ana", "ana", "eva", "ben"]
    assert entries[5]["fact"]["reason"] == "looks right"
    assert entries[5]["kind"] == "lock-decided"


def test_show_gives_one_entry_whole_and_says_when_there_is_none(file, truerun):
    code, out, _ = truerun("show", "5")
    assert code == 0
    assert "lock-decided" in out
    assert '"answer": "approve"' in out
    assert json.loads(truerun("show", "5", "--format", "json")[1])["entry"]["index"] == 5
    code, _, err = truerun("show", "6")
    assert code == 2
    assert "no entry 6" in err
    assert "0 to 5" in err


def test_hostile_text_cannot_act_on_the_terminal(file, truerun):
    """P11: a reason with escape sequences, a line of its own and a right-to-left override."""
    ledger = Ledger(SqliteStore(file), LOG_KEY)
    ledger.append(revoked(1, "\x1b[2Jgone\n    7  2026  ana  approved everything \u202e"), BEN)
    _, out, _ = truerun("show")
    assert len(out.splitlines()) == 7
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\u001b[2Jgone" in out


def test_a_bundle_travels_and_is_refused_when_touched(file, truerun, tmp_path):
    bundle, key = tmp_path / "bundle.jsonl", log_key(truerun)
    code, out, _ = truerun("export", "--output", bundle)
    assert code == 0
    assert "wrote 6 entries" in out
    assert f"--log-key '{key}'" in out
    file.unlink()
    assert truerun("verify", "--bundle", bundle, "--log-key", key)[0] == 0
    bundle.write_bytes(bundle.read_bytes().replace(b"SHA256", b"SHA257", 3))
    code, _, err = truerun("verify", "--bundle", bundle)
    assert code == 5
    assert "first bad index: 0" in err
    assert truerun("verify", "--bundle", tmp_path / "missing")[0] == 3


def test_a_proof_travels_and_is_refused_when_touched(file, truerun, tmp_path):
    proof, key = tmp_path / "entry.tlog-proof", log_key(truerun)
    assert truerun("prove", "5", "--output", proof)[0] == 0
    assert truerun("prove", "5")[1].encode() == proof.read_bytes()
    assert json.loads(truerun("prove", "5", "--format", "json")[1])["size"] == 6
    code, out, _ = truerun("verify", "--proof", proof, "--log-key", key)
    assert code == 0
    assert "the proof holds: entry 5" in out
    assert "looks right" in out
    assert truerun("verify", "--proof", proof)[0] == 2
    proof.write_text(proof.read_text().replace("index 5", "index 4"))
    code, _, err = truerun("verify", "--proof", proof, "--log-key", key)
    assert code == 5
    assert "does not hold" in err
    assert truerun("prove", "99")[0] == 2


def test_another_log_key_than_the_one_known_is_refused(file, truerun):
    key = log_key(truerun)
    assert truerun("verify", "--log-key", key)[0] == 0
    from truerun.ledger.note import NoteSigner, render_note_key

    code, _, err = truerun("verify", "--log-key", render_note_key(NoteSigner(LOG_KEY.key.name, b"\x08" * 32).key))
    assert code == 5
    assert "another log key" in err
    assert truerun("verify", "--log-key", "nonsense")[0] == 2


def test_a_kept_tree_head_refuses_a_ledger_whose_tail_was_cut_off(file, truerun, tmp_path):
    """P2: an old copy of the database is put back."""
    kept, old = tmp_path / "head", file.read_bytes()
    assert truerun("verify", "--keep", kept)[0] == 0
    store = SqliteStore(file)
    Ledger(store, LOG_KEY).append(revoked(1), ANA)
    store.close()
    assert truerun("verify", "--keep", kept)[0] == 0
    newest = kept.read_bytes()
    file.write_bytes(old)
    assert truerun("verify")[0] == 0
    code, _, err = truerun("verify", "--keep", kept)
    assert code == 5
    assert "cut off" in err
    assert kept.read_bytes() == newest


def test_an_output_that_cannot_be_written_is_said_clearly(file, truerun, tmp_path):
    code, _, err = truerun("export", "--output", tmp_path / "missing" / "bundle.jsonl")
    assert code == 3
    assert "cannot be written" in err
