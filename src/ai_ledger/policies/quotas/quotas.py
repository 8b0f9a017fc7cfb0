"""`Quotas`: the policy that asks the rows, and the hand that edits them."""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Mapping
from datetime import datetime
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ai_ledger.bounds import key_of
from ai_ledger.errors import (
    AILedgerError,
    CallRefused,
    ConfigurationError,
    InvalidValue,
    ModelNotAllowed,
    NotFound,
    TooSoon,
)
from ai_ledger.forks import Living
from ai_ledger.options import check_choice, check_seconds
from ai_ledger.policies.quotas.admission import Admission, Later, Plan
from ai_ledger.policies.quotas.gate import MICRO, TOGETHER, Refused, Wish
from ai_ledger.policies.quotas.known import REFRESH_S, Known, known_rows
from ai_ledger.policies.quotas.places import LocalPlaces, SharedPlaces
from ai_ledger.policies.quotas.quota import (
    EVERY,
    NOT_SENT,
    ModelSwitch,
    Quota,
    QuotaUse,
    checked_name,
    folded,
    name_of,
)
from ai_ledger.policies.quotas.rates import MEMORY, Rates
from ai_ledger.policies.quotas.tokens import (
    TokenLimits,
    tokens_used,
)
from ai_ledger.policy import MARK_PREFIX, Revision
from ai_ledger.records import CallRecord, utc_now
from ai_ledger.sinks.sql.shared import database_url_of, shared_database

if TYPE_CHECKING:
    from ai_ledger.database.changes import Change
    from ai_ledger.database.engine import Database
    from ai_ledger.ledger import Ledger
    from ai_ledger.policies.quotas.rows import Snapshot

MARK: Final = f"{MARK_PREFIX}quota"
_UNCHECKED: Final = {MARK: "unchecked"}
UNCHECKED: Final = Revision(marks=_UNCHECKED)
_POLL_S: Final = (0.01, 0.25)
_GUESS_S: Final = 1.0
"""When a call in flight ends nobody knows; this is what `TooSoon` says."""


