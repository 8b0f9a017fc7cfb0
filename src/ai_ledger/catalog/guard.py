"""The guard: what is switched off, known without asking the database for each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from ai_ledger.errors import ModelNotAllowed
from ai_ledger.forks import Living
from ai_ledger.loading import loading
from ai_ledger.policy import MARK_PREFIX, Revision
from ai_ledger.pricing.places import Places
from ai_ledger.records import CallRecord
from ai_ledger.refreshed import Refreshed

if TYPE_CHECKING:
    from ai_ledger.database.engine import Database

REFRESH_S: Final = 5.0
"""How old what is known may be before it is read again, in the background."""
MAX_AGE_S: Final = 30.0
"""Older than this, calls wait for what is read, for `WAIT_S` at the most."""
WAIT_S: Final = 5.0
RETRY_S: Final = 30.0
UNCHECKED: Final = Revision(marks={f"{MARK_PREFIX}catalog": "unchecked"})


class _Statuses:
    """What is switched off at one moment."""

    def __init__(
        self,
        providers: list[tuple[str, str, str | None]],
        models: list[tuple[str, str, str, str | None]],
    ) -> None:
        self._places = Places(
            [(name, url) for name, _, url in providers]
            + [(provider, url) for _, _, provider, url in models]
        )
        self._providers = {
            name.lower(): f"provider {name!r} is {status} in the catalogue"
            for name, status, _ in providers
            if status != "enabled"
        }
        self._models: dict[str, tuple[str, str]] = {}
        for name, status, provider, _ in models:
            owner = provider.lower()
            if status != "enabled":
                self._models[name.lower()] = (owner, f"model {name!r} is {status} in the catalogue")
            elif owner in self._providers:
                self._models[name.lower()] = (owner, f"model {name!r}: {self._providers[owner]}")

    def reason(self, provider: str | None, host: str | None, model: str | None) -> str | None:
        """Why such a call is refused; ``None`` when it is not."""
        if not self._providers and not self._models:
            return None
        place = self._places.provider_at(provider, host)
        if place in self._providers:
            return self._providers[place]
        owner, reason = self._models.get(model.lower() if model else "", (None, None))
        # The model of this name at another provider of the catalogue is another model.
        return reason if place is None or place == owner else None


_living: Final[Living[Refreshed[_Statuses]]] = Living()


class Guard:
    """
    Refuses calls to what is disabled or removed. Threads may share one.

    A database that cannot be read leaves what was last known; when nothing ever was,
    *on_unavailable* says what happens.

    Args:
        database: Opens it, or gives the one that is open.
        note: Told what went wrong.
        on_unavailable: Whether calls are then admitted.
    """

    def __init__(
        self,
        database: Callable[[], Database],
        note: Callable[[str, BaseException], None],
        on_unavailable: Literal["allow", "refuse"] = "allow",
    ) -> None:
        self._on_unavailable = on_unavailable
        self._database = database
        self._note = note
        self._statuses: Refreshed[_Statuses] = Refreshed(
            self._read,
            self._failed,
            name="ai-ledger-catalog",
            refresh_s=REFRESH_S,
            max_age_s=MAX_AGE_S,
        )
        _living.add(self._statuses)

    def check(self, call: CallRecord) -> Revision | None:
        """
        Refuse *call* if its model or provider is switched off; the mark of one unchecked.

        Raises:
            ModelNotAllowed: It is; says what. Or it cannot be told, and is refused then.
        """
        if self._statuses.current() is None:
            reading = self._statuses.soon()
            if reading is not None:
                reading.wait(max(0.0, reading.began_at + WAIT_S - self._statuses.clock()))
        return self.decide(call)

    def decide(self, call: CallRecord) -> Revision | None:
        """`check` by what is known now."""
        known = self._statuses.last
        if known is None:
            if self._on_unavailable == "refuse":
                raise ModelNotAllowed(
                    "the catalogue could not be read yet: whether it allows this cannot be told"
                )
            return UNCHECKED
        reason = known.reason(call.provider, call.server_address, call.request_model)
        if reason is not None:
            raise ModelNotAllowed(reason)
        return None

    def must_wait(self) -> bool:
        """Whether `check` may wait for the database; begins to read if that is due."""
        if self._statuses.current() is not None:
            return False
        reading = self._statuses.soon()
        return (
            reading is not None
            and not reading.is_set()
            and self._statuses.clock() < reading.began_at + WAIT_S
        )

    def _read(self, _: _Statuses | None) -> _Statuses:
        with loading:  # while the program may fork
            from ai_ledger.catalog import rows
        with self._database().reading() as connection:
            return _Statuses(*rows.statuses(connection))

    def _failed(self, error: Exception) -> None:
        self._statuses.due_in(RETRY_S)
        self._note("the catalogue could not be read", error)


def statuses_changed() -> None:
    """Every catalogue of this process reads anew what is switched off."""
    for statuses in _living:
        statuses.edited()
