"""Quotas and the switches of models, as one reader may see and edit them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from ai_ledger.errors import NotFound
from ai_ledger.policies.quotas import EVERY
from ai_ledger.policies.quotas.quota import folded, name_of
from ai_ledger.policies.quotas.tokens import budget_name
from ai_ledger.stats.results import Result
from ai_ledger.web.edits import SHOWN, Edit, WayBack, edits_of, taken_back

if TYPE_CHECKING:
    from ai_ledger.policies.quotas import ModelSwitch, Quota
    from ai_ledger.web.house import Desk

_FIELDS: Final = (
    *("enabled", "min_interval_s", "tokens", "valid_from", "valid_until"),
    *("rates", "max_concurrent", "shared"),
)
_NEW: Final = 0
"""The version of what is not there."""


class QuotaRow(Result):
    """What an organisation may do with a model; the most specific row counts, alone."""

    org_id: str = Field(description="The organisation; * for each without a row of its own.")
    model: str = Field(description="The model asked for; * for each without a row of its own.")
    enabled: bool = Field(description="Whether calls are allowed at all.")
    min_interval_s: float = Field(description="Seconds from one call to the next; 0 for none.")
    tokens: int = Field(description="How many may be used from start to end; 0 for no limit.")
    tokens_used: int | None = Field(
        description="Of them, by the calls that are stored; null without a limit, or with *."
    )
    share: float | None = Field(description="Used of the limit.")
    valid_from: datetime | None
    valid_until: datetime | None = Field(description="The first moment after.")
    rates: str = Field(description="Such as 60/minute; 1000 per day. Empty for none.")
    max_concurrent: int = Field(description="Calls in flight; 0 for no bound.")
    shared: bool = Field(
        description="Interval and calls in flight are those of all processes, or of each."
    )
    version: int
    updated_at: datetime | None
    updated_by: str | None


class QuotaDetail(QuotaRow):
    """A quota, and what the calls say of it."""

    active_users: int = Field(description="Who made calls since its start, or within 30 days.")
    in_flight: int = Field(description="Calls at this moment, where they are bounded.")


class Switch(Result):
    """What holds for a model whoever asks for it."""

    model: str
    off: bool = Field(description="Whether it is switched off for everybody.")
    max_concurrent: int = Field(description="Calls in flight, of everybody; 0 for no bound.")
    in_flight: int = Field(description="Calls at this moment, where they are bounded.")
    version: int
    updated_at: datetime | None
    updated_by: str | None


def rows(desk: Desk, org_id: str | None = None, model: str | None = None) -> list[QuotaRow]:
    """The quotas that *desk* may see, by organisation and model."""
    found = [
        row
        for row in desk.house.quotas.rows()
        if desk.scope in (None, row.org_id)
        and org_id in (None, row.org_id)
        and (model is None or folded(model) == folded(row.model))
    ]
    used = _tokens_used(desk, found)
    return [_row(row, used.get((row.org_id, row.model))) for row in found]


def row_of(desk: Desk, org_id: str, model: str) -> Quota:
    """
    One quota as it is stored.

    Raises:
        NotFound: There is none, for this reader.
    """
    if desk.scope not in (None, org_id):
        raise NotFound(f"there is no quota {name_of(org_id, model)}")
    return desk.house.quotas.get(org_id, model)


def detail(desk: Desk, org_id: str, model: str) -> QuotaDetail:
    """One quota, with what the calls say of it."""
    quota = row_of(desk, org_id, model)
    use = desk.house.quotas.used(org_id, model)
    flying = 0
    if quota.max_concurrent and quota.shared and EVERY not in (org_id, model):
        flying = desk.house.quotas.in_flight(model, org_id)
    used = use.tokens_used if quota.tokens and EVERY not in (quota.org_id, quota.model) else None
    return QuotaDetail(
        **_row(quota, used).model_dump(), active_users=use.active_users, in_flight=flying
    )


def save(
    desk: Desk, org_id: str, model: str, fields: dict[str, Any], version: int | None
) -> QuotaRow:
    """Make or change a quota; see `Quotas.set`."""
    desk.require("admin", everywhere=True)
    saved = desk.house.quotas.set(org_id, model, **fields, version=version, by=desk.by)
    return _told(desk, saved)


def allow(desk: Desk, org_id: str, model: str, *, enabled: bool, version: int | None) -> QuotaRow:
    """Enable or disable a quota."""
    desk.require("admin", everywhere=True)
    quotas = desk.house.quotas
    edit = quotas.enable if enabled else quotas.disable
    return _told(desk, edit(org_id, model, version=version, by=desk.by))


def remove(desk: Desk, org_id: str, model: str, version: int | None) -> Quota:
    """Take a quota away; what it was."""
    desk.require("admin", everywhere=True)
    before = row_of(desk, org_id, model)
    desk.house.quotas.remove(org_id, model, version=version, by=desk.by)
    return before


def undo(desk: Desk, org_id: str, model: str, way: WayBack) -> Quota | QuotaRow:
    """
    Make a quota what it was before its last edit, if that is the one of *way*.

    One that was removed is made again.

    Raises:
        EditConflict: It was never edited, or has been since.
        AlreadyThere: It was removed, and there is another one by now.
    """
    desk.require("admin", everywhere=True)

    def put(before: dict[str, Any], version: int) -> Quota | QuotaRow:
        return save(desk, org_id, model, _fields_of(before), version)

    return taken_back(
        f"quota {name_of(org_id, model)}",
        desk.house.quotas.history(org_id, model, limit=1),
        way,
        edit=lambda before: put(before, way.version),
        add=lambda before: put(before, _NEW),
        remove=lambda: remove(desk, org_id, model, way.version),
    )


def history(desk: Desk, org_id: str, model: str, limit: int = SHOWN) -> list[Edit]:
    """
    The edits of a quota, newest first; also of one that was removed.

    Raises:
        NotFound: There never was one, for this reader.
    """
    if desk.scope in (None, org_id):
        found = desk.house.quotas.history(org_id, model, limit=limit)
        if found:
            return edits_of(found)
    raise NotFound(f"there never was a quota {name_of(org_id, model)}")


def switches(desk: Desk) -> list[Switch]:
    """What holds for models whoever asks; for readers of everything."""
    desk.require("viewer", everywhere=True)
    return [_switch(desk, each) for each in desk.house.quotas.switches()]


def switch_of(desk: Desk, model: str) -> Switch:
    """
    The switch of one model.

    Raises:
        NotFound: It was never switched.
    """
    desk.require("viewer", everywhere=True)
    for each in desk.house.quotas.switches():
        if folded(each.model) == folded(model):
            return _switch(desk, each)
    raise NotFound(f"there is no switch of model {model!r}")


def set_switch(
    desk: Desk, model: str, *, off: bool | None, max_concurrent: int | None, version: int | None
) -> Switch:
    """Switch a model off or on, or bound its calls in flight; ``None`` stays as it is."""
    desk.require("admin", everywhere=True)
    saved = desk.house.quotas.set_switch(
        model, off=off, max_concurrent=max_concurrent, version=version, by=desk.by
    )
    return _switch(desk, saved)


def switch_history(desk: Desk, model: str, limit: int = SHOWN) -> list[Edit]:
    """The edits of a model's switch, newest first."""
    desk.require("viewer", everywhere=True)
    found = desk.house.quotas.history(None, model, limit=limit)
    if not found:
        raise NotFound(f"there never was a switch of model {model!r}")
    return edits_of(found)


