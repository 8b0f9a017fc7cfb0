"""The policy: a circuit for each who answers, shared by all threads and coroutines."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, TypeAlias, cast

import msgspec

from ai_ledger.errors import CircuitOpen, InvalidValue
from ai_ledger.incidents import Incidents
from ai_ledger.options import check_function, wrong_option
from ai_ledger.policies.breaker.circuit import Circuit, Limits, State
from ai_ledger.policies.breaker.verdict import verdict_of
from ai_ledger.query import TAG_PREFIX, field_name
from ai_ledger.records import CONTEXT_FIELDS, CallRecord, utc_now

log: Final = logging.getLogger("ai_ledger")

_FIELDS: Final = ("provider", "server_address", "request_model", "operation", *CONTEXT_FIELDS)
"""What is known of a call before it is made."""

_Key: TypeAlias = tuple[str | None, ...]


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """How one circuit of a `Breaker` is, at one moment."""

    breaker: str
    """The breaker's name."""
    key: str
    """Who it is about: the values of *fields*, with `` / `` between them."""
    fields: dict[str, str | None]
    """The same, by the fields that the breaker goes by."""
    state: State
    failures: int
    """Of *calls*."""
    calls: int
    """That ended in the window; unless it is closed, when it opened."""
    opened_at: datetime | None
    """Aware; since when it has not been closed. Probes that fail do not change it."""
    next_probe_at: datetime | None
    """Aware; when a call is let through at the latest. ``None`` when it is closed."""


class BreakerChange(msgspec.Struct, frozen=True, kw_only=True):
    """What ``on_change`` is told: a circuit is in another state than it was."""

    before: State
    now: BreakerState


