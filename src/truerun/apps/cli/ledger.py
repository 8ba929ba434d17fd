"""`truerun ledger`: verify, show, export and prove the history. Reads only; needs no key and no project, only the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from truerun.apps.cli.output import escape, options, say, say_json, show_error
from truerun.core.errors import FormatError, InputError, LedgerCorruptError, StorageError, UsageError, VerificationError

if TYPE_CHECKING:
    from truerun.ledger.entry import Entry
    from truerun.ledger.ledger import Ledger

SCHEMA = 1
F = TypeVar("F", bound=Callable[..., Any])


def _source(function: F) -> F:
    option = click.option("--ledger", "ledger_file", type=click.Path(path_type=Path), help="The ledger; default: this project's.")
    return option(function)


@click.group(name="ledger")
def command() -> None:
    """Verify, show, export and prove the history."""


@command.command()
@_source
@click.option("--bundle", type=click.Path(path_type=Path), help="Verify this exported file instead, offline.")
@click.option("--proof", type=click.Path(path_type=Path), help="Verify this proof of one entry instead; needs --log-key.")
@click.option("--log-key", help="The log key you know, name+hash+key: refuse a ledger that names another.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Refuse a ledger that does not extend the tree head kept in this file, then keep the new one there.",
)
@options
def verify(
    *,
    ledger_file: Path | None,
    bundle: Path | None,
    proof: Path | None,
    log_key: str | None,
    keep: Path | None,
    output_format: str,
    config_path: str | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Check every entry, signature, stored hash and the tree head; exit code 5 with the first bad index."""
    try:
        if proof is not None:
            return _verify_proof(proof, log_key, output_format)
        ledger = _verified(ledger_file, bundle, log_key, config_path, quiet=quiet or output_format == "json")
        if keep is not None:
            _keep(ledger, keep)
    except VerificationError as error:
        return _refuse(error, output_format)
    head = ledger.tree_head()
    if output_format == "json":
        say_json(
            {
                "schema": SCHEMA,
                "verified": True,
                "entries": head.size,
                "origin": head.origin,
                "log_key": ledger.log_key,
                "tree_head": ledger.signed_tree_head().decode(),
            }
        )
    elif not quiet:
        say(f"the ledger verifies: {head.size} entries, every signature and hash", fg="green")
        say(f"  tree head {head}")
        say(f"  log key   {escape(ledger.log_key)}")
        say("  a cut-off tail shows only to those who kept a newer tree head: --keep FILE keeps one")
    return 0


