"""What this process remembers of the rows, so that a call need not ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ai_ledger.errors import SinkUnavailable
from ai_ledger.forks import Living
from ai_ledger.refreshed import Refreshed

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database
    from ai_ledger.policies.quotas.rows import Snapshot

REFRESH_S: Final = 2.0
"""What another process has changed holds here after so many seconds at the latest."""


class Known:
    """
    The rows of one database. Threads share it.

    While calls come, the rows are looked at anew behind their backs before they are
    too old; only the first call, and one after a pause, waits for them.

    Args:
        opened: Gives the database.
        clock: Seconds.
    """

    def __init__(
        self, opened: Callable[[], Database], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._opened = opened
        self._rows: Refreshed[Snapshot] = Refreshed(
            self._read,
            self._failed,
            name="ai-ledger-quotas-rows",
            refresh_s=REFRESH_S / 2,
            max_age_s=REFRESH_S,
            retry_s=REFRESH_S,
            clock=clock,
        )
        _living.add(self._rows)

    @property
    def last(self) -> Snapshot | None:
        """The rows as they were when they were last read."""
        return self._rows.last

    @property
    def is_fresh(self) -> bool:
        """Whether `rows` answers at once."""
        return self._rows.current() is not None or self._rows.has_failed

    def rows(self) -> Snapshot:
        """
        The rows, as they were less than `REFRESH_S` ago.

        Raises:
            AILedgerError: They cannot be read. It is not tried again for a while.
        """
        rows = self._rows.current()
        return rows if rows is not None else self._caught_up()

    def edited(self) -> None:
        """Read the rows before the next call: this process has changed them."""
        self._rows.edited()

    def _caught_up(self) -> Snapshot:
        failure = self._rows.catch_up()
        if failure is not None:
            raise SinkUnavailable(failure)
        rows = self._rows.last
        assert rows is not None
        return rows

    def _read(self, before: Snapshot | None) -> Snapshot:
        from ai_ledger.policies.quotas.rows import snapshot

        return snapshot(self._opened(), before)

    def _failed(self, error: Exception) -> None:
        # The next call that finds the rows too old says what is wrong.
        self._rows.due_in(0)


_living: Final[Living[Refreshed[Snapshot]]] = Living()
_known: Final[dict[str, Known]] = {}


def known_rows(url: str, opened: Callable[[], Database]) -> Known:
    """The one `Known` of this process for *url*: an edit here counts for all at once."""
    known = _known.get(url)
    return known if known is not None else _known.setdefault(url, Known(opened))


def forget_rows() -> None:
    """Remember nothing: for tests alone, which share a database."""
    _known.clear()
