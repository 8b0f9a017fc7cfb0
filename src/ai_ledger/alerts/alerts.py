"""`Alerts`: looks at the rules, raises alerts, tells channels, and lets people answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from ai_ledger.alerts.alert import UNRESOLVED, Alert, Delivery, FailedCall, MarkState, State
from ai_ledger.alerts.channel import Channel, channels_of
from ai_ledger.alerts.rule import Rule, default_rules, owned
from ai_ledger.alerts.watch import Watch
from ai_ledger.bounds import label
from ai_ledger.errors import AlreadyThere, InvalidValue, SinkError
from ai_ledger.forks import Living
from ai_ledger.ledger import Ledger, living_ledgers
from ai_ledger.loading import loading
from ai_ledger.records import utc_now
from ai_ledger.secrets import scrub
from ai_ledger.sinks.sql.shared import database_url_of, shared_database

if TYPE_CHECKING:
    from ai_ledger.alerts.erasure import Erasure
    from ai_ledger.alerts.marks import Marks
    from ai_ledger.alerts.outbox import Outbox
    from ai_ledger.alerts.register import Register
    from ai_ledger.alerts.rulebook import Rulebook, Unread
    from ai_ledger.database.changes import Change
    from ai_ledger.database.engine import Database

log: Final = logging.getLogger("ai_ledger.alerts")

HistoryKind: TypeAlias = Literal["rule", "alert", "call"]
HISTORY_KINDS: Final[tuple[HistoryKind, ...]] = get_args(HistoryKind)


class Alerts:
    """
    The alerts of a ledger.

    Threads may share one instance. Any number of processes may look at the same
    ledger: an alert is raised once for each rule, value of its field and period, and
    each channel is told of it once, whoever is first. A process that dies while it tells
    a channel leaves it to another one, which may then tell it a second time.

    Nothing is connected to before it is first used.

    Args:
        where: A `Ledger`, or the URL of an SQL ledger.
        rules: These instead of those in the store. They are kept in the store under
            their names as well, for alerts to refer to, and edits made there meanwhile
            are undone: whoever gives rules in code owns them.
        channels: Who is told: functions of one `Alert`, or anything with ``send(alert)``.
        scope: The organisation that everything here is confined to; ``None``: all.
        clock: Says what time it is; aware.

    Raises:
        ConfigurationError: There is no SQL store, or a channel cannot be one.
        InvalidValue: A rule that cannot be.
    """

    def __init__(
        self,
        where: Ledger | str | object,
        rules: Iterable[Rule] | None = None,
        channels: Iterable[Channel | Callable[[Alert], Any]] = (),
        *,
        scope: str | int | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._where = where
        self._url: Final = database_url_of(where)
        self._scope: Final = None if scope is None else label(str(scope))
        self._given: Final = (
            None if rules is None else tuple(self._owned(rule).checked() for rule in rules)
        )
        self.channels: Final = channels_of(channels)
        self._clock: Final = clock
        self._parts: _Parts | None = None
        self.looked_at: datetime | None = None
        """When this instance last looked at the rules; ``None``: not yet."""
        # The rules whose failure was logged, until they can be looked at again.
        self._failing: Final[set[int | None]] = set()
        self._lock = threading.Lock()
        self._watch: Final = Watch()
        _living.add(self)

    def scoped(self, org_id: str | int) -> Alerts:
        """
        The same alerts confined to one organisation; without channels and given rules.

        Raises:
            InvalidValue: These are confined to another one already.
        """
        wanted = label(str(org_id))
        if self._scope not in (None, wanted):
            raise InvalidValue("org_id", org_id, f"{self._scope!r}, whose alerts these are")
        return Alerts(self._where, scope=wanted, clock=self._clock)

    def _owned(self, rule: Rule) -> Rule:
        return rule if self._scope is None else owned(rule, self._scope)

    # Looking

    def evaluate(self, now: datetime | None = None) -> list[Alert]:
        """
        Look at all rules once, raise what is new, end what is over, and tell the channels.

        A rule that cannot be looked at holds up no other one: it is logged, the rest is
        done and told, and then the first error is raised.

        Args:
            now: Aware; what was later is not looked at. The clock's time, if left out.

        Returns:
            The alerts that were raised by this very call, and not by another process.

        Raises:
            InvalidValue: *now* has no time zone.
            SinkError: The store is away.
            Exception: What one of the rules came to grief over; the alerts that the
                others raised are in the store, and were told.
        """
        raised, problems = self._look(now)
        if problems:
            raise problems[0]
        return raised

    def _look(self, now: datetime | None = None) -> tuple[list[Alert], list[Exception]]:
        """One look: what it raised, and what went wrong with single rules."""
        now = self._clock() if now is None else now
        if not isinstance(now, datetime) or now.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue("now", now, "a datetime with a time zone")
        parts = self._opened()
        wanted: Sequence[Rule | Unread]
        if self._given is None:
            wanted = parts.rulebook.enabled(self._scope)
        else:
            stored = parts.rulebook.put(self._given, "program")
            wanted = [rule for rule in stored if rule.enabled]
        sight = parts.sight(now, self._ledgers())
        raised: list[Alert] = []
        problems: list[Exception] = []
        for each in wanted:
            try:
                rule = each if isinstance(each, Rule) else each.read()
                raised += parts.register.take(rule, sight.findings(rule), now)
                self._failing.discard(each.id)
            except Exception as error:  # noqa: BLE001  # the boundary around each rule
                problems.append(error)
                self._note_failure(each, error)
                if isinstance(error, SinkError):
                    # Not one time-out after the other when it is the store that is away.
                    parts.rulebook.reach()
        try:
            parts.register.end_orphans(now)
        finally:
            if self.channels:
                parts.outbox.deliver(self.channels, scope=self._scope)
        self.looked_at = now
        return raised, problems

    def _note_failure(self, rule: Rule | Unread, error: Exception) -> None:
        if rule.id not in self._failing:
            self._failing.add(rule.id)
            said = scrub(f"{type(error).__name__}: {error}")[:300]
            log.warning("rule %r cannot be looked at; the others are: %s", rule.name, said)

    def start(self, every_s: float = 60.0) -> None:
        """
        Look again and again, in a daemon thread of this process, until `stop`.

        Does nothing when it is running. A forked child has no such thread before it
        calls this itself.

        Args:
            every_s: Seconds from the end of one look to the next, at least 1.

        Raises:
            InvalidValue: Fewer.
        """
        # Which says itself what is wrong with single rules.
        self._watch.start(self._look, every_s)

    @property
    def is_watching(self) -> bool:
        """Whether `start` looks again and again in this process."""
        return self._watch.is_on

    def stop(self) -> None:
        """Look no more; waits up to five seconds for a look in progress."""
        self._watch.stop()

    def close(self) -> None:
        """`stop`; the connections are the process's, and stay open."""
        self.stop()

    def __enter__(self) -> Alerts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Alerts

    def list(
        self,
        *,
        states: Iterable[State] = ("open", "acknowledged"),
        rule: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        by_urgency: bool = False,
    ) -> list[Alert]:
        """
        Alerts, newest first.

        Args:
            states: In which states; none for all.
            rule: Only those of the rule with this name.
            since: Raised then or later; aware.
            limit: At most so many, up to 1,000.
            by_urgency: Open ones first, then the most severe, then the newest.
        """
        if since is not None and (
            not isinstance(since, datetime)  # pyright: ignore[reportUnnecessaryIsInstance]
            or since.tzinfo is None
        ):
            raise InvalidValue("since", since, "a datetime with a time zone")
        wanted = (cast("State", states),) if isinstance(states, str) else tuple(states)
        register = self._opened().register
        return register.alerts(
            self._scope,
            states=wanted,
            rule=rule,
            since=since,
            limit=limit,
            by_urgency=by_urgency,
        )

    def get(self, alert_id: int) -> Alert:
        """
        One alert.

        Raises:
            NotFound: There is none, or it is another organisation's.
        """
        return self._opened().register.alert(alert_id, self._scope)

    def deliveries(self, alert_id: int) -> list[Delivery]:
        """Which channels were told of an alert, or will be; by name."""
        parts = self._opened()
        parts.register.alert(alert_id, self._scope)
        return parts.outbox.deliveries(alert_id)

    def ack(
        self,
        alert_id: int,
        *,
        by: str | None = None,
        note: str | None = None,
        version: int | None = None,
    ) -> Alert:
        """
        Take an alert up: somebody is about it.

        Args:
            alert_id: Which.
            by: Who; the user of this process, if left out. So wherever people edit.
            note: What they say about it; the old note stays without.
            version: Of the alert that they saw.

        Raises:
            NotFound: There is none, or it is another organisation's.
            EditConflict: It has changed since that version, or is resolved.
        """
        return self._change(alert_id, "acknowledged", by, note, version)

    def ignore(
        self,
        alert_id: int,
        *,
        by: str | None = None,
        note: str | None = None,
        version: int | None = None,
    ) -> Alert:
        """Say that an alert needs nobody; as `ack`."""
        return self._change(alert_id, "ignored", by, note, version)

    def resolve(
        self,
        alert_id: int,
        *,
        by: str | None = None,
        note: str | None = None,
        version: int | None = None,
    ) -> Alert:
        """Say that it is over; it is not raised again in its period. As `ack`."""
        return self._change(alert_id, "resolved", by, note, version)

    def reopen(
        self,
        alert_id: int,
        *,
        by: str | None = None,
        note: str | None = None,
        version: int | None = None,
        state: State = "open",
    ) -> Alert:
        """
        Take back `ack`, `ignore` or `resolve`. As `ack`.

        With *state* ``acknowledged`` or ``ignored`` it is that again, in one step.

        What has ended by itself stays so, and so does what was raised anew in a later
        period, or was erased: `EditConflict`. A channel that was told is not told again.
        """
        if state not in UNRESOLVED:
            raise InvalidValue("state", state, f"one of {', '.join(UNRESOLVED)}")
        return self._change(alert_id, state, by, note, version, reopening=True)

    def _change(
        self,
        alert_id: int,
        state: State,
        by: str | None,
        note: str | None,
        version: int | None,
        *,
        reopening: bool = False,
    ) -> Alert:
        return self._opened().register.change(
            alert_id,
            state,
            self._scope,
            by=_editor(by),
            note=note,
            version=version,
            reopening=reopening,
        )

    # Rules

    def rules(self) -> list[Rule]:
        """All rules in the store, by name."""
        return self._opened().rulebook.rules(self._scope)

    def rule(self, rule: int | str) -> Rule:
        """One rule, by its id or name. Raises `NotFound`."""
        return self._opened().rulebook.rule(rule, self._scope)

    def add_rule(self, rule: Rule, *, by: str | None = None) -> Rule:
        """
        Add a rule to the store; as it is there.

        Raises:
            AlreadyThere: There is one of this name.
            InvalidValue: Something in it cannot be.
        """
        return self._opened().rulebook.add(self._owned(rule), _editor(by))

    def edit_rule(
        self, rule: int | str, *, by: str | None = None, version: int | None = None, **changes: Any
    ) -> Rule:
        """
        Change some of what a rule says.

        Args:
            rule: Its id or name.
            by: Who; the user of this process, if left out.
            version: Of the rule that they saw.
            changes: Fields of `Rule`.

        Raises:
            NotFound: There is none.
            EditConflict: It has changed since that version.
            AlreadyThere: Another one has the new name.
            InvalidValue: Something that cannot be.
        """
        return self._opened().rulebook.edit(rule, changes, self._scope, _editor(by), version)

    def remove_rule(
        self, rule: int | str, *, by: str | None = None, version: int | None = None
    ) -> None:
        """Remove a rule; its alerts stay, and end at the next look."""
        self._opened().rulebook.remove(rule, self._scope, _editor(by), version)

    def add_default_rules(self, *, by: str | None = None) -> list[Rule]:
        """Add those of `default_rules` whose names are not there; those that were added."""
        added: list[Rule] = []
        for rule in default_rules():
            if rule.kind == "undelivered" and self._scope is not None:
                continue
            try:
                added.append(self.add_rule(rule, by=by))
            except AlreadyThere:
                continue
        return added

    # Failed calls

    def failures(
        self,
        *,
        days: int = 7,
        state: MarkState | None = "open",
        where: Mapping[str, Any] | None = None,
        limit: int = 100,
    ) -> list[FailedCall]:
        """
        Calls that failed, timed out or met an open circuit, newest first.

        Args:
            days: Of so many last days.
            state: ``open``: nobody has marked them; ``None``: all.
            where: Which calls, as in `Query.build`.
            limit: At most so many, up to 1,000.
        """
        marks = self._opened().marks
        return marks.failures(self._scope, days=days, state=state, where=where, limit=limit)

    def ack_call(self, *call_ids: str, by: str | None = None, note: str | None = None) -> int:
        """
        Mark failed calls as seen to, all or none; how many.

        Raises:
            NotFound: One of them is no failed call, or another organisation's.
        """
        marks = self._opened().marks
        return marks.mark(call_ids, "acknowledged", self._scope, by=_editor(by), note=note)

    def ignore_call(self, *call_ids: str, by: str | None = None, note: str | None = None) -> int:
        """Mark failed calls as nothing to see to; as `ack_call`."""
        return self._opened().marks.mark(
            call_ids, "ignored", self._scope, by=_editor(by), note=note
        )

    def reopen_call(self, *call_ids: str, by: str | None = None) -> int:
        """Take the marks of failed calls away again; as `ack_call`."""
        return self._opened().marks.mark(call_ids, "open", self._scope, by=_editor(by), note=None)

    # History

    def history(self, kind: HistoryKind, key: int | str, *, limit: int = 100) -> list[Change]:
        """
        Who changed a rule, an alert or the mark of a call, when, and from what to what.

        Newest first. A rule that was removed keeps its history.

        Args:
            kind: ``rule``, ``alert`` or ``call``.
            key: The id or name of a rule, the number of an alert, the id of a call.
            limit: How many edits, 1 to 1,000.

        Raises:
            NotFound: There never was one, or it is another organisation's.
            InvalidValue: There is no such *kind*, or *limit* cannot be.
        """
        parts = self._opened()
        if kind == "rule":
            return parts.rulebook.history(key, self._scope, limit=limit)
        if kind == "alert":
            return parts.register.history(key, self._scope, limit=limit)
        if kind == "call":
            return parts.marks.history(key, self._scope, limit=limit)
        raise InvalidValue("kind", kind, f"one of {', '.join(HISTORY_KINDS)}")

    # Erasing

    def forget(self, *, by: str | None = None, **who: Any) -> int:
        """
        Erase somebody from alerts, rules and their history.

        `Ledger.forget` does it for calls, and for the notes on those that failed.

        Alerts about them, or about calls that a filter with their name chose, are resolved
        and keep their numbers, without name, text, note and ids of calls. A rule whose
        ``where`` names them has one value less, and is removed when that was the only one.
        Erase the calls first, or the next look raises the alert again. Rules given in code
        are put back by the program that gives them.

        Args:
            by: Who does this; the user of this process, if left out.
            who: Fields that a rule may be looked at for each of: ``user_id="u-42"``; or
                ``**{"tags.plan": "gold"}``.

        Returns:
            How many alerts and rules were changed.

        Raises:
            InvalidValue: Nobody was named, or by another field.
            SinkError: The store is away; nothing was erased.
        """
        return self._opened().erasure.forget(who, self._scope, by=_editor(by))

    # Parts

    def _ledgers(self) -> list[Ledger]:
        if isinstance(self._where, Ledger):
            return [self._where]
        return [ledger for ledger in living_ledgers() if self._url in ledger.urls]

    def _opened(self) -> _Parts:
        parts = self._parts
        if parts is not None:
            return parts
        database = shared_database(self._where)
        with loading, self._lock:
            if self._parts is None:
                self._parts = _Parts(database, self._clock)
            return self._parts

    def after_fork_in_child(self) -> None:
        """Begin without the parent's thread."""
        self._lock = threading.Lock()
        self._watch.after_fork_in_child()


def _editor(by: str | None) -> str | None:
    # Imported late: it loads the database.
    from ai_ledger.database.changes import editor

    return editor(by)


class _Parts:
    """What needs SQLAlchemy, made when it is first used."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        from ai_ledger.alerts.erasure import Erasure
        from ai_ledger.alerts.findings import Sight
        from ai_ledger.alerts.marks import Marks
        from ai_ledger.alerts.outbox import Outbox
        from ai_ledger.alerts.register import Register
        from ai_ledger.alerts.rulebook import Rulebook
        from ai_ledger.sinks.sql.reader import Reader

        store = Reader(database)
        self.rulebook: Rulebook = Rulebook(database, clock)
        self.register: Register = Register(database, clock)
        self.outbox: Outbox = Outbox(database, clock)
        self.erasure: Erasure = Erasure(database, clock)
        self.marks: Marks = Marks(database, store, clock)
        self.sight: Callable[[datetime, list[Ledger]], Sight] = lambda now, ledgers: Sight(
            store, database, ledgers, now
        )


_living: Final[Living[Alerts]] = Living()
