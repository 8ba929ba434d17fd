"""`truerun`: the commands by name, each imported only when it is called, so that `truerun --help` stays quick."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from truerun.core.errors import MissingExtraError, StorageError, TruerunError
from truerun.core.version import __version__

COMMANDS: Mapping[str, str] = {
    "init": "draft truerun.toml from what is here, create the ledger and the first owner",
    "lock": "resolve the declaration to digests, show what changed and who changed it",
    "diff": "changes between two locks, runs or approved states",
    "approve": "a signed yes to an exact lock",
    "reject": "a signed no to an exact lock",
    "check": "inspect data, config, code, environment, weights and outputs without a run",
    "run": "admission, then the command, watched",
    "watch": "a live view of a run",
    "runs": "list runs",
    "show": "what happened in a run",
    "trace": "which change made a run worse, and who made it",
    "recover": "go back: a clean lock without the convicted changes",
    "report": "the story as one self-contained page",
    "people": "who may do what",
    "ledger": "verify, show, export and prove the history",
    "demo": "a real training project goes wrong; watch it being caught",
}
EXTRAS: Mapping[str, str] = {"numpy": "data", "polars": "data", "torch": "torch", "sklearn": "demo"}


class _Lazy(click.Group):
    """A group whose commands live in modules of this package: `trace` in `trace.py` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"truerun.apps.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but with a guess at what was meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " `truerun --help` lists the commands."
            ctx.fail(f"no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "TRUERUN"})
@click.version_option(__version__, message="truerun %(version)s")
def cli() -> None:
    """
    Tells whether a training run is what it claims to be, and if not, which change made it so, and how to get back.

    Exit codes: 0 nothing found, 1 findings, 2 usage, 3 could not tell, 4 waiting for approval, 5 integrity broken.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every expected failure ends with a clear message and its exit code."""
    try:
        result: Any = cli.main(args=arguments, prog_name="truerun", standalone_mode=False)
        raise SystemExit(result if isinstance(result, int) else 0)
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except click.Abort:
        click.echo("truerun: interrupted; what was recorded before is kept", err=True)
        raise SystemExit(130) from None
    except TruerunError as error:
        _show_error(error)
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        _show_error(_missing_extra(error))
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        _show_error(_storage_error(error))
        raise SystemExit(3) from None


def _missing_extra(error: ModuleNotFoundError) -> TruerunError:
    """Which extra brings what is missing; a module that none brings is a fault of ours and raised as it is."""
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        raise error
    return MissingExtraError(f"this needs {name}, which is not installed", next_step=f"pip install 'truerun[{EXTRAS[name]}]'")


def _storage_error(error: OSError) -> TruerunError:
    steps = {
        errno.ENOSPC: "free some space and run the command again; nothing that was acknowledged is lost",
        errno.EROFS: "the file system is read-only; choose a writable project folder",
        errno.EACCES: "check the permissions of this file and its folder",
    }
    where = error.filename or "a file"
    return StorageError(
        f"{error.strerror or error}: {where}", next_step=steps.get(error.errno or 0, "check the file and try again")
    )


def _show_error(error: TruerunError) -> None:
    from truerun.apps.cli.output import show_error

    show_error(error)
