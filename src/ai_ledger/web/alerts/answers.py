"""What people answer: to alerts and to failed calls, one or several at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from ai_ledger.alerts.alert import MarkState, State
from ai_ledger.database.changes import Change, last_changes
from ai_ledger.errors import EditConflict, InvalidValue, NotFound, SinkError
from ai_ledger.web.alerts.shown import (
    AlertRow,
    FailureRow,
    alert_row,
    failure_row,
)
from ai_ledger.web.periods import checked_moment
from ai_ledger.web.ways_back import ways_back_of

if TYPE_CHECKING:
    from ai_ledger.web.house import Desk

T = TypeVar("T")
Answer: TypeAlias = Literal["ack", "ignore", "resolve", "reopen"]
LEADS_TO: Final[Mapping[State, Answer]] = {
    "open": "reopen",
    "acknowledged": "ack",
    "ignored": "ignore",
    "resolved": "resolve",
}
"""The answer that leads to each state."""
MAX_ALERTS: Final = 200
MAX_CALLS: Final = 1_000
MAX_NOTE: Final = 4_000


def listed(
    desk: Desk,
    states: Sequence[State] = ("open", "acknowledged"),
    *,
    rule: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> list[AlertRow]:
    """Alerts: open ones first, the most severe of them before the others, then the newest."""
    checked_moment("since", since)
    found = desk.alerts.list(
        states=states, rule=rule, since=since, limit=min(limit, MAX_ALERTS), by_urgency=True
    )
    return [alert_row(alert) for alert in found]


def answer(
    desk: Desk, alert_id: int, what: Answer, *, note: str | None, version: int | None
) -> AlertRow:
    """
    Answer one alert.

    Raises:
        EditConflict: Somebody else was quicker, or what is resolved stays so; says which.
    """
    desk.require("operator")
    alerts = desk.alerts
    answers = {
        "ack": alerts.ack,
        "ignore": alerts.ignore,
        "resolve": alerts.resolve,
        "reopen": alerts.reopen,
    }
    return alert_row(answers[what](alert_id, by=desk.by, note=note or None, version=version))


def give_back(desk: Desk, alert_id: int, state: State, version: int | None) -> AlertRow:
    """
    Make one alert again what it was before the answer that led to *version*.

    Raises:
        EditConflict: Somebody has answered it since, or what is resolved stays so.
    """
    desk.require("operator")
    if state == "resolved":
        return answer(desk, alert_id, "resolve", note=None, version=version)
    # Also what was resolved: in one step, for a store may go away after the first of two.
    return alert_row(desk.alerts.reopen(alert_id, by=desk.by, version=version, state=state))


class Answered(NamedTuple):
    """
    What became of several alerts.

    Args:
        answered: How many were.
        left: How many had changed meanwhile, or stay resolved, and were left alone.
        missed: How many were not come to, since the store went away.
        name: `take_back` finds them by it, as long as this console remembers.
    """

    answered: int
    left: int
    missed: int
    name: str


class _Step(NamedTuple):
    """What one alert was, and the version that the answer has led to."""

    alert_id: int
    before: State
    version: int


def answer_all(
    desk: Desk, versions: Mapping[int, int | None], what: Answer, *, note: str | None
) -> Answered:
    """
    Answer several alerts, each for itself; those that changed meanwhile are left alone.

    Args:
        desk: Who answers.
        versions: Number of each alert → the version that was seen.
        what: The answer.
        note: What there is to say, to each of them.
    """
    if not 1 <= len(versions) <= MAX_ALERTS:
        raise InvalidValue("alert", len(versions), f"1 to {MAX_ALERTS} alerts")
    desk.require("operator")

    def one(alert_id: int) -> _Step:
        before = desk.alerts.get(alert_id)
        # At the version whose state was read, whatever comes meanwhile.
        version = versions[alert_id]
        seen = before.version if version is None else version
        changed = answer(desk, alert_id, what, note=note, version=seen)
        return _Step(alert_id, before.state, changed.version)

    return _each(desk, list(versions), one)


def take_back(desk: Desk, name: str) -> Answered:
    """
    Make several alerts again what they were before an answer to all of them.

    Args:
        desk: Of an operator.
        name: `Answered.name`.

    Raises:
        NotFound: This console does not know it any more.
    """
    desk.require("operator")
    done: tuple[_Step, ...] = ways_back_of(desk).find("alerts", desk.scope, name)

    def one(step: _Step) -> _Step:
        state = desk.alerts.get(step.alert_id).state
        changed = give_back(desk, step.alert_id, step.before, step.version)
        return _Step(step.alert_id, state, changed.version)

    return _each(desk, done, one)


def _each(desk: Desk, wanted: Sequence[T], one: Callable[[T], _Step]) -> Answered:
    """
    What became of several alerts, *one* after the other.

    Raises:
        SinkError: The store is away, and nothing was done.
    """
    steps: list[_Step] = []
    left = 0
    for each in wanted:
        try:
            steps.append(one(each))
        except (EditConflict, NotFound):
            left += 1
        except SinkError:
            if not steps:
                raise
            # What was done is told, and can be taken back.
            break
    name = ways_back_of(desk).keep("alerts", desk.scope, steps)
    return Answered(len(steps), left, len(wanted) - len(steps) - left, name)


def failures(
    desk: Desk,
    *,
    days: int = 7,
    state: MarkState | None = "open",
    where: Mapping[str, Any] | None = None,
    limit: int = 50,
) -> list[FailureRow]:
    """Calls that failed, timed out or met an open circuit, newest first."""
    found = desk.alerts.failures(days=days, state=state, where=where, limit=limit)
    return [failure_row(desk, each) for each in found]


class Marked(NamedTuple):
    """
    What became of several failed calls.

    Args:
        marked: How many were.
        left: How many have another mark by now, and were left alone.
        name: `take_marks_back` finds them by it, as long as this console remembers.
    """

    marked: int
    left: int
    name: str


class _Marking(NamedTuple):
    """Which edit of its history has marked one failed call."""

    # What people wrote stays in the history alone, where it can be erased.
    call_id: str
    edit: int


def mark(
    desk: Desk, call_ids: Sequence[str], state: MarkState, *, note: str | None = None
) -> Marked:
    """Mark failed calls, all or none; ``open`` takes their marks away."""
    desk.require("operator")
    before = _last_edits(desk, call_ids)
    count = _set(desk, call_ids, state, note)
    return _marked(desk, call_ids, before, count, 0)


def take_marks_back(desk: Desk, name: str) -> Marked:
    """
    Give failed calls the marks again that they had before, as their history tells it now.

    Args:
        desk: Of an operator.
        name: `Marked.name`.

    Raises:
        NotFound: This console does not know it any more, or a call is no longer there.
    """
    desk.require("operator")
    done: tuple[_Marking, ...] = ways_back_of(desk).find("marks", desk.scope, name)
    last = _last_edits(desk, [each.call_id for each in done])
    # Whoever has marked one since knew more.
    ours = {id_: last[id_] for id_, edit in done if id_ in last and last[id_].id == edit}
    alike: defaultdict[tuple[MarkState, str | None], list[str]] = defaultdict(list)
    for id_, edit in ours.items():
        before = edit.before or {"state": "open", "note": None}
        alike[before["state"], before["note"]].append(id_)
    count = sum(_set(desk, ids, state, note) for (state, note), ids in alike.items())
    return _marked(desk, list(ours), ours, count, len(done) - len(ours))


def _set(desk: Desk, call_ids: Sequence[str], state: MarkState, note: str | None) -> int:
    if state == "open":
        return desk.alerts.reopen_call(*call_ids, by=desk.by)
    marking = desk.alerts.ack_call if state == "acknowledged" else desk.alerts.ignore_call
    return marking(*call_ids, by=desk.by, note=note or None)


def _last_edits(desk: Desk, call_ids: Sequence[str]) -> dict[str, Change]:
    """The last edit of the mark of each of these calls that was ever marked."""
    if not 1 <= len(call_ids) <= MAX_CALLS:
        return {}
    with desk.house.database.reading() as connection:
        return last_changes(connection, "call_mark", call_ids)


def _marked(
    desk: Desk, call_ids: Sequence[str], before: Mapping[str, Change], count: int, left: int
) -> Marked:
    steps = [
        _Marking(id_, edit.id)
        for id_, edit in _last_edits(desk, call_ids).items()
        # Opening what is open is no edit, and the one before is somebody else's.
        if id_ not in before or before[id_].id != edit.id
    ]
    return Marked(count, left, ways_back_of(desk).keep("marks", desk.scope, steps))
