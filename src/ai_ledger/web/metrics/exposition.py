"""`Exposition`: everything that ``/metrics`` tells, read once every few seconds."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import Metric

from ai_ledger._version import __version__
from ai_ledger.database.engine import Database
from ai_ledger.errors import AILedgerError, SinkUnavailable
from ai_ledger.sinks.prometheus import PrometheusSink
from ai_ledger.sinks.sql.shared import quick_database
from ai_ledger.web.house import House
from ai_ledger.web.metrics.calls import StoredCalls
from ai_ledger.web.metrics.families import counter, gauge
from ai_ledger.web.metrics.state import Budgets, Deliveries, alerts

log: Final = logging.getLogger("ai_ledger")

BUILD: Final = ("ai_ledger_build_info", "The version of ai-ledger that tells all this.")
SCRAPE: Final = ("ai_ledger_scrape_duration_seconds", "How long it took to find this out.")
ERRORS: Final = ("ai_ledger_scrape_errors", "Parts that could not be read, and are left out.")

KEPT_S: Final = 5.0
"""For how long an answer is given again."""
# Prometheus waits for ten seconds, unless it is told otherwise.
_DEADLINE_S: Final = 6.0
_TIMEOUT_S: Final = 2.0
"""Of one question to the database."""


class Exposition:
    """
    The metrics of one console, as a collector of ``prometheus_client``.

    Calls are those of the ledger's `PrometheusSink`, if it has one, else those that the
    store gains. A part that cannot be read, or for which there was no time, is left out
    and counted.

    Args:
        house: Whose ledger it is; not kept alive by this.
    """

    def __init__(self, house: House) -> None:
        self._house: Final = weakref.ref(house)
        self._lock: Final = threading.Lock()
        self._calls: Final = StoredCalls()
        self._budgets: Final = Budgets()
        self._deliveries: Final = Deliveries()
        self._errors: Counter[str] = Counter(dict.fromkeys(_PARTS, 0))
        self._read: list[Metric] = []
        self._until = 0.0

    def collect(self) -> list[Metric]:
        """
        The metrics as they are, or were a moment ago.

        Raises:
            SinkUnavailable: Somebody else has been reading them for too long.
        """
        # One at a time: whoever asks meanwhile gets the same answer.
        if not self._lock.acquire(timeout=_DEADLINE_S):
            raise SinkUnavailable("the metrics are being read, which takes too long; try again")
        try:
            if time.monotonic() >= self._until:
                self._read = list(self._all())
                self._until = time.monotonic() + KEPT_S
            return self._read
        finally:
            self._lock.release()

    def _all(self) -> Iterator[Metric]:
        house = self._house()
        if house is None:
            return
        began = time.monotonic()
        for name, part in self._parts(house).items():
            try:
                if time.monotonic() > began + _DEADLINE_S:
                    raise SinkUnavailable("there was no time left")
                yield from list(part())
            except AILedgerError as error:
                self._errors[name] += 1
                log.debug("metrics of %s could not be read", name, exc_info=error)
        took = time.monotonic() - began
        yield counter(ERRORS, ("part",), [((name,), n) for name, n in self._errors.items()])
        yield gauge(SCRAPE, (), [((), took)])
        yield gauge(BUILD, ("version",), [((__version__,), 1)])

    def _parts(self, house: House) -> dict[str, Callable[[], Iterable[Metric]]]:
        own = [sink for sink in house.ledger.sinks if isinstance(sink, PrometheusSink)]

        def database() -> Database:
            return quick_database(house.url, timeout_s=_TIMEOUT_S)

        def calls() -> Iterable[Metric]:
            return own[0].collect() if own else self._calls.read(database())

        return {
            "delivery": lambda: self._deliveries.read(house.ledger.health()),
            "calls": calls,
            "budgets": lambda: self._budgets.read(database(), house.clock()),
            "alerts": lambda: alerts(database()),
        }


_PARTS: Final = ("delivery", "calls", "budgets", "alerts")


def exposition_of(house: House) -> Exposition:
    """The one that counts for *house*."""
    return house.kept("metrics", lambda: Exposition(house))
