"""Prices of the catalogue, which stand in the ledger's own database and come before all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Any, Final

import msgspec

from ai_ledger.errors import AILedgerError, PriceError, SchemaError, SinkUnavailable
from ai_ledger.forks import Living
from ai_ledger.incidents import Incidents
from ai_ledger.loading import loading
from ai_ledger.pricing.load import SUFFIX, price_from
from ai_ledger.pricing.match import Index, snapshot_base
from ai_ledger.pricing.places import Places
from ai_ledger.pricing.price import RATE_FIELDS, Price, Tier, TokenRates
from ai_ledger.pricing.table import PriceTable
from ai_ledger.records import CallRecord
from ai_ledger.refreshed import Refreshed
from ai_ledger.sinks import Sink
from ai_ledger.sinks.sql.sink import SQLSink

ORIGIN: Final = "catalog"
"""How the ids of the catalogue's prices begin."""
REFRESH_S: Final = 30.0
"""How long prices that were read are taken for the present ones."""
RETRY_S: Final = 60.0
_TIMEOUT_S: Final = 10.0
# A file that is not there yet is made with the first batch that is delivered.
_UNMADE_S: Final = 1.0


def entry_of(price: Price) -> dict[str, Any]:
    """*price* as an entry of a price file, per million tokens, without model and provider."""
    entry: dict[str, Any] = {"currency": price.currency, **_rates_of(price)}
    if price.per_call is not None:
        entry["per_call"] = _text(price.per_call)
    if price.tiers:
        entry["tiers"] = [_tier(tier) for tier in price.tiers]
    for key in ("valid_from", "valid_to"):
        moment: datetime | None = getattr(price, key)
        if moment is not None:
            entry[key] = moment.isoformat()
    for key in ("name", "source", "checked"):
        if getattr(price, key) is not None:
            entry[key] = getattr(price, key)
    return entry


def stored_price(
    model: str, provider: str, entry: Mapping[str, Any], label: str = "price"
) -> Price:
    """
    The price of *model* at *provider* that `entry_of` wrote, or that somebody typed.

    Raises:
        PriceError: A value is wrong; names it.
    """
    return price_from({**entry, "model": model, "provider": provider}, label=label, origin=ORIGIN)


def _rates_of(rates: TokenRates) -> dict[str, str]:
    return {
        field.removesuffix(SUFFIX): _text(rate)
        for field in RATE_FIELDS
        if (rate := getattr(rates, field)) is not None
    }


def _tier(tier: Tier) -> dict[str, Any]:
    condition: dict[str, Any] = {}
    if tier.above_input_tokens:
        condition["above_input_tokens"] = tier.above_input_tokens
    if tier.service_tier is not None:
        condition["service_tier"] = tier.service_tier
    return {**condition, **_rates_of(tier)}


def _text(amount: Decimal) -> str:
    return f"{amount:f}"


class _Read:
    """The prices that were in the database at one moment."""

    def __init__(
        self, models: Iterable[tuple[str, str, str | None, str]], providers: Iterable[str]
    ) -> None:
        listed = list(models)
        self._places = Places(
            [(name, None) for name in providers] + [(row[1], row[2]) for row in listed]
        )
        self._owners = {name.lower(): provider.lower() for name, provider, _, _ in listed}
        prices: dict[str, list[Price]] = {}
        self.troubles: list[PriceError] = []
        for name, provider, _, text in listed:
            if name.lower() in prices:
                other = "another model has this name, apart from capitals"
                self.troubles.append(PriceError(f"{name}: {other}"))
                continue
            try:
                entries: list[dict[str, Any]] = msgspec.json.decode(text)
                own = [stored_price(name, provider, entry) for entry in entries]
                # Alone, since prices of different models cannot contradict each other.
                Index(own)
            except (PriceError, msgspec.MsgspecError, TypeError, ValueError) as error:
                # Written by something else than the catalogue: the other rows still hold.
                self.troubles.append(PriceError(f"{name}: {error}"))
            else:
                prices[name.lower()] = own
        self.prices = Index(chain.from_iterable(prices.values()))

    def find(
        self, provider: str | None, model: str, at: datetime, host: str | None
    ) -> Price | None:
        if not len(self.prices):
            return None
        known = self._places.provider_at(provider, host)
        if known is None and provider is None:
            # Nothing is known of who answers: then the name of the model decides.
            name = model.lower()
            known = self._owners.get(name) or self._owners.get(snapshot_base(name) or "")
        return None if known is None else self.prices.find(known, model, at)


_NOTHING: Final = _Read((), ())
_living: Final[Living[StoredPrices]] = Living()


