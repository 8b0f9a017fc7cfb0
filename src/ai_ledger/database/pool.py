"""`Pool`: connections, none of which outlives the day on which they were all closed."""

from __future__ import annotations

from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.queue import Empty


class Pool(sa.QueuePool):
    """
    SQLAlchemy's queue of connections, which closes those that come back to it too late.

    Closing an engine closes the connections that lie in its pool, and gives it a new one.
    What a thread still uses, or has just begun to open, comes back into the old pool, which
    nobody looks into any more: there it would stay open for as long as the process runs.
    """

    _is_closed = False

    def dispose(self) -> None:
        """Close the connections that lie here, and later each that comes back."""
        self._is_closed = True
        super().dispose()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        closed = self._is_closed
        if closed:
            # The entry comes back without it: whoever waits for one opens it anew.
            record.close()
        super()._do_return_conn(record)
        if self._is_closed and not closed:
            self._close_one()

    def _close_one(self) -> None:
        """Close what was put back at the very moment at which all were closed."""
        with suppress(Empty):
            entry = self._pool.get(False)
            entry.close()
            self._pool.put(entry, False)