class Breaker:
    """
    Leaves whoever fails too often alone for a while. Hand it to ``Ledger(policies=[…])``.

    Each provider (or what *per* says) has a circuit of its own. It opens when
    *failure_rate* of at least *min_calls* calls that ended in the last *window_s*
    failed; calls are then refused with `CircuitOpen` before anything is sent. After
    *open_s* one call is let through as a probe, and only one at a time: if it
    succeeds, the circuit closes; if it fails, it stays open for another *open_s*.

    Failures are time-outs, lost connections, streams that break off, and the HTTP
    statuses 408 and 500 and above. Other 4xx are of the caller's making and count
    neither as failures nor as successes, as do cancelled and refused calls.

    One object may serve many ledgers, clients, threads and event loops. Processes
    have circuits of their own; a forked child begins with a copy.

    Args:
        per: ``"provider"``, ``"request_model"``, ``"server_address"``, any other field
            known before a call, ``"tags.<key>"``, or a tuple of them. Where the provider is
            not known the server's address stands for it. Calls that have none of the
            fields are let through, and not counted.
        failure_rate: Above 0, up to 1.
        window_s: Seconds.
        min_calls: Fewer calls than this in the window open nothing.
        open_s: Seconds.
        probe_s: Seconds after which a probe that has not ended, because its stream was
            forgotten or its thread killed, no longer keeps others from trying.
        rate_limits: Whether 429 counts as a failure. By default it does not: it says that
            the provider is well and that one key asks too fast, which is no reason
            to refuse everybody else; the SDK waits and tries again by itself.
        name: For the log, `states` and alerts.
        max_keys: Circuits that are kept. Beyond that the one unused for longest is
            forgotten, closed ones first.
        clock: Gives seconds, such as `time.monotonic`. When it goes back, time stands still.
        on_change: Called with a `BreakerChange` after each change, by whoever caused it.
            What it raises is logged and goes no further.

    Raises:
        ConfigurationError: An option that cannot be; names it.
    """

    reads_only: Final = True

    def __init__(
        self,
        per: str | tuple[str, ...] = "provider",
        *,
        failure_rate: float = 0.5,
        window_s: float = 60.0,
        min_calls: int = 10,
        open_s: float = 30.0,
        probe_s: float = 60.0,
        rate_limits: bool = False,
        name: str = "breaker",
        max_keys: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[BreakerChange], object] | None = None,
    ) -> None:
        self.per: Final = _fields_of(per)
        self._readers: Final = tuple(_reader_of(field) for field in self.per)
        self._only: Final = self._readers[0] if len(self._readers) == 1 else None
        self.name: Final = name
        self._limits: Final = Limits(
            failure_rate=_above_0("failure_rate", failure_rate, at_most=1.0),
            window_s=_above_0("window_s", window_s),
            min_calls=_whole("min_calls", min_calls),
            open_s=_above_0("open_s", open_s),
            probe_s=_above_0("probe_s", probe_s),
        )
        check_function("on_change", on_change)
        check_function("clock", clock)
        self._rate_limits: Final = rate_limits
        self._max_keys: Final = _whole("max_keys", max_keys)
        self._clock: Final = clock
        self._on_change: Final = on_change
        self._incidents: Final = Incidents()
        self._last_read = clock()
        self._elapsed = 0.0
        self._lock = threading.RLock()
        self._busy = False
        # Closed ones, and the others; least recently told first.
        self._calm: OrderedDict[_Key, Circuit] = OrderedDict()
        self._troubled: OrderedDict[_Key, Circuit] = OrderedDict()
        self._opened_at: dict[_Key, datetime] = {}
        # By the clock that calls are timed with, whatever *clock* is.
        self._closed_at: dict[_Key, float] = {}
        self._ended: deque[CallRecord] = deque()
        self._changes: deque[BreakerChange] = deque()
        self._crowded = False
        with _living_lock:
            _living.add(self)

    # The policy

    def check(self, call: CallRecord, request: Mapping[str, Any] | None = None) -> None:
        """
        Let *call* through, or not.

        Raises:
            CircuitOpen: Who would answer it is left alone for now.
        """
        # Nearly always: nobody is in trouble, and nothing has to be locked or looked up.
        if not self._troubled:
            return
        key = self._key_of(call)
        if key is None:
            return
        with self._lock:
            if self._busy:  # a finalizer that makes a call of its own
                return
            self._busy = True
            try:
                wait, counts = self._ask(key, call.id)
            finally:
                self._busy = False
            self._count_what_ended()
        self._tell_of_changes()
        if wait is not None:
            raise CircuitOpen(self._message(key, *counts), wait)

    def settle(self, record: CallRecord) -> None:
        """Count how *record* ended."""
        with self._lock:
            self._ended.append(record)
            if self._busy:
                return
            self._count_what_ended()
        if self._changes or self._crowded:
            self._tell_of_changes()

    def states(self) -> list[BreakerState]:
        """All circuits that are kept, those in trouble first."""
        with self._lock:
            self._busy = True
            try:
                now = self._now()
                states = [
                    self._state_of(key, circuit, now)
                    for circuits in (self._troubled, self._calm)
                    for key, circuit in circuits.items()
                ]
            finally:
                self._busy = False
            self._count_what_ended()
        self._tell_of_changes()
        return states

    def __repr__(self) -> str:
        return f"Breaker(per={self.per!r}, name={self.name!r})"

    def _tell_of_changes(self) -> None:
        """Log, and call the listener, without the lock."""
        while self._changes:
            try:
                change = self._changes.popleft()
            except IndexError:  # another thread was faster
                break
            self._announce(change)
        if self._crowded:
            self._crowded = False
            self._incidents.note(f"{self.name}: more than {self._max_keys} circuits are open")

    # What follows is done under the lock. A finalizer may call `settle` in the middle of
    # anything, this included: what it tells is left for whoever is busy here.

    def _count_what_ended(self) -> None:
        while self._ended:
            self._busy = True
            try:
                while self._ended:
                    self._count(self._ended.popleft())
            finally:
                self._busy = False

    def _ask(self, key: _Key, call: str) -> tuple[float | None, tuple[int, int]]:
        circuit = self._troubled.get(key)
        if circuit is None:
            return None, (0, 0)
        now = self._now()
        before = circuit.state
        wait = circuit.ask(call, now)
        if circuit.state != before:
            self._note_change(key, circuit, before, now)
        return wait, circuit.counts(now)

    def _count(self, record: CallRecord) -> None:
        failed = verdict_of(record, rate_limits=self._rate_limits)
        key = self._key_of(record)
        if key is None:
            return
        circuit = self._troubled.get(key) if self._troubled else None
        if circuit is None:
            if failed is None:
                return
            circuit = self._calm.get(key)
            if circuit is None:
                circuit = self._calm[key] = Circuit(self._limits)
                self._make_room()
            else:
                self._calm.move_to_end(key)
        now = self._now()
        before = circuit.state
        late = bool(self._closed_at) and self._is_late(key, record)
        circuit.tell(record.id, failed, now, late)
        if circuit.state != before:
            self._note_change(key, circuit, before, now)

    def _is_late(self, key: _Key, record: CallRecord) -> bool:
        closed_at = self._closed_at.get(key)
        if closed_at is None:
            return False
        return time.perf_counter() - (record.duration_ms or 0.0) / 1000 < closed_at

    def _make_room(self) -> None:
        if len(self._calm) + len(self._troubled) > self._max_keys:
            # The new one is the last of the calm.
            if len(self._calm) > 1:
                key, _ = self._calm.popitem(last=False)
            else:
                key, _ = self._troubled.popitem(last=False)
                self._crowded = True
            self._opened_at.pop(key, None)
            self._closed_at.pop(key, None)

    def _note_change(self, key: _Key, circuit: Circuit, before: State, now: float) -> None:
        if circuit.state == "closed":
            self._troubled.pop(key, None)
            self._calm[key] = circuit
            self._opened_at.pop(key, None)
            self._closed_at[key] = time.perf_counter()
        elif before == "closed":
            self._calm.pop(key, None)
            self._troubled[key] = circuit
            self._opened_at[key] = utc_now()
        self._changes.append(BreakerChange(before=before, now=self._state_of(key, circuit, now)))

    def _now(self) -> float:
        """Seconds that this breaker has seen pass. They never go back, whatever the clock does."""
        read = self._clock()
        if read > self._last_read:
            self._elapsed += read - self._last_read
        self._last_read = read
        return self._elapsed

    def _state_of(self, key: _Key, circuit: Circuit, now: float) -> BreakerState:
        failures, calls = circuit.counts(now)
        wait = circuit.next_probe_in(now)
        return BreakerState(
            breaker=self.name,
            key=" / ".join(value or "—" for value in key),
            fields=dict(zip(self.per, key, strict=True)),
            state=circuit.state,
            failures=failures,
            calls=calls,
            opened_at=self._opened_at.get(key),
            next_probe_at=None if wait is None else utc_now() + timedelta(seconds=wait),
        )

    # Words

    def _key_of(self, record: CallRecord) -> _Key | None:
        if self._only is not None:
            value = self._only(record)
            return (value,) if value else None
        values = tuple([read(record) for read in self._readers])
        return values if any(values) else None

    def _message(self, key: _Key, failures: int, calls: int) -> str:
        # As texts with quotes: a name may have been chosen to look like a line of the log.
        who = ", ".join(
            f"{field} {value!r}" for field, value in zip(self.per, key, strict=True) if value
        )
        return f"{who}: {failures} of {calls} calls failed within {self._limits.window_s:g} s"

    def _announce(self, change: BreakerChange) -> None:
        state = change.now
        if change.before == "closed":
            said = self._message(tuple(state.fields.values()), state.failures, state.calls)
            log.warning("%s opened: %s", self.name, said)
        elif state.state == "closed":
            log.warning("%s closed: %r answers again", self.name, state.key)
        if self._on_change is not None:
            try:
                self._on_change(change)
            except Exception as problem:  # noqa: BLE001  # a listener's fault is not the call's
                self._incidents.note(f"on_change of {self.name} broke", problem)

    # Fork

    def before_fork(self) -> None:
        """Let whoever is counting come to an end, so that the child's copy is whole."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with the parent's circuits, and without its calls in flight."""
        self._lock = threading.RLock()
        self._incidents.after_fork_in_child()
        # They are counted and told of by the parent.
        self._ended.clear()
        self._changes.clear()
        for circuit in self._troubled.values():
            circuit.let_go()


