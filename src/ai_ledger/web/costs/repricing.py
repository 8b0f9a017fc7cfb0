"""`Repricing`: pricing calls again, and taking that back, in the background, one run at a time."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import datetime
from typing import Final

from ai_ledger.errors import AILedgerError, EditConflict, NotFound
from ai_ledger.pricing.reprice import reprice
from ai_ledger.pricing.stored import LedgerPrices
from ai_ledger.query import Query
from ai_ledger.web.costs.corrections import corrections_at, take_back
from ai_ledger.web.costs.run import KIND, Asked, RepricingRun, Run, State, remembered
from ai_ledger.web.house import Desk, House
from ai_ledger.web.notes import note

_FLUSH_S: Final = 5.0
_log = logging.getLogger(__name__)


class Repricing:
    """
    The runs of one console. Threads share one.

    What is known of a run is kept in memory, and of its begin and end in the history,
    for the next console to tell. When the console is killed in the middle of one, the
    calls corrected until then keep their new cost, the others their old one, and each
    sum equals its calls; the same run done again does the rest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Run | None = None

    def last(self, house: House) -> RepricingRun | None:
        """
        The run that is going on, or the one that ended last.

        Before the first one of this console: the last that the history knows of.

        Raises:
            SinkUnavailable: The database is away.
        """
        last = self._last
        return remembered(house) if last is None else last.told()

    def begin(self, desk: Desk, asked: Asked, *, wait_s: float = 0.0) -> RepricingRun:
        """
        Begin a run; how far it is after *wait_s* seconds.

        Raises:
            AccessDenied: Only an admin of all organisations may.
            EditConflict: Another one is going on.
        """
        desk.require("admin", everywhere=True)
        with self._lock:
            self._refuse_second()
            run = self._last = Run(asked, desk.by, desk.house.clock())
        return self._begun(desk, run, wait_s)

    def take_back(self, desk: Desk, begun_at: datetime, *, wait_s: float = 0.0) -> RepricingRun:
        """
        Begin to give the calls that a run has changed their old cost again, as `begin`.

        Whoever asks for the same again, while it is going on, is told how far it is.

        Args:
            desk: Of an admin of all organisations.
            begun_at: `RepricingRun.begun_at` of the run, which may have been long ago.
            wait_s: How long the end is waited for.

        Raises:
            EditConflict: Another run is going on.
        """
        desk.require("admin", everywhere=True)
        with self._lock:
            last = self._last
            going_on = last is not None and last.state == "running"
            if last is not None and going_on and last.asked.takes_back == begun_at:
                return last.told()
            self._refuse_second()
            asked = Asked(dry_run=False, takes_back=begun_at)
            run = self._last = Run(asked, desk.by, desk.house.clock())
        return self._begun(desk, run, wait_s)

    def stop(self, desk: Desk) -> RepricingRun:
        """
        Stop the run after the calls that it is at; what was corrected stays.

        Raises:
            NotFound: None is going on.
        """
        desk.require("admin", everywhere=True)
        run = self._last
        if run is None or run.state != "running":
            raise NotFound("no calls are being priced again")
        run.stop = True
        return run.told()

    def _refuse_second(self) -> None:
        last = self._last
        if last is None or last.state != "running":
            return
        if last.asked.takes_back is None:
            raise EditConflict("calls are being priced again already: stop that first, or wait")
        raise EditConflict("a re-pricing is being taken back: stop that first, or wait")

    def _begun(self, desk: Desk, run: Run, wait_s: float) -> RepricingRun:
        try:
            if not run.asked.dry_run:
                note(desk, KIND, run.id, None, run.noted("begun"))
            # A daemon: see the class for what becomes of a run that is cut off.
            threading.Thread(
                target=self._work, args=(run, desk), name="ai-ledger-repricing", daemon=True
            ).start()
        except BaseException as error:
            # Without a thread nobody would ever end it, and no other run could begin.
            _end(run, desk.house, "failed", str(error) or type(error).__name__)
            raise
        run.done.wait(wait_s)
        return run.told()

    @staticmethod
    def _work(run: Run, desk: Desk) -> None:
        work = _price if run.asked.takes_back is None else _take_back
        try:
            state: State = "stopped" if work(run, desk.house) else "done"
            if not run.asked.dry_run:
                note(desk, KIND, run.id, None, run.noted(state))
            _end(run, desk.house, state, None)
        except AILedgerError as error:
            _fail(run, desk, str(error))
        except Exception:  # noqa: BLE001 - nobody waits for this thread; the run tells
            _log.exception("calls could not be priced again")
            _fail(run, desk, "something broke; the log of the console says what")


def _price(run: Run, house: House) -> bool:
    """Price the calls of *run* again; whether somebody stopped it."""
    asked = run.asked
    query = Query.build(scope=None, since=asked.since, until=asked.until, where=asked.where)
    run.calls = sum(group.totals.calls for group in house.reader.costs(query))
    if isinstance(house.ledger.prices, LedgerPrices):
        house.ledger.prices.refresh()
    if not asked.dry_run:
        # What is still on its way is priced by the same table when it arrives.
        house.ledger.flush(_FLUSH_S)

    def go_on(checked: int) -> bool:
        run.checked = checked
        return not run.stop

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


def _take_back(run: Run, house: House) -> bool:
    """Take back what the run of *run* has changed; whether somebody stopped it."""
    at = run.asked.takes_back
    assert at is not None
    run.calls = corrections_at(house, at)

    def go_on(looked_at: int, count: int) -> bool:
        run.checked, run.changed = looked_at, count
        return not run.stop

    take_back(house, at, now=run.begun_at, go_on=go_on)
    # Whoever stops it during the last batch comes too late: all is taken back by then.
    return run.stop and run.checked < run.calls


def _fail(run: Run, desk: Desk, error: str) -> None:
    try:
        if not run.asked.dry_run:
            # Where that is not possible either, the next console finds that it did not end.
            with suppress(AILedgerError):
                note(desk, KIND, run.id, None, run.noted("failed", error))
    finally:
        _end(run, desk.house, "failed", error)


def _end(run: Run, house: House, state: State, error: str | None) -> None:
    run.ended_at, run.error = house.clock(), error
    run.state = state
    run.done.set()


def repricing_of(house: House) -> Repricing:
    """The runs of the console over *house*."""
    return house.kept("re-pricing", Repricing)
