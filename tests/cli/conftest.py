"""A ledger with known calls, and the command as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from click.testing import CliRunner

from ai_ledger.cli.app import run
from ai_ledger.records import CallRecord
from ai_ledger.sinks import open_sink


@dataclass(frozen=True)
class Result:
    """What the command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch, tmp_path) -> Command:
    """The command, run in a folder of its own, without a terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("AI_LEDGER_URL", "AI_LEDGER_TZ", "AI_LEDGER_PRICES"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str, answer: str = "") -> Result:
        with CliRunner().isolation(input=answer) as (out, err, _):
            code = run(arguments)
            return Result(code, out.getvalue().decode(), err.getvalue().decode())

    return invoke


def call(number: int, **fields) -> CallRecord:
    """The call with this number: five minutes ago and later, with an id that can be foreseen."""
    # Within the present day of UTC, so that --days 1 finds all of them.
    now = datetime.now(UTC)
    start = max(now.replace(hour=0, minute=0, second=0, microsecond=0), now - timedelta(minutes=5))
    return CallRecord(
        **{
            "id": f"01900000-0000-7000-8000-{number:012d}",
            "started_at": start + timedelta(milliseconds=number),
            "duration_ms": 100.0 + number,
            "provider": "dashscope",
            "request_model": "qwen-plus",
            "input_tokens": 1000,
            "output_tokens": 100,
            "usage_source": "reported",
            "cost": Decimal("0.0006"),
            "currency": "CNY",
            "price_id": "own:qwen-plus",
            "user_id": "u-1",
            "org_id": "acme",
            "function": "analyze",
            **fields,
        }
    )


CALLS = (
    call(1),
    call(2, user_id="u-2", org_id="globex", business_type="聊天", tags={"plan": "pro"}),
    call(3, request_model="gpt-4o", provider="openai", cost=Decimal("0.0125"), currency="USD"),
    call(4, request_model="house", cost=None, currency=None, price_id=None, user_id=None),
    call(
        5,
        status="failed",
        error_type="RateLimitError",
        error_message="slow down",
        cost=None,
        currency=None,
        price_id=None,
        input_tokens=None,
        output_tokens=None,
        usage_source="unknown",
        retries=2,
    ),
)


@pytest.fixture(params=["jsonl:///calls", "sqlite:///ai_ledger.db"], ids=["jsonl", "sqlite"])
def url(request, command) -> str:
    """A ledger in the present folder that holds `CALLS`."""
    fill(request.param, CALLS)
    return request.param


def fill(url: str, records) -> None:
    """Write *records* to the ledger of *url*."""
    sink = open_sink(url)
    sink.write(records)
    close = getattr(sink, "close", None)
    if close:
        close()
