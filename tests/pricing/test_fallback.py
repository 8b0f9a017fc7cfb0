"""List prices: which genai-prices entry a call finds, in its time and by its tier."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import SimpleNamespace

import pytest
from genai_prices import __version__, data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Tier as TheirTier

from ai_ledger.pricing import PriceTable
from ai_ledger.pricing.fallback import ListPrices
from ai_ledger.records import CallRecord

AT = datetime(2026, 11, 3, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def table() -> PriceTable:
    """The default table."""
    return PriceTable.default()


def price_of(table: PriceTable, provider: str | None, model: str, **fields):
    """Cost, currency and price id of a call with 1,000 tokens in and 1,000 out."""
    record = CallRecord(
        **{
            "id": "01",
            "started_at": AT,
            "provider": provider,
            "request_model": model,
            "input_tokens": 1_000,
            "output_tokens": 1_000,
            **fields,
        }
    )
    priced = table.priced(record)
    return priced.cost, priced.currency, priced.price_id


@pytest.mark.parametrize(
    ("provider", "model", "cost", "currency", "price_id"),
    [
        ("openai", "gpt-4", "0.09", "USD", "genai-prices:openai/gpt-4"),
        ("azure", "gpt-4", "0.09", "USD", "genai-prices:azure/gpt-4"),
        ("OpenAI", "gpt-4-0613", "0.09", "USD", "genai-prices:openai/gpt-4"),
        ("one-api", "gpt-4", "0.63", "CNY", "ai-ledger:gpt-4"),
        (None, "gpt-4", "0.63", "CNY", "ai-ledger:gpt-4"),
        ("openai", "gpt-3.5-turbo", "0.002", "USD", "genai-prices:openai/gpt-3.5-turbo"),
        (None, "gpt-3.5-turbo", "0.0105", "CNY", "ai-ledger:gpt-3.5-turbo"),
        (None, "gpt-4o", "0.0125", "USD", "genai-prices:openai/gpt-4o"),
        ("one-api", "gpt-4o-2024-08-06", "0.0125", "USD", "genai-prices:openai/gpt-4o"),
        ("openrouter", "openai/gpt-4o", "0.0125", "USD", "genai-prices:openrouter/openai/gpt-4o"),
        ("dashscope", "qwen-plus", "0.0024", "CNY", "ai-ledger:qwen-plus"),
        ("deepseek", "deepseek-chat", "0.002", "CNY", "ai-ledger:deepseek-chat"),
    ],
)
def test_which_of_two_prices(table, provider, model, cost, currency, price_id):
    """
    OpenAI and Azure ask their list price; anyone else the shipped one, then the maker's.
    """
    found = price_of(table, provider, model)

    assert found[:2] == (Decimal(cost), currency)
    assert found[2].partition("@")[0] == price_id


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("ollama", "llama3", id="an open model at home"),
        pytest.param(None, "mistral", id="a name that many give"),
        pytest.param("localhost", "gpt-oss-20b", id="open, in spite of its name"),
        pytest.param("openai", "gpt-4-my-own", id="no loose match"),
        pytest.param("groq", "gpt-4o", id="a provider that does not serve it"),
        pytest.param("openai", "whisper-1", id="charged by the second"),
        pytest.param("openai", "tts-1", id="charged by the character"),
        pytest.param("openai", "gpt-image-1.5", id="image tokens have rates of their own"),
        pytest.param("openai", "x" * 100_000, id="no model's name"),
    ],
)
def test_unknown_stays_unpriced(table, provider, model):
    """
    No guess: what nobody lists has no cost.
    """
    assert price_of(table, provider, model) == (None, None, None)


def test_embeddings_need_no_output(table):
    """
    They are found by their provider, and cost their input.
    """
    found = price_of(table, "openai", "text-embedding-3-small", output_tokens=None)

    assert found == (
        Decimal("0.00002"),
        "USD",
        f"genai-prices:openai/text-embedding-3-small@{__version__}",
    )


def test_more_cached_than_input_is_charged_as_input(table):
    """
    What makes genai-prices raise is cut to the input.
    """
    assert price_of(table, "openai", "gpt-4o", cache_read_tokens=5_000, output_tokens=0)[
        0
    ] == Decimal("0.00125")


def a_snapshot(prices, model: str = "m", **more) -> SimpleNamespace:
    """A snapshot with one provider ``p`` that lists one model."""
    info = ModelInfo(id=model, match=ClauseEquals(model), prices=prices, **more)
    provider = Provider(id="p", name="P", api_pattern="p", models=[info])
    return data_snapshot.DataSnapshot(providers=[provider], from_auto_update=False)


@pytest.fixture
def listed(monkeypatch):
    """A way to put a snapshot in the place of the real one."""

    def put(*args, **kwargs) -> ListPrices:
        monkeypatch.setattr(data_snapshot, "_custom_snapshot", a_snapshot(*args, **kwargs))
        return ListPrices()

    return put


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        (datetime(2026, 7, 29, 23, 59, 59, tzinfo=UTC), 2),
        (datetime(2026, 7, 30, tzinfo=UTC), 1),
        (datetime.fromisoformat("2026-07-30T07:59:59+08:00"), 2),
    ],
)
def test_a_list_price_is_that_of_the_day_of_the_call(listed, at, rate):
    """
    A call is charged by the price of its time, not of now.
    """
    prices = listed(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2))),
            ConditionalPrice(
                StartDateConstraint(date(2026, 7, 30)), prices=ModelPrice(input_mtok=Decimal(1))
            ),
        ]
    )

    assert prices.find("p", "m", at).input_per_mtok == rate


@pytest.mark.parametrize(
    ("clock", "rate"),
    [(time(16, 29, 59), 4), (time(16, 30), 1), (time(0, 29, 59), 1), (time(0, 30), 4)],
)
def test_a_list_price_may_change_with_the_hour(listed, clock, rate):
    """
    Off-peak prices hold to the second, however the lookups are remembered.
    """
    prices = listed(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(4))),
            ConditionalPrice(
                TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(0, 30, tzinfo=UTC)),
                prices=ModelPrice(input_mtok=Decimal(1)),
            ),
        ]
    )
    day = date(2026, 11, 3)
    for other in (time(12), time(16, 29), time(16, 31), time(0, 0)):
        prices.find("p", "m", datetime.combine(day, other, UTC))

    assert prices.find("p", "m", datetime.combine(day, clock, UTC)).input_per_mtok == rate


def test_every_kind_of_rate_is_taken_over(listed):
    """
    Tokens by kind, tiers by length and the price of a request become a `Price`.
    """
    prices = listed(
        ModelPrice(
            input_mtok=TieredPrices(Decimal(1), [TheirTier(272_000, Decimal(2))]),
            cache_read_mtok=Decimal("0.1"),
            cache_write_mtok=Decimal("1.25"),
            output_mtok=TieredPrices(Decimal(4), [TheirTier(272_000, Decimal(6))]),
            output_reasoning_mtok=Decimal(5),
            input_audio_mtok=Decimal(10),
            output_audio_mtok=Decimal(20),
            requests_kcount=Decimal(12),
            web_searches_kcount=Decimal(10),
        ),
        name="Em",
    )

    price = prices.find("p", "m", AT)

    assert {
        name: value
        for name in price.__struct_fields__
        if (value := getattr(price, name)) not in (None, ())
    } == {
        "model": "m",
        "provider": "p",
        "currency": "USD",
        "input_per_mtok": 1,
        "cache_read_per_mtok": Decimal("0.1"),
        "cache_write_per_mtok": Decimal("1.25"),
        "output_per_mtok": 4,
        "reasoning_per_mtok": 5,
        "audio_input_per_mtok": 10,
        "audio_output_per_mtok": 20,
        "per_call": Decimal("0.012"),
        "tiers": price.tiers,
        "name": "Em",
        "source": f"genai-prices {__version__}",
        "origin": "genai-prices",
        "version": __version__,
    }
    assert [
        (tier.above_input_tokens, tier.input_per_mtok, tier.output_per_mtok) for tier in price.tiers
    ] == [(272_000, 2, 6)]


@pytest.mark.parametrize(
    ("service_tier", "short", "long"),
    [
        (None, "1.08802", "2.17603"),
        ("default", "1.08802", "2.17603"),
        ("flex", "0.54401", "1.088015"),
        ("priority", "2.17604", "4.35206"),
        ("batch", "0.54401", "1.088015"),
    ],
)
def test_the_served_tier_and_the_length(listed, service_tier, short, long):
    """
    272,000 tokens are short and one more is long, in each tier at its own rate.
    """
    from genai_prices.types import PriceVariant

    def rates(factor: str) -> ModelPrice:
        by = Decimal(factor)
        return ModelPrice(
            input_mtok=TieredPrices(4 * by, [TheirTier(272_000, 8 * by)]),
            output_mtok=TieredPrices(20 * by, [TheirTier(272_000, 22 * by)]),
        )

    prices = listed(
        rates("1"),
        price_variants=[
            PriceVariant({"service_tier": "flex"}, rates("0.5")),
            PriceVariant({"service_tier": "priority"}, rates("2")),
            PriceVariant({"processing": "batch"}, rates("0.5")),
        ],
    )
    table = PriceTable(list_prices=prices)

    costs = [
        price_of(table, "p", "m", input_tokens=tokens, output_tokens=1, service_tier=service_tier)[
            0
        ]
        for tokens in (272_000, 272_001)
    ]

    assert costs == [Decimal(short), Decimal(long)]


def test_prices_of_an_updater_that_the_program_runs_are_followed(listed, monkeypatch):
    """
    A new snapshot is used for the next call, and the old one's memory is dropped.
    """
    prices = listed(ModelPrice(input_mtok=Decimal(1)))
    before = prices.find("p", "m", AT)
    monkeypatch.setattr(
        data_snapshot, "_custom_snapshot", a_snapshot(ModelPrice(input_mtok=Decimal(2)))
    )

    assert (before.input_per_mtok, prices.find("p", "m", AT).input_per_mtok) == (1, 2)


def test_memory_is_bounded(listed):
    """
    Ours and theirs: unknown names leave no trace.
    """
    prices = listed(ModelPrice(input_mtok=Decimal(1)))
    for number in range(5_000):
        prices.find("p", f"model-{number}", AT)
        prices.find(f"provider-{number}", "gpt-4o", AT)

    snapshot = data_snapshot.get_snapshot()
    memories = (prices._data._provider_ids, prices._data._models, prices._data._prices)
    assert max(map(len, memories)) <= 2048
    assert (snapshot._lookup_cache, snapshot._provider_cache, snapshot._provider_misses) == (
        {},
        {},
        set(),
    )


def in_a_fresh_interpreter(program: str) -> str:
    """What *program* prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_nothing_is_loaded_before_the_first_miss():
    """
    A call with a price of its own never loads genai-prices; one without does.
    """
    assert (
        in_a_fresh_interpreter(
            """
import sys
from datetime import UTC, datetime
from ai_ledger.pricing import PriceTable
table = PriceTable.default()
seen = []
for model in ("qwen-plus", "gpt-4o"):
    table.find(None, model, datetime(2026, 1, 1, tzinfo=UTC))
    seen.append("genai_prices" in sys.modules)
    seen.append("pydantic" in sys.modules)
import threading
print(seen, threading.active_count())
"""
        )
        == "[False, False, True, True] 1"
    )


