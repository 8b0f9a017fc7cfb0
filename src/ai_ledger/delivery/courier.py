"""A courier: takes records from the journal to one sink, in batches, until it has them."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from ai_ledger.delivery.health import SinkHealth
from ai_ledger.errors import RecordRefused, SinkUnavailable
from ai_ledger.journal import Journal
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.secrets import scrub
from ai_ledger.sinks.base import Sink, SomeRefused

log: Final = logging.getLogger("ai_ledger")

# Nothing of this can be a record's fault.
_AWAY: Final = (SinkUnavailable, ConnectionError, TimeoutError)

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 2.0
HELD_DELAY: Final = 0.005
PROBE_EVERY: Final = 4
"""Of so many failures in a row with unknown errors, the last has single records tried."""
_SAMPLES: Final = 8


class Courier:
    """
    One sink's cursor, its failures and its delays. Used by one thread.

    It never sleeps: `step` says how long to wait, so that tests need no time.

    Args:
        sink: Where records go.
        key: The sink's name, unique among the ledger's.
        journal: Where they come from.
        prepare: Applied to each record on the way; see `Delivery`.
        is_held: Whether to leave the sink alone for the moment.
    """

    def __init__(
        self,
        sink: Sink,
        key: str,
        journal: Journal,
        prepare: Callable[[Sequence[CallRecord]], list[CallRecord]],
        is_held: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sink = sink
        self.key = key
        self.durable: bool = bool(getattr(sink, "durable", True))
        self.busy_since: float | None = None
        """Monotonic time since when the sink has been at work on a batch."""
        self.failures = 0
        """In a row."""
        self._journal = journal
        self._prepare = prepare
        self._is_held = is_held
        self._delivered = 0
        self._last_error: str | None = None
        self._last_success_at: datetime | None = None
        # Refused by the sink and set aside, while their batch is not done yet.
        self._refused: set[str] = set()
        self._has_refused = False

    def step(self) -> float | None:
        """
        Deliver one batch.

        Returns:
            Seconds until the next step: 0 when there is more, ``None`` when there
            was nothing behind this batch, else the delay after a failure.
        """
        # Before reading: whoever rewrites the journal waits for those that have read it.
        self.busy_since = time.monotonic()
        try:
            # In this order: whoever holds it back sees that it is busy, or it sees that it is held.
            return HELD_DELAY if self._is_held() else self._step()
        finally:
            self.busy_since = None

    def _step(self) -> float | None:
        batch = self._journal.next_batch(self.key)
        if batch is None:
            return None
        records = [record for record in batch.records if record.id not in self._refused]
        try:
            self._send(self._prepare(records))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary around a sink
            if self.durable:
                return self._failed(error)
            lost = error.count if isinstance(error, SomeRefused) else len(records)
            self._delivered += len(records) - lost
            self._journal.count(f"not taken by {self.key}", lost)
            self._note(error)
        else:
            self._succeeded(len(records))
        self._refused.clear()
        self._journal.acknowledge(self.key, batch)
        return None if batch.is_last else 0.0

    def health(self) -> SinkHealth:
        """How the sink is."""
        return SinkHealth(
            name=self.key,
            pending=self._journal.pending(self.key),
            delivered=self._delivered,
            last_error=self._last_error,
            last_success_at=self._last_success_at,
        )

    def _send(self, records: list[CallRecord]) -> None:
        if not records:
            return
        if not self.durable:
            self.sink.write(records)
            return
        try:
            if len(records) > 1 and self.failures % PROBE_EVERY == PROBE_EVERY - 1:
                self._probe(records)
            else:
                self.sink.write(records)
        except RecordRefused as error:
            self._halve(records, error)

    def _halve(self, records: list[CallRecord], error: RecordRefused) -> None:
        """Find out which of *records* are refused, and set those aside."""
        if len(records) == 1:
            self._set_aside(records[0], error)
            return
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            try:
                self.sink.write(half)
            except RecordRefused as refusal:
                self._halve(half, refusal)

    def _probe(self, records: list[CallRecord]) -> None:
        """
        Tell an outage from a poisonous record, after unknown errors that go on.

        Only if some record passes on its own, and passes again right after
        another has failed, is that other one to blame.
        """
        try:
            self.sink.write(records)
        except (RecordRefused, *_AWAY):
            raise
        except Exception as error:  # the boundary around a sink
            witness = self._witness(records)
            if witness is None:
                raise
            self._halve_by_witness(records, witness, error)

    def _witness(self, records: list[CallRecord]) -> CallRecord | None:
        for record in random.sample(records, min(_SAMPLES, len(records))):
            try:
                self.sink.write([record])
            except _AWAY:
                raise
            except Exception as error:  # noqa: BLE001  # the boundary around a sink
                log.debug("%s would not take %s: %s", self.key, record.id, error)
            else:
                return record
        return None

    def _halve_by_witness(
        self, records: list[CallRecord], witness: CallRecord, error: Exception
    ) -> None:
        if len(records) == 1:
            self.sink.write([witness])
            self._set_aside(records[0], error)
            return
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            try:
                self.sink.write(half)
            except _AWAY:
                raise
            except Exception as refusal:  # noqa: BLE001  # the boundary around a sink
                self._halve_by_witness(half, witness, refusal)

    def _set_aside(self, record: CallRecord, error: Exception) -> None:
        quarantine = self._journal.quarantine
        if quarantine is not None:
            quarantine.add_record(record, sink=self.key, reason=_told(error))
        else:
            self._journal.count(f"refused by {self.key}")
        self._refused.add(record.id)
        # The first one is news; a flood of them is in the quarantine.
        log.log(
            logging.DEBUG if self._has_refused else logging.WARNING,
            "%s refused the call %s, which was set aside: %s",
            self.key,
            record.id,
            _told(error),
        )
        self._has_refused = True

    def _failed(self, error: BaseException) -> float:
        if self.failures == 0:
            log.warning(
                "%s does not take records, which are kept for it: %s", self.key, _told(error)
            )
        self._note(error)
        self.failures += 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(self.failures - 1, 10))
        return delay * random.uniform(0.75, 1.25)  # noqa: S311  # jitter, no secret

    def _succeeded(self, count: int) -> None:
        if self.failures:
            log.warning("%s takes records again", self.key)
        self.failures = 0
        self._last_error = None
        self._last_success_at = utc_now()
        self._delivered += count - len(self._refused)

    def _note(self, error: BaseException) -> None:
        self._last_error = _told(error)


def _told(error: BaseException) -> str:
    return scrub(f"{type(error).__name__}: {error}")[:500]
