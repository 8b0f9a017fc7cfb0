"""The command ``ai-ledger``: reports, look-ups and upkeep of a ledger from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the command and exit.

    ====  =================================================================
    0     done
    1     nothing was found, or a check found something wrong
    2     the command or its configuration cannot be as it is given
    3     the store is away, or its tables are not those of this version
    130   stopped with Ctrl-C
    ====  =================================================================

    Args:
        arguments: Those of the process, when left out.
    """
    if find_spec("click") is None or find_spec("rich") is None:
        from ai_ledger.errors import MissingExtra

        print(f"ai-ledger: {MissingExtra('the command', 'standard')}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    from ai_ledger.cli.app import run

    raise SystemExit(run(arguments))
