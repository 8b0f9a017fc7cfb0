"""`Repricing`: pricing calls again, and taking that back, in the background, one run at a time."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import datetime
from typing import Final

from ai_ledger.errors import AILedgerError, EditConflict, NotFound, SinkError
from ai_ledger.pricing.reprice import reprice
from ai_ledger.pricing.stored import LedgerPrices
from ai_ledger.query import Query
from ai_ledger.web.costs.corrections import corrections_at, take_back
from ai_ledger.web.costs.run import Asked, RepricingRun, Run
from ai_ledger.web.costs.runs import SILENCE, Runs
from ai_ledger.web.house import Desk, House

_FLUSH_S: Final = 5.0
# How long a console that ends waits for its run to stop after the batch that it is at.
_GOODBYE_S: Final = 5.0
# How long between tries to tell how a run has ended; after `SILENCE` others know anyway.
_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, SILENCE.total_seconds() / 2)
_log = logging.getLogger(__name__)


class Repricing:
    """
    Re-pricing in one console. Threads share one.

    All consoles of a ledger see the same run, can stop it, and begin none beside it.
    When the console that is at it is killed, the calls corrected until then keep their
    new cost, the others their old one, and each sum equals its calls; the same run
    done again does the rest.

    Args:
        house: Whose calls.
    """

    def __init__(self, house: House) -> None:
        self._house: Final = house
        self._runs: Final = Runs(house)
        self._closing: Final = threading.Event()
        self._mine: Run | None = None

    def last(self) -> RepricingRun | None:
        """
        The run that is going on, or the one that ended last, in any console.

        Raises:
            SinkUnavailable: The database is away.
        """
        return self._runs.last()

    def begin(self, desk: Desk, asked: Asked, *, wait_s: float = 0.0) -> RepricingRun:
        """
        Begin a run; how far it is after *wait_s* seconds.

        Raises:
            AccessDenied: Only an admin of all organisations may.
            EditConflict: Another one is going on.
            SinkUnavailable: The database is away.
        """
        desk.require("admin", everywhere=True)
        run = Run(asked, desk.by, self._house.clock())
        self._runs.begin(run)
        self._mine = run
        try:
            # A daemon: see the class for what becomes of a run that is cut off.
            threading.Thread(
                target=self._work, args=(run,), name="ai-ledger-repricing", daemon=True
            ).start()
        except BaseException as error:
            # Without a thread it would be taken for going on until it has been silent enough.
            run.state, run.error = "failed", str(error) or type(error).__name__
            run.ended_at = self._house.clock()
            with suppress(AILedgerError):
                self._runs.end(run)
            raise
        run.done.wait(wait_s)
        return self._told(run)

    def take_back(self, desk: Desk, begun_at: datetime, *, wait_s: float = 0.0) -> RepricingRun:
        """
        Begin to give the calls that a run has changed their old cost again, as `begin`.

        Whoever asks for the same again, while it is going on, is told how far it is.

        Args:
            desk: Of an admin of all organisations.
            begun_at: `RepricingRun.begun_at` of the run, which may have been long ago.
            wait_s: How long the end is waited for.

        Raises:
            AccessDenied: Only an admin of all organisations may.
            EditConflict: Another run is going on.
            SinkUnavailable: The database is away.
        """
        try:
            return self.begin(desk, Asked(dry_run=False, takes_back=begun_at), wait_s=wait_s)
        except EditConflict:
            last = self.last()
            if last is not None and last.state == "running" and last.takes_back == begun_at:
                return last
            raise

    def stop(self, desk: Desk) -> RepricingRun:
        """
        Stop the run after the calls that it is at; what was corrected stays.

        Raises:
            AccessDenied: Only an admin of all organisations may.
            NotFound: None is going on.
            SinkUnavailable: The database is away.
        """
        desk.require("admin", everywhere=True)
        run = self.last()
        if run is None or run.state != "running":
            raise NotFound("no calls are being priced again")
        self._runs.stop(run.id)
        return run

    def close(self) -> None:
        """Stop the run of this console, if there is one."""
        self._closing.set()
        if self._mine is not None:
            self._mine.done.wait(_GOODBYE_S)

    def _told(self, run: Run) -> RepricingRun:
        """*run* as all see it; or as it was begun, when another one has followed already."""
        last = self.last()
        return last if last is not None and last.id == run.id else run.told()

    def _work(self, run: Run) -> None:
        work = self._price if run.asked.takes_back is None else self._take_back
        try:
            run.state = "stopped" if work(run) else "done"
        except AILedgerError as error:
            run.state, run.error = "failed", str(error)
        except Exception:  # noqa: BLE001 - nobody waits for this thread; the run tells
            _log.exception("calls could not be priced again")
            run.state = "failed"
            run.error = "something broke; the log of the console says what"
        run.ended_at = self._house.clock()
        try:
            self._end(run)
        finally:
            run.done.set()

    def _end(self, run: Run) -> None:
        for pause_s in _PAUSES_S:
            try:
                self._runs.end(run)
            except SinkError as error:
                _log.warning("how re-pricing ended could not be stored yet: %s", error)
                if self._closing.wait(pause_s):
                    return
            else:
                return

    def _go_on(self, run: Run) -> bool:
        return self._runs.go_on(run) and not self._closing.is_set()

    def _price(self, run: Run) -> bool:
        """Price the calls of *run* again; whether somebody stopped it."""
        asked, house = run.asked, self._house
        query = Query.build(scope=None, since=asked.since, until=asked.until, where=asked.where)
        run.calls = sum(group.totals.calls for group in house.reader.costs(query))
        if not self._go_on(run):
            return True
        if isinstance(house.ledger.prices, LedgerPrices):
            house.ledger.prices.refresh()
        if not asked.dry_run:
            # What is still on its way is priced by the same table when it arrives.
            house.ledger.flush(_FLUSH_S)

        def go_on(checked: int) -> bool:
            run.checked = checked
            return self._go_on(run)

        run.report = reprice(
            house.store,
            house.ledger.prices,
            scope=None,
            since=asked.since,
            until=asked.until,
            where=asked.where,
            dry_run=asked.dry_run,
            now=run.begun_at,
            go_on=go_on,
        )
        return run.report.stopped

    def _take_back(self, run: Run) -> bool:
        """Take back what the run of *run* has changed; whether somebody stopped it."""
        at = run.asked.takes_back
        assert at is not None
        run.calls = corrections_at(self._house, at)
        if not self._go_on(run):
            return True
        stopped = False

        def go_on(looked_at: int, count: int) -> bool:
            nonlocal stopped
            run.checked, run.changed = looked_at, count
            stopped = not self._go_on(run)
            return not stopped

        take_back(self._house, at, now=run.begun_at, go_on=go_on)
        # Whoever stops it during the last batch comes too late: all is taken back by then.
        return stopped and run.checked < run.calls


def repricing_of(house: House) -> Repricing:
    """Re-pricing in the console over *house*."""
    return house.kept("re-pricing", lambda: Repricing(house))