def _fields_of(per: object) -> tuple[str, ...]:
    several = cast("tuple[object, ...]", per) if isinstance(per, tuple) else (per,)
    fields: list[str] = []
    for each in several:
        try:
            fields.append(field_name(cast("str", each), _FIELDS))
        except (InvalidValue, AttributeError, TypeError):
            fields.clear()
            break
    if not fields or len(set(fields)) != len(fields):
        expected = f"one or several, as a tuple, of {', '.join(sorted(_FIELDS))}, tags.<key>"
        raise wrong_option("per", cast("object", per), expected)
    return tuple(fields)


def _reader_of(field: str) -> Callable[[CallRecord], str | None]:
    if field.startswith(TAG_PREFIX):
        name = field.removeprefix(TAG_PREFIX)
        return lambda record: record.tags.get(name)
    if field == "provider":
        return lambda record: record.provider or record.server_address
    return attrgetter(field)


def _above_0(name: str, value: object, *, at_most: float = threading.TIMEOUT_MAX) -> float:
    # False for NaN as well.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= at_most:
        raise wrong_option(name, value, f"a number above 0, up to {at_most:g}")
    return float(value)


def _whole(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise wrong_option(name, value, "a whole number, at least 1")
    return value


# All that are in use, for alerts and for whoever wants to show them.
_living: weakref.WeakSet[Breaker] = weakref.WeakSet()
_living_lock = threading.Lock()
_held: list[Breaker] = []


def living_breakers() -> list[Breaker]:
    """All breakers of this process that something still holds, by name."""
    with _living_lock:
        breakers = list(_living)
    return sorted(breakers, key=lambda breaker: breaker.name)


def _before_fork() -> None:
    _living_lock.acquire()
    _held.extend(_living)
    for breaker in _held:
        breaker.before_fork()


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().after_fork_in_parent()
    _living_lock.release()


def _after_fork_in_child() -> None:
    global _living_lock
    while _held:
        _held.pop().after_fork_in_child()
    _living_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