class Quotas:
    """
    Which organisation may use which model, how often, how much and until when.

    The rows are in the ledger's SQL store, and hold for every process that uses them
    within 2 seconds of an edit; in the process that makes it, at once. A call whose row
    has neither interval nor bound of calls in flight costs no round trip.

    Threads may share one instance.

    Args:
        where: A `Ledger`, an `SQLSink` or a URL whose rows count; left out, the
            ledger that the policy is given to.
        default: Whether organisations are allowed the models they have no row for.
        wait: Wait for the next turn instead of refusing with `TooSoon`.
        max_wait: Seconds that a call waits at the most.
        storage: Where rate windows are counted: ``memory://`` in each process for
            itself, or what ``limits`` calls a storage string, as ``redis://localhost``.
        on_unavailable: When the store is away: ``"allow"`` what the rows last read do
            not forbid, and mark the record with ``ai_ledger.quota``: ``unchecked``;
            or ``"refuse"`` with `TooSoon`.
        place_ttl: Seconds after which a killed process has given back its calls in flight.

    Raises:
        ConfigurationError: An option that cannot be; names it.
        MissingExtra: *storage* needs a package that is not installed.
    """

    reads_only = True

    def __init__(
        self,
        where: object = None,
        *,
        default: Literal["allow", "refuse"] = "allow",
        wait: bool = False,
        max_wait: float = 30.0,
        storage: str = MEMORY,
        on_unavailable: Literal["allow", "refuse"] = "allow",
        place_ttl: float = 30.0,
    ) -> None:
        check_choice("default", default, ("allow", "refuse"))
        check_choice("on_unavailable", on_unavailable, ("allow", "refuse"))
        check_seconds("max_wait", max_wait)
        check_seconds("place_ttl", place_ttl)
        if place_ttl < 1:
            raise ConfigurationError(f"place_ttl={place_ttl!r}: expected at least 1 second")
        self.default: Final = default
        self.on_unavailable: Final = on_unavailable
        self._max_wait: Final = max_wait if wait else 0.0
        self._waits: Final = wait
        self._url: str | None = None if where is None else database_url_of(where)
        self._remembered: Known | None = None
        self._is_bound = False
        self._ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
        self._rates = Rates(storage)
        self._local = LocalPlaces()
        self._shared = SharedPlaces(self._database, place_ttl)
        self._tokens = TokenLimits(on_unavailable)
        self._start()
        _living.add(self)

    def _start(self) -> None:
        self._held: dict[str, Admission] = {}

    def after_fork_in_child(self) -> None:
        """Begin anew: calls in flight are those of the parent."""
        self._start()
        self._rates.after_fork_in_child()

    # The policy

    def bind(self, ledger: Ledger) -> None:
        """
        Use the rows in *ledger*'s store, unless others were named.

        Raises:
            ConfigurationError: It has no SQL store, or another one than a ledger before.
        """
        if self._url is None:
            self._url = database_url_of(ledger)
            self._is_bound = True
        elif self._is_bound and self._url != database_url_of(ledger):
            raise ConfigurationError("one Quotas for each store: these belong to another ledger")
        self._ledgers.add(ledger)
        self._tokens.bind(ledger)

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """
        Admit *call*, after waiting for its turn where that is asked for.

        Raises:
            ModelNotAllowed: Switched off, disabled, outside of its time, or without a row.
            QuotaExceeded: Too few tokens are left.
            TooSoon: Not yet, because of an interval, a rate, or calls in flight.
        """
        give_up = time.monotonic() + self._max_wait
        attempts = 0
        while True:
            try:
                plan = self._plan(call)
                admission = self._enter(plan)
                # Last, since other policies may hold something of the same call by then,
                # and when there are no tokens a turn is not worth having.
                with admission:
                    marks = plan.quota and self._tokens.check(plan.quota, call, request)
            except Later as later:
                time.sleep(self._pause(later, give_up, attempts))
                attempts += 1
            else:
                return self._admitted(call, plan, admission, marks)

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """As `check`; the event loop goes on while this waits, and while the store is asked."""
        import anyio
        from anyio.to_thread import run_sync

        give_up = time.monotonic() + self._max_wait
        attempts = 0
        while True:
            try:
                fresh = self._known.is_fresh
                plan = self._plan(call) if fresh else await run_sync(self._plan, call)
                if plan.is_local:
                    admission = self._enter(plan)
                else:
                    admission = await self._entered_elsewhere(plan)
                with admission:
                    marks = plan.quota and await self._tokens.acheck(plan.quota, call, request)
            except Later as later:
                await anyio.sleep(self._pause(later, give_up, attempts))
                attempts += 1
            else:
                return self._admitted(call, plan, admission, marks)

    def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str] | None:
        """The mark of a call that took more tokens than could be foreseen."""
        return self._tokens.review(record, answer)

    def settle(self, record: CallRecord) -> None:
        """Give back what the call has held; its turn as well, when another policy refused it."""
        admission = self._held.pop(record.id, None)
        if admission is not None:
            admission.end(unsent=record.status in NOT_SENT)
        self._tokens.settle(record)

    # Editing

    def set(
        self,
        org_id: str,
        model: str,
        *,
        enabled: bool | EllipsisType = ...,
        min_interval_s: float | EllipsisType = ...,
        tokens: int | EllipsisType = ...,
        valid_from: datetime | EllipsisType | None = ...,
        valid_until: datetime | EllipsisType | None = ...,
        rates: str | EllipsisType = ...,
        max_concurrent: int | EllipsisType = ...,
        shared: bool | EllipsisType = ...,
        version: int | None = None,
        by: str | None = None,
    ) -> Quota:
        """
        Make a row, or change what is said of it; the rest stays as it is.

        Args:
            org_id: The organisation, or ``*``.
            model: The model, or ``*``.
            enabled: As in `Quota`, and so on.
            version: The version that was seen; 0 when there was none. Left out: any.
            by: Who; the user of this process, if left out.

        Returns:
            The row as it is now.

        Raises:
            InvalidValue: Something that no quota can have; nothing was written.
            EditConflict: Somebody else has changed the row meanwhile.
            AlreadyThere: There is such a row, and *version* is 0.
            NotFound: There is none, and *version* is not 0.
            SinkUnavailable: The database is away.
        """
        fields: dict[str, Any] = {
            "enabled": enabled,
            "min_interval_s": min_interval_s,
            "tokens": tokens,
            "valid_from": valid_from,
            "valid_until": valid_until,
            "rates": rates,
            "max_concurrent": max_concurrent,
            "shared": shared,
        }
        return self._save(
            org_id,
            model,
            {name: value for name, value in fields.items() if value is not ...},
            version=version,
            by=by,
        )

    def enable(
        self, org_id: str, model: str, *, version: int | None = None, by: str | None = None
    ) -> Quota:
        """Allow the calls of a row again. Raises as `set`; `NotFound` when there is no row."""
        return self._save(org_id, model, {"enabled": True}, version=version, by=by, must_exist=True)

    def disable(
        self, org_id: str, model: str, *, version: int | None = None, by: str | None = None
    ) -> Quota:
        """Refuse the calls of a row. Raises as `set`; `NotFound` when there is no row."""
        return self._save(
            org_id, model, {"enabled": False}, version=version, by=by, must_exist=True
        )

    def remove(
        self, org_id: str, model: str, *, version: int | None = None, by: str | None = None
    ) -> None:
        """Take a row away; its history stays. Raises as `set`; `NotFound` without a row."""
        from ai_ledger.policies.quotas.rows import remove_quota

        remove_quota(self._database(), org_id, model, version=version, by=by)
        self._known.edited()

    def switch_off(
        self, model: str, *, version: int | None = None, by: str | None = None
    ) -> ModelSwitch:
        """Refuse all calls of *model*, whoever makes them. Raises as `set`."""
        return self._switch(model, off=True, version=version, by=by)

    def switch_on(
        self, model: str, *, version: int | None = None, by: str | None = None
    ) -> ModelSwitch:
        """Allow *model* again, to those whose quotas do. Raises as `set`."""
        return self._switch(model, off=False, version=version, by=by)

    def set_switch(
        self,
        model: str,
        *,
        off: bool | None = None,
        max_concurrent: int | None = None,
        version: int | None = None,
        by: str | None = None,
    ) -> ModelSwitch:
        """`switch_off` or `switch_on`, and `cap`, as one edit; ``None`` stays as it is."""
        return self._switch(model, off=off, max_concurrent=max_concurrent, version=version, by=by)

    def cap(
        self,
        model: str,
        max_concurrent: int,
        *,
        version: int | None = None,
        by: str | None = None,
    ) -> ModelSwitch:
        """
        Bound the calls of *model* in flight, of all organisations and processes together.

        Args:
            model: Which.
            max_concurrent: How many; 0 for no bound.
            version: As in `set`.
            by: Who; the user of this process, if left out.
        """
        return self._switch(model, max_concurrent=max_concurrent, version=version, by=by)

    # Asking

    def rows(self) -> list[Quota]:
        """All rows, by organisation and model."""
        rows = self._read().quotas
        return [rows[key] for key in sorted(rows)]

    def switches(self) -> list[ModelSwitch]:
        """What holds for models whoever asks, by model."""
        rows = self._read().switches
        return [rows[key] for key in sorted(rows)]

    def get(self, org_id: str, model: str) -> Quota:
        """
        The row itself.

        Raises:
            NotFound: There is none.
            InvalidValue: Nothing that is a name.
        """
        key = checked_name("org_id", org_id), folded(checked_name("model", model))
        found = self._read().quotas.get(key)
        if found is None:
            raise NotFound(f"there is no quota {name_of(org_id, model)}")
        return found

    def used(self, org_id: str, model: str) -> QuotaUse:
        """
        Tokens used and active users of a row, answered from the ledger's rows.

        Raises:
            NotFound: There is no such row.
        """
        from ai_ledger.policies.quotas.rows import use_of

        quota = self.get(org_id, model)
        use = use_of(self._database(), quota, utc_now())
        charged = tokens_used(self._database(), quota)
        return use if charged is None else msgspec.structs.replace(use, tokens_used=charged)

    def history(self, org_id: str | None, model: str, *, limit: int = 100) -> list[Change]:
        """
        The edits of a row, newest first.

        Args:
            org_id: The organisation; ``None`` for the switch of *model*.
            model: The model.
            limit: How many at the most.
        """
        from ai_ledger.policies.quotas.rows import history_of

        return history_of(self._database(), org_id, model, limit)

    def in_flight(self, model: str, org_id: str | None = None) -> int:
        """How many places are taken now, in all processes; of all organisations, without one."""
        from ai_ledger.policies.quotas.gates import taken

        org = TOGETHER if org_id is None else key_of(org_id)
        return taken(self._database(), (org, key_of(folded(model))))

    def close(self) -> None:
        """Wait until what calls have held is given back."""
        self._shared.close()

    # Inside

    @property
    def _known(self) -> Known:
        if self._remembered is None:
            self._remembered = known_rows(self._named(), self._database)
        return self._remembered

    def _database(self) -> Database:
        return shared_database(self._named())

    def _named(self) -> str:
        if self._url is None:
            raise ConfigurationError(
                "these quotas belong to no ledger yet: Quotas(ledger), or Quotas(url)"
            )
        return self._url

    def _read(self) -> Snapshot:
        from ai_ledger.policies.quotas.rows import snapshot

        return snapshot(self._database())

    def _save(
        self,
        org_id: str,
        model: str,
        fields: dict[str, Any],
        *,
        version: int | None,
        by: str | None,
        must_exist: bool = False,
    ) -> Quota:
        from ai_ledger.policies.quotas.rows import save_quota

        saved = save_quota(
            self._database(),
            org_id,
            model,
            fields,
            version=version,
            by=by,
            must_exist=must_exist,
        )
        self._known.edited()
        return saved

    def _switch(
        self, model: str, *, version: int | None, by: str | None, **fields: Any
    ) -> ModelSwitch:
        from ai_ledger.policies.quotas.rows import save_switch

        saved = save_switch(self._database(), model, version=version, by=by, **fields)
        self._known.edited()
        return saved

    def _plan(self, call: CallRecord) -> Plan:
        """What the rows ask of *call*."""
        unchecked = False
        try:
            rows = self._known.rows()
        except CallRefused:
            raise
        except AILedgerError as error:
            rows = self._unavailable(error, self._known.last)
            unchecked = True
            if rows is None:
                return Plan(unchecked=True)
        org, model = call.org_id, call.request_model
        switch = rows.switches.get(folded(model)) if model is not None else None
        if switch is not None and switch.off:
            raise ModelNotAllowed(f"model {model!r} is switched off for everybody")
        quota = rows.quota_of(org, model)
        if quota is None:
            if self.default == "refuse":
                raise ModelNotAllowed(f"{_who(org)} has no quota for model {model!r}")
            if switch is None:
                return Plan(unchecked=unchecked)
        else:
            _must_allow(quota, org, model)
        return _planned(quota, switch, org, model, self._rates.is_local, unchecked=unchecked)

    def _enter(self, plan: Plan) -> Admission:
        """Take what *plan* says, or nothing."""
        admission = Admission(self._local, self._shared)
        if plan.is_free:
            return admission
        try:
            self._take(plan, admission)
        except BaseException as problem:
            admission.end(unsent=True)
            if isinstance(problem, AILedgerError) and not isinstance(problem, CallRefused):
                self._unavailable(problem, None)
                plan.unchecked = True
                return admission
            raise
        return admission

    def _take(self, plan: Plan, admission: Admission) -> None:
        quota, key = plan.quota, plan.key
        rates = quota.rates if quota is not None else ""
        # Looked at first, and counted last, since a count that was for nothing is lost.
        if rates:
            assert quota is not None
            _wait_for_rate(quota, self._rates.seconds_left(rates, key))
        try:
            if plan.local is not None:
                turn = self._local.enter(plan.local)
                admission.local = plan.local.gate if plan.local.places else None
                admission.turn = None if turn is None else (plan.local.gate, turn)
            if plan.shared:
                admission.shared, admission.turns = self._shared.enter(plan.shared)
        except Refused as refused:
            raise _later(refused, quota, plan.model) from None
        if rates:
            assert quota is not None
            _wait_for_rate(quota, self._rates.count(rates, key))

    async def _entered_elsewhere(self, plan: Plan) -> Admission:
        """`_enter` in a thread; what it takes is given back if nobody waits for it any more."""
        from anyio.to_thread import run_sync

        lock = threading.Lock()
        taken: list[Admission] = []
        abandoned = False

        def enter() -> None:
            admission = self._enter(plan)
            with lock:
                if not abandoned:
                    taken.append(admission)
                    return
            admission.end(unsent=True)

        try:
            await run_sync(enter)
        except BaseException as error:
            with lock:
                abandoned = True
            for admission in taken:
                admission.end(unsent=not isinstance(error, GeneratorExit))
            raise
        return taken[0]

    def _admitted(
        self, call: CallRecord, plan: Plan, admission: Admission, revision: Revision | None
    ) -> Revision | None:
        if admission.holds_anything:
            self._held[call.id] = admission
        if not plan.unchecked:
            return revision
        return UNCHECKED if revision is None else Revision(marks={**revision.marks, **_UNCHECKED})

    def _pause(self, later: Later, give_up: float, attempts: int) -> float:
        """How long to wait before the next attempt; raises when that is too long."""
        left = give_up - time.monotonic()
        if later.wait_s is None:
            shortest, longest = _POLL_S
            wait = min(longest, shortest * 2 ** min(attempts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        else:
            wait = later.wait_s
        if not self._waits or wait > left:
            raise TooSoon(later.message, _GUESS_S if later.wait_s is None else later.wait_s)
        return wait

    def _unavailable(self, error: AILedgerError, last: Snapshot | None) -> Snapshot | None:
        for ledger in list(self._ledgers):
            ledger.note("quotas could not be checked", error)
        if self.on_unavailable == "refuse":
            raise Later(f"whether the quotas allow this cannot be told ({error})", REFRESH_S)
        return last


def _must_allow(quota: Quota, org: str | None, model: str | None) -> None:
    who = f"{_who(org)} may not use model {model!r}"
    if not quota.enabled:
        raise ModelNotAllowed(f"{who}: quota {quota.name} is disabled")
    if quota.tokens and quota.model not in (EVERY, model):
        # The ledger's rows would not be counted for it.
        raise ModelNotAllowed(f"{who}: quota {quota.name} counts tokens of {quota.model!r} alone")
    if quota.valid_from is None and quota.valid_until is None:
        return
    now = utc_now()
    if quota.valid_from is not None and now < quota.valid_from:
        raise ModelNotAllowed(f"{who} before {quota.valid_from.isoformat()}")
    if quota.valid_until is not None and now >= quota.valid_until:
        raise ModelNotAllowed(f"{who} since {quota.valid_until.isoformat()}")


def _planned(
    quota: Quota | None,
    switch: ModelSwitch | None,
    org: str | None,
    model: str | None,
    rates_are_local: bool,
    *,
    unchecked: bool,
) -> Plan:
    key = (key_of(org), key_of(None if model is None else folded(model)))
    plan = Plan(quota=quota, model=model, key=key, unchecked=unchecked)
    wishes = list[Wish]()
    if quota is not None:
        wish = Wish(key, round(quota.min_interval_s * MICRO), quota.max_concurrent)
        if wish.interval_us or wish.places:
            if quota.shared:
                wishes.append(wish)
            else:
                plan.local = wish
        plan.rates_are_far = bool(quota.rates) and not rates_are_local
    if switch is not None and switch.max_concurrent:
        wishes.append(Wish((TOGETHER, key[1]), 0, switch.max_concurrent))
    plan.shared = tuple(wishes)
    return plan


def _later(refused: Refused, quota: Quota | None, model: str | None) -> Later:
    wish = refused.wish
    if wish.gate[0] == TOGETHER or quota is None:
        return Later(f"model {model!r}: {_in_flight(wish.places)}", None)
    if refused.wait_us is None:
        return Later(f"quota {quota.name}: {_in_flight(wish.places)}", None)
    return Later(
        f"quota {quota.name}: one call in {quota.min_interval_s:g} s", refused.wait_us / MICRO
    )


def _in_flight(number: int) -> str:
    calls = "1 call is" if number == 1 else f"{number:,} calls are"
    return f"{calls} in flight, as many as may be"


def _wait_for_rate(quota: Quota, seconds: float) -> None:
    if seconds:
        raise Later(f"quota {quota.name}: {quota.rates}", seconds)


def _who(org: str | None) -> str:
    return "a call without an organisation" if org is None else f"organisation {org!r}"


_living: Final[Living[Quotas]] = Living()

__all__ = ["EVERY", "MARK", "InvalidValue", "Quotas"]
