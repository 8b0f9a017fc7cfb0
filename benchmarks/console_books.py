"""A month of calls of several organisations, for the console to show; made once, kept if named."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice

from ai_ledger.alerts import Alerts
from ai_ledger.policies import Budget
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.records import CallRecord, new_id
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.sinks.sql.shared import shared_database

NOW = datetime(2026, 5, 20, 9, 30, tzinfo=UTC)
"""What the console's clock says."""
DAYS = 30
BATCH = 2_000
CHARGED = 20_000
"""So many of the newest calls are charged to budgets."""
USERS = 2_000
MODELS = [f"model-{number}" for number in range(8)]
ORGS = [f"org-{number}" for number in range(5)]


def calls(count: int) -> Iterator[CallRecord]:
    """*count* calls over the days before `NOW`, oldest first."""
    chance = random.Random(1)
    step = timedelta(days=DAYS) / count
    for number in range(count):
        output = chance.randrange(20, 800)
        model = chance.choice(MODELS)
        lucky = chance.random()
        priced = lucky < 0.99
        yield CallRecord(
            id=new_id(),
            started_at=NOW - timedelta(days=DAYS) + number * step,
            status="success" if lucky > 0.03 else "failed" if lucky > 0.01 else "timeout",
            duration_ms=chance.lognormvariate(7.3, 0.7),
            operation="chat",
            provider="openai" if model < "model-5" else "dashscope",
            request_model=model,
            response_model=model,
            finish_reason="stop",
            input_tokens=chance.randrange(100, 4_000),
            output_tokens=output,
            usage_source="reported",
            cost=Decimal(output * 6_000 + 12_345) / 10**9 if priced else None,
            currency=("USD" if model < "model-5" else "CNY") if priced else None,
            price_id="openai/2025-10" if priced else None,
            org_id=ORGS[number % len(ORGS)],
            user_id=f"user-{chance.randrange(USERS)}",
            device_id=f"device-{chance.randrange(500)}",
            session_id=f"session-{number // 8}",
            function=chance.choice(["analyze", "match", "chat", "detect"]),
            business_type=chance.choice(["resume", "job", "interview"]),
            reference_id=f"job-{number // 3}",
        )


def fill(url: str, count: int) -> None:
    """Put them into the ledger at *url*, with budgets and alerts over them."""
    sink = SQLSink(url)
    made = calls(count)
    _write(sink, islice(made, max(0, count - CHARGED)))
    accounts = Accounts(shared_database(url), clock=lambda: NOW - timedelta(days=DAYS))
    for org in ORGS:
        accounts.register(
            Budget("5000 USD", per="month", where={"org_id": org}, name=org).terms, by="bench"
        )
    accounts.register(Budget("2 USD", per="day", each="user_id", name="users").terms, by="bench")
    # Budgets count the calls that reach the ledger after them.
    _write(sink, made)
    sink.close()
    with Alerts(url) as alerts:
        alerts.add_default_rules()
        for ago in range(5, -1, -1):
            alerts.evaluate(NOW - timedelta(days=ago))


def _write(sink: SQLSink, made: Iterator[CallRecord]) -> None:
    while batch := list(islice(made, BATCH)):
        sink.write(batch)