def undo_switch(desk: Desk, model: str, way: WayBack) -> Switch:
    """
    Make the switch of a model what it was before its last edit, if that is the one of *way*.

    Raises:
        EditConflict: It was never edited, or has been since.
    """
    desk.require("admin", everywhere=True)

    def put(before: dict[str, Any]) -> Switch:
        return set_switch(
            desk,
            model,
            off=before["off"],
            max_concurrent=before["max_concurrent"],
            version=way.version,
        )

    # One that was made is not removed: it says that nothing holds.
    return taken_back(
        f"switch of model {model!r}",
        desk.house.quotas.history(None, model, limit=1),
        way,
        edit=put,
        add=put,
        remove=lambda: put({"off": False, "max_concurrent": 0}),
    )


def _fields_of(before: dict[str, Any]) -> dict[str, Any]:
    """A quota of the history, which keeps times as texts, as `save` takes it."""
    fields = {name: before[name] for name in _FIELDS if name in before}
    for name in ("valid_from", "valid_until"):
        if fields.get(name) is not None:
            fields[name] = datetime.fromisoformat(fields[name])
    return fields


def _tokens_used(desk: Desk, found: list[Quota]) -> dict[tuple[str, str], int]:
    """What is charged to those that have a limit and are of one account, with two questions."""
    limited = {
        budget_name(row.org_id, row.model): row
        for row in found
        if row.tokens and EVERY not in (row.org_id, row.model)
    }
    if not limited:
        return {}
    accounts = desk.house.accounts
    keys: dict[tuple[int, str, str], tuple[str, str]] = {}
    for budget in accounts.budgets():
        row = limited.get(budget.terms.name)
        if row is not None and budget.active:
            keys[budget.id, "", budget.terms.per] = (row.org_id, row.model)
    used = dict.fromkeys(keys.values(), 0)
    if keys:
        for account in accounts.states(keys):
            used[keys[account.budget_id, account.whose, account.period]] = account.used
    return used


def _told(desk: Desk, quota: Quota) -> QuotaRow:
    return _row(quota, _tokens_used(desk, [quota]).get((quota.org_id, quota.model)))


def _row(quota: Quota, used: int | None) -> QuotaRow:
    return QuotaRow(
        org_id=quota.org_id,
        model=quota.model,
        enabled=quota.enabled,
        min_interval_s=quota.min_interval_s,
        tokens=quota.tokens,
        tokens_used=used,
        share=used / quota.tokens if used is not None and quota.tokens else None,
        valid_from=quota.valid_from,
        valid_until=quota.valid_until,
        rates=quota.rates,
        max_concurrent=quota.max_concurrent,
        shared=quota.shared,
        version=quota.version,
        updated_at=quota.updated_at,
        updated_by=quota.updated_by,
    )


def _switch(desk: Desk, switch: ModelSwitch) -> Switch:
    flying = desk.house.quotas.in_flight(switch.model) if switch.max_concurrent else 0
    return Switch(
        model=switch.model,
        off=switch.off,
        max_concurrent=switch.max_concurrent,
        in_flight=flying,
        version=switch.version,
        updated_at=switch.updated_at,
        updated_by=switch.updated_by,
    )
