"""`Pool`: connections, none of which outlives the day on which they were all closed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry


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
        super()._do_return_conn(record)
        # Asked afterwards: whichever of the two is last finds what the other has left.
        if self._is_closed:
            super().dispose()