@command.command()
@click.argument("index", type=int, required=False)
@_source
@click.option("--last", type=click.IntRange(min=1), help="Only the newest N entries.")
@options
def show(
    *,
    index: int | None,
    ledger_file: Path | None,
    last: int | None,
    output_format: str,
    config_path: str | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """List the entries, or show one of them whole."""
    ledger = _open(ledger_file, config_path)
    if index is not None and not 0 <= index < len(ledger):
        ledger.entry(index)  # raises, saying which entries there are
    entries = tuple(ledger.entries())
    names = _names(entries)
    chosen = entries[index : index + 1] if index is not None else entries[-last:] if last else entries
    rows = [_row(entry, names) for entry in chosen]
    if output_format == "json":
        say_json({"schema": SCHEMA, "entries": rows} if index is None else {"schema": SCHEMA, "entry": rows[0]})
    elif index is not None:
        _show_one(rows[0])
    else:
        width = max((len(escape(row["who"])) for row in rows), default=0)
        for row in rows:
            say(f"{row['index']:>5}  {escape(row['at']):<20}  {escape(row['who']):<{width}}  {escape(row['what'])}")
    return 0


@command.command()
@_source
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The file to write (JSON lines).")
@options
def export(
    *, ledger_file: Path | None, output: Path, output_format: str, config_path: str | None, quiet: bool, verbose: bool
) -> int:
    """Write all entries, proofs, the tree head and the log key into one file that anybody can verify offline."""
    from truerun.ledger.bundle import render_bundle

    ledger = _open(ledger_file, config_path)
    _write(output, render_bundle(ledger))
    if output_format == "json":
        say_json({"schema": SCHEMA, "output": str(output), "entries": len(ledger), "log_key": ledger.log_key})
    elif not quiet:
        say(f"wrote {len(ledger)} entries to {escape(str(output))}")
        say(f"  verify them anywhere: truerun ledger verify --bundle {escape(str(output))} --log-key '{escape(ledger.log_key)}'")
    return 0


@command.command()
@click.argument("index", type=int)
@_source
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the proof here instead of showing it.")
@options
def prove(
    *,
    index: int,
    ledger_file: Path | None,
    output: Path | None,
    output_format: str,
    config_path: str | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Prove that one entry is in the ledger: a C2SP tlog-proof, verifiable with the log key alone."""
    from truerun.core.codec import to_json
    from truerun.ledger.note import parse_note_key
    from truerun.ledger.proof import InclusionProof, render_proof
    from truerun.ledger.tree_head import verify_tree_head

    ledger = _open(ledger_file, config_path)
    entry, note = ledger.entry(index), ledger.signed_tree_head()
    size = verify_tree_head(note, parse_note_key(ledger.log_key)).size
    hashes = ledger.prove_inclusion(index, size)
    text = render_proof(InclusionProof(index=index, envelope=entry.envelope, hashes=hashes, tree_head=note))
    if output is not None:
        _write(output, iter([text]))
    if output_format == "json":
        say_json(
            {
                "schema": SCHEMA,
                "index": index,
                "size": size,
                "log_key": ledger.log_key,
                "fact": to_json(entry.fact),
                "proof": text.decode(),
            }
        )
    elif output is None:
        click.echo(text.decode(), nl=False)
    elif not quiet:
        say(f"wrote the proof of entry {index} among {size} to {escape(str(output))}")
        say(f"  verify it anywhere: truerun ledger verify --proof {escape(str(output))} --log-key '{escape(ledger.log_key)}'")
    return 0


def _open(ledger_file: Path | None, config_path: str | None) -> Ledger:
    from truerun.adapters.sqlite import SqliteStore
    from truerun.ledger.ledger import Ledger

    if ledger_file is None:
        from truerun.apps.project import FOLDER, find_declaration

        ledger_file = find_declaration(config_path).parent / FOLDER / "ledger.db"
    return Ledger(SqliteStore(ledger_file, read_only=True))


def _verified(
    ledger_file: Path | None, bundle: Path | None, log_key: str | None, config_path: str | None, *, quiet: bool
) -> Ledger:
    from truerun.ledger.bundle import verify_bundle

    with _progress(quiet) as progress:
        if bundle is not None:
            return verify_bundle(_lines(bundle), log_key=log_key, progress=progress)
        ledger = _open(ledger_file, config_path)
        ledger.verify(progress, log_key=log_key)
    if not len(ledger):
        raise InputError("the ledger is empty", next_step="truerun init records its first entry")
    return ledger


def _verify_proof(file: Path, log_key: str | None, output_format: str) -> int:
    from truerun.ledger.note import parse_note_key
    from truerun.ledger.proof import parse_proof, verify_proof

    if log_key is None:
        raise UsageError("a proof is worth as much as the key it is checked with", expected="--log-key name+hash+key")
    proof = parse_proof(b"".join(_lines(file)))
    try:
        entry = verify_proof(proof, parse_note_key(log_key))
    except FormatError as error:
        raise VerificationError(error.message, got=error.got, expected=error.expected) from error
    row = _row(entry, {})
    if output_format == "json":
        say_json({"schema": SCHEMA, "verified": True, "entry": row})
    else:
        say(f"the proof holds: entry {entry.index} is in the ledger", fg="green")
        _show_one(row)
    return 0


def _refuse(error: VerificationError, output_format: str) -> int:
    index = error.index if isinstance(error, LedgerCorruptError) else None
    if output_format == "json":
        say_json(
            {
                "schema": SCHEMA,
                "verified": False,
                "first_bad_index": index,
                "message": error.message,
                "got": None if error.got is None else str(error.got),
                "expected": None if error.expected is None else str(error.expected),
            }
        )
    else:
        show_error(error)
        if index is not None:
            say(f"  first bad index: {index}", err=True)
    return error.exit_code


def _keep(ledger: Ledger, file: Path) -> None:
    if file.exists():
        ledger.verify_extends(b"".join(_lines(file)))
    _write(file, iter([ledger.signed_tree_head()]))


def _names(entries: tuple[Entry, ...]) -> dict[int, str]:
    """Who signed each entry: a person's id, or `run of <id>` for the key that a person vouched for when starting a run."""
    from truerun.core.fact import RunStarted
    from truerun.oversight.people import People

    people, vouched, names = People.of(entries), {}, {}
    for entry in entries:
        if isinstance(entry.fact, RunStarted):
            vouched[entry.fact.run_key] = people.resolve(entry.key, entry.index)
        # The founder signs entry 0 and becomes a person in entry 1.
        person = people.resolve(entry.key, max(entry.index, 1))
        by_run = vouched.get(entry.key)
        if person is not None:
            names[entry.index] = person.id
        elif by_run is not None:
            names[entry.index] = f"run of {by_run.id}"
    return names


def _row(entry: Entry, names: dict[int, str]) -> dict[str, Any]:
    from truerun.core.codec import to_json
    from truerun.ledger.describe import describe_fact

    return {
        "index": entry.index,
        "at": " ".join(entry.fact.at.split()),
        "who": names.get(entry.index, entry.key_id),
        "key": entry.key,
        "key_id": entry.key_id,
        "kind": entry.fact.KIND,
        "what": describe_fact(entry.fact),
        "seen": str(entry.seen),
        "fact": to_json(entry.fact),
    }


def _show_one(row: dict[str, Any]) -> None:
    import json

    for label in ("index", "at", "who", "key_id", "kind", "what", "seen"):
        say(f"{label.replace('_', ' ') + ':':<8} {escape(str(row[label]))}")
    say(escape(json.dumps(row["fact"], indent=2, ensure_ascii=False)))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(file: Path) -> Iterator[bytes]:
    from truerun.ledger.bundle import MAX_LINE_BYTES

    try:
        with file.open("rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                yield line
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", next_step="check the path") from error


def _write(file: Path, lines: Iterator[bytes]) -> None:
    """Write whole or not at all: a file beside it takes its place when everything is on disk."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except OSError as error:
        raise StorageError(
            f"{file} cannot be written: {error.strerror}", next_step="choose a writable folder with space"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
