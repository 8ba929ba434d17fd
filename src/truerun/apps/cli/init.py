"""`truerun init`: draft truerun.toml from what is here, create the ledger and the first owner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from truerun.apps.cli.output import options

if TYPE_CHECKING:
    from truerun.ledger.signing import Signer


@click.command()
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key of the first owner.")
@click.option("--id", "person_id", help="The first owner's id; default: your login.")
@click.option("--name", help="The first owner's name; default: what git knows.")
@click.option("--yes", is_flag=True, help="Take the draft as it is, and make a key where there is none.")
@options
def command(
    key: str | None,
    person_id: str | None,
    name: str | None,
    output_format: str,
    config_path: str | None,
    *,
    yes: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Draft truerun.toml from what is here, create the ledger and the first owner."""
    from truerun.apps.beginning import begin, first_owner, require_nothing_begun
    from truerun.apps.cli.output import escape, say, say_json
    from truerun.apps.drafting import draft_declaration
    from truerun.apps.project import DECLARATION, LOCK_FILE
    from truerun.ledger.signing import key_id

    root = (Path(config_path).parent if config_path else Path()).absolute()
    require_nothing_begun(root)
    told = not quiet and output_format == "text"
    draft = None if (root / DECLARATION).exists() else draft_declaration(root)
    if draft is not None and told:
        say(f"# draft of {root / DECLARATION}\n", bold=True)
        say(escape(draft.text))
        for remark in draft.remarks:
            say(f"look at this: {remark}", err=True)
    if told and (root / LOCK_FILE).exists():
        say(
            f"look at this: {LOCK_FILE} lies here and its ledger does not; if your team keeps one, copy its .truerun here instead: "
            "init begins a new history, with you as its owner",
            err=True,
        )
    _agree("write this declaration and create the ledger in .truerun?", yes=yes)
    signer = _signer(key, yes=yes, told=told)
    owner = first_owner(root, signer.public_key, person_id, name)
    begun = begin(root, draft.text if draft else None, signer, owner)
    if output_format == "json":
        say_json(
            {
                "schema": 1,
                "declaration": str(root / DECLARATION),
                "drafted": begun.wrote_declaration,
                "remarks": draft.remarks if draft else (),
                "owner": begun.owner,
                "key": key_id(signer.public_key),
                "origin": begun.project.ledger.origin,
            }
        )
    elif told:
        what = "written" if begun.wrote_declaration else "kept as it is"
        say(f"{DECLARATION} {what}; ledger created; {escape(owner.name)} ({owner.id}) is its owner, {key_id(signer.public_key)}")
        say("next: correct truerun.toml where it is wrong, then truerun lock")
    return 0


def _agree(question: str, *, yes: bool) -> None:
    """Go on only with consent: `--yes`, or a yes on a terminal. Raises UsageError where nobody can be asked."""
    import sys

    from truerun.core.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", expected="--yes to take the draft", next_step="truerun init --yes")
    click.confirm(question, default=True, abort=True, err=True)


def _signer(key: str | None, *, yes: bool, told: bool) -> Signer:
    """The key to sign with; where there is none at all, a new `~/.ssh/id_ed25519`, with consent."""
    import os

    from truerun.adapters.keys import create_key, load_signer
    from truerun.apps.cli.output import say
    from truerun.core.errors import SigningKeyError

    usual = Path("~/.ssh/id_ed25519").expanduser()
    try:
        return load_signer(Path(key) if key else None)
    except SigningKeyError:
        if key or os.environ.get("TRUERUN_KEY") or usual.exists():
            raise
    _agree(f"there is no SSH key to sign with; make {usual}, without passphrase?", yes=yes)
    usual.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = create_key(usual, "truerun")
    if told:
        say(f"made the key {usual} (no passphrase; ssh-keygen -p sets one)")
    return signer
