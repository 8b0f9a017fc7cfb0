"""`Runs`: the run of re-pricing that goes on, or the last one, as all consoles see it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ai_ledger.database.changes import note_change
from ai_ledger.database.engine import Again
from ai_ledger.database.tables.console import repricing_runs
from ai_ledger.errors import EditConflict
from ai_ledger.sinks.sql.leases import now_of
from ai_ledger.web.costs.corrections import corrections_at
from ai_ledger.web.costs.run import RepricingRun, Run
from ai_ledger.web.house import House

KIND: Final = "repricing"
"""What runs are called in the history."""
SILENCE: Final = timedelta(minutes=1)
"""
How long a run may go on without a sign of life before it is taken for cut off.

It gives one after each batch of calls, of which none takes longer than the time limit of
a query.
"""

_GOES_ON: Final = 1


class Runs:
    """
    The last run, in the database that consoles share; one goes on at a time.

    Of those before it the history knows. Signs of life are told by the clock of the
    database, which all consoles share.

    Args:
        house: Whose database.
    """

    def __init__(self, house: House) -> None:
        self._house: Final = house

    def last(self) -> RepricingRun | None:
        """
        The run that goes on, or the one that ended last.

        Raises:
            SinkUnavailable: The database is away.
        """
        with self._house.database.reading() as connection:
            row = _row(connection)
            silent = row is not None and bool(row.going_on) and _is_silent(connection, row)
        if row is None:
            return None
        run = RepricingRun.model_validate_json(row.body)
        if silent:
            run = run.model_copy(update={"state": "cut_off"})
        if run.state in ("failed", "cut_off") and not run.dry_run:
            run = run.model_copy(update={"changed": corrections_at(self._house, run.begun_at)})
        return run

    def begin(self, run: Run) -> None:
        """
        Let *run* be the one that goes on, and note it in the history unless it is for show.

        Raises:
            EditConflict: Another one is going on.
            SinkUnavailable: The database is away.
        """

        def work(connection: Connection) -> None:
            before = _row(connection)
            over = repricing_runs.c.going_on.is_(None)
            if before is not None and before.going_on:
                if not _is_silent(connection, before):
                    raise EditConflict(_refusal(before))
                # Unless it has given a sign of life since.
                same = repricing_runs.c.id == before.id
                over |= same & (repricing_runs.c.seen_at == before.seen_at)
            connection.execute(sa.delete(repricing_runs).where(over))
            row = {"id": run.id, "going_on": _GOES_ON, "stop": False, **_state(connection, run)}
            try:
                connection.execute(sa.insert(repricing_runs).values(row))
            except exc.IntegrityError as error:
                raise Again from error  # Another console was faster, and is found then.
            self._note(connection, run)

        self._house.database.writing(work)

    def go_on(self, run: Run) -> bool:
        """
        Give a sign of life of *run*, and tell how far it is; whether it may go on.

        It may not when somebody has stopped it, or has taken it for cut off.

        Raises:
            SinkUnavailable: The database is away.
        """

        def work(connection: Connection) -> bool:
            mine = _going_on(run.id)
            connection.execute(
                sa.update(repricing_runs).where(mine).values(_state(connection, run))
            )
            return connection.scalar(sa.select(repricing_runs.c.stop).where(mine)) is False

        return self._house.database.writing(work)

    def end(self, run: Run) -> None:
        """
        Tell how *run* has ended, here and in the history.

        Raises:
            SinkUnavailable: The database is away.
        """

        def work(connection: Connection) -> None:
            ended = {"going_on": None, **_state(connection, run)}
            connection.execute(sa.update(repricing_runs).where(_going_on(run.id)).values(ended))
            self._note(connection, run)

        self._house.database.writing(work)

    def stop(self, run_id: str) -> None:
        """
        Ask a run to stop, in whichever console it is.

        Raises:
            SinkUnavailable: The database is away.
        """

        def work(connection: Connection) -> None:
            statement = sa.update(repricing_runs).where(_going_on(run_id)).values(stop=True)
            connection.execute(statement)

        self._house.database.writing(work)

    def _note(self, connection: Connection, run: Run) -> None:
        if run.asked.dry_run:
            return
        at = self._house.clock()
        note_change(connection, KIND, run.id, before=None, after=run.noted(), by=run.by, at=at)


def _row(connection: Connection) -> sa.Row[Any] | None:
    return connection.execute(sa.select(repricing_runs)).first()


def _going_on(run_id: str) -> sa.ColumnElement[bool]:
    return (repricing_runs.c.id == run_id) & (repricing_runs.c.going_on == _GOES_ON)


def _state(connection: Connection, run: Run) -> dict[str, Any]:
    return {"seen_at": now_of(connection), "body": run.told().model_dump_json()}


def _is_silent(connection: Connection, row: sa.Row[Any]) -> bool:
    # A clock that was ahead must not keep everybody waiting until then.
    return abs(now_of(connection) - row.seen_at) > SILENCE


def _refusal(row: sa.Row[Any]) -> str:
    if RepricingRun.model_validate_json(row.body).takes_back is None:
        return "calls are being priced again already: stop that first, or wait"
    return "a re-pricing is being taken back: stop that first, or wait"
