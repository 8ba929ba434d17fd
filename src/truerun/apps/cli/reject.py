"""`truerun reject`: a signed no to exactly one lock, with a reason. It holds the lock until the same person says yes."""

from __future__ import annotations

import click

from truerun.apps.cli.output import options
from truerun.core.decision import Answer


@click.command()
@click.argument("lock", required=False)
@click.option("--reason", default="", help="What you would like to know or see changed; kept with the entry.")
@click.option("--key", type=click.Path(dir_okay=False), help="The SSH key to sign with.")
@click.option("--yes", is_flag=True, help="Sign without asking; without a terminal nothing is asked.")
@options
def command(
    lock: str | None,
    reason: str,
    key: str | None,
    output_format: str,
    config_path: str | None,
    *,
    yes: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Say no, signed, to exactly LOCK: a digest or its beginning; default: the newest proposal. A later approve takes it back."""
    from truerun.apps.cli.approve import answer_lock

    return answer_lock(
        Answer.REJECT, lock, reason, key, config_path, as_json=output_format == "json", yes=yes, quiet=quiet, verbose=verbose
    )
