"""The guard: what is switched off, known without asking the database for each call."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

from ai_ledger.errors import AILedgerError, ModelNotAllowed
from ai_ledger.loading import loading
from ai_ledger.policy import MARK_PREFIX, Revision
from ai_ledger.pricing.places import Places
from ai_ledger.records import CallRecord

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


_living: Final[weakref.WeakSet[Guard]] = weakref.WeakSet()


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
        self._known: _Statuses | None = None
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._generation = 0
        self._lock = threading.Lock()
        self._reading: threading.Event | None = None
        _living.add(self)

    def check(self, call: CallRecord) -> Revision | None:
        """
        Refuse *call* if its model or provider is switched off; the mark of one unchecked.

        Raises:
            ModelNotAllowed: It is; says what. Or it cannot be told, and is refused then.
        """
        reading = self._refresh()
        if reading is not None and self.must_wait():
            reading.wait(max(0.0, self._asked_at + WAIT_S - monotonic()))
        return self.decide(call)

    def decide(self, call: CallRecord) -> Revision | None:
        """`check` by what is known now."""
        known = self._known
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
        reading = self._refresh()
        now = monotonic()
        return (
            reading is not None
            and not reading.is_set()
            and now - self._read_at > MAX_AGE_S
            and now - self._asked_at < WAIT_S
        )

    def expire(self) -> None:
        """What is known is no longer the present state: the next call waits for it."""
        with self._lock:
            self._generation += 1
            self._read_at = self._asked_at = float("-inf")

    def after_fork_in_child(self) -> None:
        """The thread that reads stayed in the parent."""
        self._lock = threading.Lock()
        self._reading = None
        self._asked_at = float("-inf")

    def _refresh(self) -> threading.Event | None:
        """Begin to read if that is due; what is set when it is done, while it is not."""
        if monotonic() < self._asked_at + REFRESH_S:
            return self._reading
        with self._lock:
            if monotonic() < self._asked_at + REFRESH_S:
                return self._reading
            self._asked_at = monotonic()
            done = self._reading = threading.Event()
            thread = threading.Thread(
                target=self._read, args=(done, self._generation), name="ai-ledger-catalog"
            )
            thread.daemon = True
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends and starts no thread any more
                self._reading = None
        return self._reading

    def _read(self, done: threading.Event, generation: int) -> None:
        try:
            with loading:  # while the program may fork
                from ai_ledger.catalog import rows
            with self._database().reading() as connection:
                known = _Statuses(*rows.statuses(connection))
            with self._lock:
                # What was read before the last edit must not come after it.
                if generation == self._generation:
                    self._known, self._read_at = known, monotonic()
        except (AILedgerError, OSError, ValueError, ImportError) as error:
            self._asked_at = monotonic() + RETRY_S - REFRESH_S
            self._note("the catalogue could not be read", error)
        finally:
            done.set()
            with self._lock:
                if self._reading is done:
                    self._reading = None


def statuses_changed() -> None:
    """Every catalogue of this process reads anew what is switched off."""
    for guard in list(_living):
        guard.expire()


def _after_fork_in_child() -> None:
    for guard in list(_living):
        guard.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
