"""The console in a process of its own: ``python server.py URL PORT [locked]``."""

from __future__ import annotations

import sys

import uvicorn

from ai_ledger import Ledger
from ai_ledger.web import Access, create_app


def main(url: str, port: str, *more: str) -> None:
    """Serve the ledger at *url*, to whoever comes, or ``locked`` to those with a token."""
    everybody = None if more else Access(name="ada", role="admin", prompts=True)
    with Ledger(url) as ledger:
        app = create_app(ledger, tz="Asia/Shanghai", anonymous=everybody)
        uvicorn.run(
            app, host="127.0.0.1", port=int(port), ws="none", log_level="warning",
            # A live tail goes on for ever; the end of a test is not kept waiting for it.
            timeout_graceful_shutdown=1,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