class StoredPrices:
    """
    The prices in the database at *url*. Threads may share one.

    Read when they are first asked for, and again, in the background, when what was read
    is `REFRESH_S` old. A database that is away, or has no such tables, changes nothing.
    No connection is kept in between.

    Args:
        url: As for `SQLSink`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._prices: Refreshed[_Read] = Refreshed(
            self._read, self._failed, name="ai-ledger prices", refresh_s=REFRESH_S, retry_s=RETRY_S
        )
        self._incidents = Incidents()
        _living.add(self)

    def find(
        self, provider: str | None, model: str, at: datetime, host: str | None = None
    ) -> Price | None:
        """
        The price of *model* for a call that started *at* (aware).

        Args:
            provider: Who answered; ``None`` when unknown, and then the name decides.
            model: Its name.
            at: When.
            host: The server address, which tells the provider where its name does not.
        """
        return self._current().find(provider, model, at, host)

    def __iter__(self) -> Iterator[Price]:
        return iter(self._current().prices)

    @property
    def is_known(self) -> bool:
        """Whether they were read; what is old is read again in the background."""
        return self._prices.current() is not None

    def expire(self) -> None:
        """What was read is no longer the present state."""
        self._prices.edited()

    def after_fork_in_child(self) -> None:
        """Go on without the parent's threads, and with incidents of its own."""
        self._prices.after_fork_in_child()
        self._incidents.after_fork_in_child()

    def _current(self) -> _Read:
        current = self._prices.current()
        if current is not None:
            return current
        # Nothing is known yet, or known to be out of date: then it is worth a wait.
        self._prices.catch_up()
        return self._prices.last or _NOTHING

    def _read(self, _: _Read | None) -> _Read:
        # After an edit, too: what was known holds while the database is away.
        read = self._prices.last or _NOTHING
        try:
            read = self._load()
        except (AILedgerError, ValueError, OSError, ImportError) as error:
            self._failed(error)
        for trouble in read.troubles:
            self._incidents.note("a price of the catalogue could not be read", trouble)
        return read

    def _failed(self, error: Exception) -> None:
        self._prices.due_in(RETRY_S)
        # The sink at the same address says so already.
        if not isinstance(error, (SinkUnavailable, SchemaError)):
            self._incidents.note("prices of the catalogue could not be read", error)

    def _load(self) -> _Read:
        with loading:  # in the delivery thread, while the program may fork
            import sqlalchemy as sa

            from ai_ledger.database.engine import Database
            from ai_ledger.database.tables.catalog import models, providers

            database = Database(self._url, timeout_s=_TIMEOUT_S)
        # To ask is not to make: SQLite would leave an empty file behind.
        if database.kind == "sqlite" and not database.path.exists():
            self._prices.due_in(_UNMADE_S)
            return _NOTHING
        try:
            with database.reading() as connection:
                names = connection.execute(
                    sa.select(providers.c.name).where(providers.c.status != "deleted")
                ).scalars()
                known = [str(name) for name in names]
                rows = connection.execute(
                    sa.select(models.c.name, models.c.provider, models.c.api_url, models.c.prices)
                    .where(models.c.status != "deleted")
                    .order_by(models.c.name)
                )
                return _Read([(row[0], row[1], row[2], row[3]) for row in rows], known)
        finally:
            database.close()


class LedgerPrices(PriceTable):
    """
    The prices of a ledger: those of its catalogue, then those of *table*.

    Args:
        table: What was given to the ledger; entries may still be added to it.
        stored: The catalogue's.
    """

    def __init__(self, table: PriceTable, stored: StoredPrices) -> None:
        # Nothing of its own: what would be kept here is kept in the two tables.
        super().__init__()
        self._table = table
        self._stored = stored

    def add(self, model: str, **entry: Any) -> Price:
        """Add a price of your own, which comes after the catalogue's; see `PriceTable.add`."""
        return self._table.add(model, **entry)

    def find(
        self, provider: str | None, model: str, at: datetime, *, service_tier: str | None = None
    ) -> Price | None:
        """The price of *model* at *provider* for a call that started *at*; see `PriceTable`."""
        # Asked in any case, because it refuses what is no time.
        found = self._table.find(provider, model, at, service_tier=service_tier)
        return self._stored.find(provider, model, at) or found

    def price_of(self, record: CallRecord) -> Price | None:
        """The price that *record* is charged by."""
        for name in dict.fromkeys((record.response_model, record.request_model)):
            if name:
                price = self._stored.find(
                    record.provider, name, record.started_at, record.server_address
                )
                if price is not None:
                    return price
        return self._table.price_of(record)

    @property
    def is_known(self) -> bool:
        """Whether they were read, so that asking for one does not wait for the database."""
        return self._stored.is_known

    def refresh(self) -> None:
        """Read the catalogue's prices anew when they are next needed."""
        self._stored.expire()

    def __iter__(self) -> Iterator[Price]:
        """The catalogue's prices, then those of the table."""
        yield from self._stored
        yield from self._table

    def __len__(self) -> int:
        return sum(1 for _ in self._stored) + len(self._table)


def ledger_prices(table: PriceTable, sinks: Iterable[Sink]) -> PriceTable:
    """*table*, behind the catalogue of the first SQL store among *sinks*, if there is one."""
    for sink in sinks:
        if isinstance(sink, SQLSink):
            return LedgerPrices(table, StoredPrices(sink.url))
    return table


def prices_changed() -> None:
    """Every ledger of this process reads its catalogue's prices anew."""
    for stored in _living:
        stored.expire()
