"""The tree of commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

from ai_ledger._version import __version__
from ai_ledger.cli.options import NothingFound
from ai_ledger.cli.render import clean
from ai_ledger.errors import (
    AILedgerError,
    ConfigurationError,
    EditError,
    InvalidValue,
    NotFound,
    SchemaError,
)
from ai_ledger.secrets import scrub

FOUND_NOTHING: Final = 1
USAGE: Final = 2
STORE_AWAY: Final = 3
INTERRUPTED: Final = 130

# What a group raises when no command is given, from click 8.2 on; before, it shows the help itself.
_HELP: Final[tuple[type[click.ClickException], ...]] = tuple(
    each for each in (getattr(click.exceptions, "NoArgsIsHelpError", None),) if each is not None
)

_COMMANDS: Final = {
    "demo": "demo",
    "init": "upkeep",
    "report": "reports",
    "top": "reports",
    "trend": "reports",
    "forecast": "ahead",
    "suggestions": "ahead",
    "calls": "calls",
    "show": "calls",
    "tail": "calls",
    "export": "transfer",
    "import": "transfer",
    "reprice": "prices",
    "prices": "prices",
    "providers": "providers",
    "models": "models",
    "budgets": "budgets",
    "words": "words",
    "quotas": "quotas",
    "alerts": "alerts",
    "serve": "serve",
    "tokens": "tokens",
    "forget": "upkeep",
    "db": "upkeep",
    "doctor": "doctor",
}


class _Lazy(click.Group):
    """Loads a command's module when it is called, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        found: Any = import_module(f"ai_ledger.cli.{module}")
        return getattr(found, f"{cmd_name}_command")


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `ai-ledger demo`, which needs no key and no network.",
)
@click.version_option(__version__, prog_name="ai-ledger")
def app() -> None:
    """
    Every AI call on the books: who made it, why, how many tokens, at what price.

    Every command takes --help, and --json where it prints data. The ledger is
    the one of --url, else of the variable AI_LEDGER_URL, else
    sqlite:///ai_ledger.db.

    Exit codes: 0 done; 1 nothing found, or a check found something wrong; 2 the
    command or the configuration cannot be so; 3 the store is away.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. Errors of ours become one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # Names in any script are shown as escapes where the terminal has no letters for them.
            reconfigure(errors="backslashreplace")
    try:
        result = app.main(
            args=None if arguments is None else list(arguments),
            prog_name="ai-ledger",
            standalone_mode=False,
        )
    except (NothingFound, NotFound) as nothing:
        return _complain(nothing, FOUND_NOTHING)
    except click.UsageError as error:
        return _misused(error)
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `ai-ledger calls | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ConfigurationError, InvalidValue, EditError) as error:
        return _complain(error, USAGE)
    except SchemaError as error:
        return _complain(error, STORE_AWAY)
    except AILedgerError as error:
        return _complain(error, STORE_AWAY)
    except OSError as error:
        return _complain(error, USAGE)
    return result if isinstance(result, int) else 0


def _misused(error: click.UsageError) -> int:
    if isinstance(error, _HELP):
        click.echo(error.format_message())
        return USAGE
    hint = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
    return _complain(f"{error.format_message()}{hint}", USAGE)


def _complain(error: object, code: int) -> int:
    text = " ".join(clean(scrub(str(error))).split())
    click.echo(f"ai-ledger: {text}", err=True)
    return code
