"""The month before the demonstration: what the company's console has to show."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ai_ledger.demo.traffic import DAYS, calls_of_day, trouble_now

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger

BY: Final = "demo"
"""Who signs what is set up here."""

_WAIT_S: Final = 30.0

_PROVIDERS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "dashscope", "display_name": "Alibaba Cloud Model Studio", "type": "domestic",
     "sort_order": 1, "default": True, "settings": {
         "base_url": "https://dashscope.example/compatible-mode/v1",
         "api_key": "env:DASHSCOPE_API_KEY"}},
    {"name": "deepseek", "display_name": "DeepSeek", "type": "domestic", "sort_order": 2,
     "settings": {"base_url": "https://deepseek.example/v1", "api_key": "env:DEEPSEEK_API_KEY"}},
    {"name": "openai", "display_name": "OpenAI", "type": "international", "sort_order": 3,
     "settings": {"base_url": "https://openai.example/v1", "api_key": "env:OPENAI_API_KEY"}},
    {"name": "in-house", "display_name": "The machine in the cellar", "type": "internal",
     "sort_order": 4, "settings": {"base_url": "http://127.0.0.1:8000/v1"}},
)  # fmt: skip

_MODELS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "qwen-plus", "provider": "dashscope", "context_size": 131_072, "timeout_s": 60,
     "prices": ("CNY", "0.8", "2", "0.4", "2")},
    {"name": "qwen-max", "provider": "dashscope", "context_size": 32_768, "timeout_s": 90,
     "prices": ("CNY", "20", "60")},
    {"name": "deepseek-chat", "provider": "deepseek", "context_size": 65_536,
     "prices": ("CNY", "1", "1")},
    {"name": "gpt-4o", "provider": "openai", "context_size": 128_000,
     "prices": ("USD", "2.5", "10")},
    {"name": "gpt-4o-mini", "provider": "openai", "context_size": 128_000,
     "prices": ("USD", "0.15", "0.6")},
    {"name": "text-embedding-3-small", "provider": "openai", "context_size": 8_191,
     "prices": ("USD", "0.02", "0")},
    {"name": "house-7b", "provider": "in-house", "context_size": 16_384, "prices": ()},
)  # fmt: skip

_WORDS: Final[tuple[dict[str, Any], ...]] = (
    {"word": "身份证号", "action": "replace", "replacement": "[证件]", "variants": True},
    {"word": "银行卡密码", "action": "block", "match": "fuzzy", "note": "nobody needs this"},
    {"word": "passport number", "action": "replace", "replacement": "[document]"},
    {"word": "salary of the board", "action": "block", "org_id": "acme"},
    {"word": "internal only", "action": "warn"},
    {"word": "project falcon", "action": "warn", "org_id": "globex", "active": False},
)


def furnish(ledger: Ledger, now: datetime | None = None) -> int:
    """
    Give *ledger* a month of calls, a catalogue, budgets, quotas, words and alerts.

    Everything is made of the same numbers on every run. What is there already stays:
    a ledger that has calls of last week gets no second month.

    Args:
        ledger: With an SQL store.
        now: The end of the month; this moment, if left out.

    Returns:
        How many calls were put on the books.
    """
    now = datetime.now(UTC) if now is None else now
    url = _url_of(ledger)
    if _has_a_past(url, now):
        return 0
    _fill_catalog(url, now)
    chance = random.Random(7)  # noqa: S311  # the same company every time
    made = 0
    for ago in range(DAYS - 1, -1, -1):
        for fields in calls_of_day(chance, now, ago):
            ledger.record(**fields)
            made += 1
    for fields in trouble_now(chance, now):
        ledger.record(**fields)
        made += 1
    ledger.flush(_WAIT_S)
    # Of the past first: budgets tell what is used of them now, whenever one looks.
    _look_for_trouble(url, [now - timedelta(days=ago) for ago in (9, 4, 1)])
    _set_limits(url, now)
    _fill_words(url)
    _look_for_trouble(url, [now])
    return made


def _url_of(ledger: Ledger) -> str:
    from ai_ledger.sinks.sql.shared import database_url_of

    return database_url_of(ledger)


def _has_a_past(url: str, now: datetime) -> bool:
    from ai_ledger.sinks.sql.sink import SQLSink
    from ai_ledger.stats import Stats

    sink = SQLSink(url)
    try:
        stats = Stats(sink)
        return (
            stats.summary(since=now - timedelta(days=DAYS), until=now - timedelta(days=1)).calls > 0
        )
    finally:
        sink.close()


def _fill_catalog(url: str, now: datetime) -> None:
    from ai_ledger.catalog import Catalog

    catalog = Catalog(url)
    providers = {each.name for each in catalog.providers(deleted=True)}
    for fields in _PROVIDERS:
        if fields["name"] not in providers:
            catalog.add_provider(by=BY, **fields)
    models = {each.name for each in catalog.models(deleted=True)}
    cheaper = (now - timedelta(days=14)).replace(hour=0, minute=0, second=0, microsecond=0)
    for fields in _MODELS:
        if fields["name"] not in models:
            more: dict[str, Any] = {**fields, "prices": _prices(fields["prices"], cheaper)}
            catalog.add_model(by=BY, **more)


def _prices(said: tuple[str, ...], since: datetime) -> list[dict[str, Any]]:
    """A price per million tokens, and the one that took its place two weeks ago."""
    if not said:
        return []
    currency, *rates = said
    pairs = list(zip(rates[::2], rates[1::2], strict=True))
    begins: list[dict[str, Any]] = [{}, {"valid_from": since}]
    return [
        {"currency": currency, "input": paid_in, "output": paid_out, **begin}
        for (paid_in, paid_out), begin in zip(pairs, begins, strict=False)
    ]


def _set_limits(url: str, now: datetime) -> None:
    """Budgets, each of which counts what is on the books already, and quotas."""
    from ai_ledger.policies import Budget, Quotas
    from ai_ledger.policies.budgets.accounts import Accounts
    from ai_ledger.sinks.sql.shared import shared_database

    half = timedelta(days=15)
    budgets = (
        Budget("20 CNY", per=(now - half, now + half), name="company", mode="soft"),
        Budget("30 CNY", per="month", where={"org_id": "acme"}, name="acme"),
        Budget("1 USD", per="month", where={"org_id": "globex"}, name="globex"),
        Budget("2 CNY", per="day", each="user_id", name="everybody, a day"),
        Budget(tokens=400_000, per="week", where={"function": "search"}, name="search"),
    )
    accounts = Accounts(shared_database(url))
    for budget in budgets:
        accounts.register(budget.terms, by=BY)
    quotas = Quotas(url)
    quotas.set(
        "acme", "qwen-max", tokens=12_000_000, rates="60/minute", by=BY,
        valid_from=now - half, valid_until=now + timedelta(days=75),
    )  # fmt: skip
    quotas.set("globex", "gpt-4o", tokens=1_500_000, max_concurrent=4, by=BY)
    quotas.set("*", "house-7b", min_interval_s=0.5, by=BY)
    quotas.cap("gpt-4o", 20, by=BY)


def _fill_words(url: str) -> None:
    from ai_ledger.policies.words.store import WordList

    store = WordList(url)
    known = {(each.word, each.org_id) for each in store.list(everybody=True)}
    for fields in _WORDS:
        if (fields["word"], fields.get("org_id")) not in known:
            store.add(by=BY, **fields)


def _look_for_trouble(url: str, moments: list[datetime]) -> None:
    """The usual rules, and somebody who answers the alerts about prices."""
    from ai_ledger.alerts import Alerts

    with Alerts(url) as alerts:
        alerts.add_default_rules(by=BY)
        for moment in moments:
            for alert in alerts.evaluate(moment):
                if alert.kind == "unpriced":
                    note = "The machine in the cellar gets a price on Monday."
                    alerts.ack(alert.id, by=BY, note=note)
