"""`House`: what stands behind the console; `Desk`: the part of it that a reader may use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast, runtime_checkable

import msgspec

from ai_ledger.access import Access, AccessTokens, Role, Sessions
from ai_ledger.alerts import Alerts
from ai_ledger.catalog import Catalog
from ai_ledger.errors import NotFound
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.quotas import Quotas
from ai_ledger.policies.words import Words
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.sinks import Store
from ai_ledger.sinks.sql.shared import database_url_of, shared_database
from ai_ledger.sinks.sql.sink import SQLSink
from ai_ledger.stats import CallDetail, Stats
from ai_ledger.stats.calendar import time_zone

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database
    from ai_ledger.ledger import Ledger

T = TypeVar("T")


@runtime_checkable
class _Closes(Protocol):
    """What a room keeps, if it works in the background until it is told to end."""

    def close(self) -> None: ...


READ_TIMEOUT_S: Final = 10.0
"""How long one question of the console may keep the database busy."""


class House:
    """
    A ledger, and what is kept in its database. Threads share one.

    What reads has connections and a time limit of its own, so that a long question
    holds nobody up who delivers.

    Args:
        ledger: With an SQL store.
        tz: Whose days and hours pages and the API tell, unless they are asked for others.
        clock: Says what time it is; aware.

    Raises:
        ConfigurationError: There is no SQL store.
    """

    def __init__(
        self, ledger: Ledger, *, tz: str | tzinfo = "UTC", clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.ledger: Final = ledger
        self.url: Final = database_url_of(ledger)
        self.tz: Final = time_zone(tz)
        self.clock: Final = clock
        self.reader: Final = SQLSink(self.url, timeout_s=READ_TIMEOUT_S)
        """Answers questions about calls."""
        self._keeping: Final = threading.Lock()
        self._kept: Final[dict[str, Any]] = {}

    def kept(self, kind: str, make: Callable[[], T]) -> T:
        """
        What a room keeps for as long as this house stands, one of each *kind*.

        Args:
            kind: What it is called; each has a name of its own.
            make: Makes it for the first who asks; asks for nothing else that is kept.
        """
        with self._keeping:
            if kind not in self._kept:
                self._kept[kind] = make()
            return cast("T", self._kept[kind])

    @property
    def store(self) -> Store:
        """Takes changes of calls."""
        return next(cast("Store", sink) for sink in self.ledger.sinks if isinstance(sink, SQLSink))

    @property
    def database(self) -> Database:
        """For what is not a call; raises `SinkUnavailable` when it is away."""
        return shared_database(self.url)

    @cached_property
    def catalog(self) -> Catalog:
        """Providers, models and their prices."""
        return Catalog(self.url)

    @cached_property
    def quotas(self) -> Quotas:
        """Quotas of organisations; to be read and edited, not asked before calls."""
        return Quotas(self.url)

    @cached_property
    def words(self) -> Words:
        """The list of words, and the filter that tries texts."""
        return Words(self.url)

    @cached_property
    def alerts(self) -> Alerts:
        """The alerts of all organisations."""
        return Alerts(self.url, clock=self.clock)

    @cached_property
    def tokens(self) -> AccessTokens:
        """Who may come in."""
        return AccessTokens(self.url, clock=self.clock)

    @cached_property
    def sessions(self) -> Sessions:
        """The browsers that have come in."""
        return Sessions(self.url, clock=self.clock)

    @property
    def accounts(self) -> Accounts:
        """Budgets, and what is used of them."""
        return Accounts(self.database)

    def close(self) -> None:
        """End what works in the background, close the connections that read; the ledger stays."""
        if "alerts" in vars(self):
            self.alerts.stop()
        with self._keeping:
            kept = list(self._kept.values())
        for each in kept:
            if isinstance(each, _Closes):
                each.close()
        self.reader.close()


class Desk:
    """
    What one reader may use: everything that it answers is confined to *access*.

    Pages and the API know nothing but this; what is not here they ask of `house`, and
    confine it themselves, which the test over all routes holds them to.

    Args:
        house: What stands behind it.
        access: Who is asking.
        tz: The zone in which days are told; the house's, if left out.
    """

    def __init__(self, house: House, access: Access, tz: tzinfo | None = None) -> None:
        self.house: Final = house
        self.access: Final = access
        self.tz: Final = tz or house.tz

    @property
    def scope(self) -> str | None:
        """The organisation that this reader is confined to."""
        return self.access.org_id

    @property
    def by(self) -> str:
        """With what name this reader's edits are signed."""
        return self.access.name

    def require(self, role: Role, *, everywhere: bool = False) -> None:
        """Refuse whoever has less than *role*; see `Access.require`."""
        self.access.require(role, everywhere=everywhere)

    @property
    def stats(self) -> Stats:
        """Reports, confined to the reader's organisation."""
        return Stats(self.house.reader, scope=self.scope, tz=self.tz, clock=self.house.clock)

    @property
    def alerts(self) -> Alerts:
        """Alerts, confined to the reader's organisation."""
        return self.house.alerts if self.scope is None else self.house.alerts.scoped(self.scope)

    def call(self, call_id: str) -> CallDetail:
        """
        One call, deleted or not, with its corrections.

        Raises:
            NotFound: There is none with this id, for this reader.
        """
        found = self.stats.call(call_id)
        if found is None:
            raise NotFound(f"there is no call {call_id!r}")
        return found.model_copy(update={"call": self.shown(found.call)})

    def shown(self, call: CallRecord) -> CallRecord:
        """*call* without prompt and answer, unless this reader may see them."""
        if self.access.prompts:
            return call
        # Providers quote in their errors what they do not like of a prompt.
        return msgspec.structs.replace(
            call, request_content=None, response_content=None, error_message=None
        )