def test_without_the_package_there_are_no_list_prices():
    """
    A missing genai-prices means unpriced, not an error.
    """
    assert (
        in_a_fresh_interpreter(
            """
import sys
sys.modules["genai_prices"] = None
from datetime import UTC, datetime
from ai_ledger.pricing import PriceTable
at = datetime(2026, 1, 1, tzinfo=UTC)
table = PriceTable.default()
print(table.find("openai", "gpt-4", at), table.find(None, "gpt-4", at).id)
"""
        )
        == "None ai-ledger:gpt-4@2025-10"
    )


def test_a_child_forked_while_the_package_loads_finds_its_prices():
    """
    The fork waits for the import, so that the child does not inherit half of it.
    """
    assert (
        in_a_fresh_interpreter(
            """
import os, sys, threading, time
from datetime import UTC, datetime
from ai_ledger.pricing import PriceTable

table = PriceTable.default()
def look():
    return table.find("openai", "gpt-4o", datetime(2026, 1, 1, tzinfo=UTC)).model
thread = threading.Thread(target=look)
thread.start()
while "genai_prices" not in sys.modules:
    time.sleep(0.001)
child = os.fork()
if not child:
    os.write(1, look().encode())
    os._exit(0)
deadline = time.monotonic() + 20
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(child, 9)
        os.write(1, b"the child hangs")
        break
    time.sleep(0.01)
thread.join()
"""
        )
        == "gpt-4o"
    )


def test_list_prices_load_no_http_library():
    """
    openai 2.x breaks while another thread is importing httpx2, so loading prices must not;
    whoever asks genai-prices for more than its data still gets it.
    """
    program = """
import sys
from ai_ledger.pricing.fallback import ListPrices
from ai_ledger.records import utc_now

price = ListPrices().find("openai", "gpt-4o", utc_now())
assert price is not None
assert "httpx2" not in sys.modules
import genai_prices
from genai_prices import Usage, calc_price
assert genai_prices.UpdatePrices.__module__ == "genai_prices.update_prices"
paid = calc_price(Usage(input_tokens=1_000_000), "gpt-4o", provider_id="openai")
assert paid.input_price == price.input_per_mtok
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
