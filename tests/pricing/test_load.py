"""Reading prices: what is accepted, and what the errors say."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.errors import ConfigurationError, PriceError
from ai_ledger.pricing import Price, PriceTable, Tier
from ai_ledger.pricing.load import load_prices

TOML = """
currency = "CNY"
per = 1000
source = "the contract"

[[prices]]
model = "qwen-plus"
name = "Qwen Plus"
provider = "DashScope"
input = 0.0004
cache_read = "0.0001"
output = 0.002
valid_from = 2025-10-01
valid_to = 2026-01-01T00:00:00+08:00
checked = 2025-10-02
tiers = [
  { above_input_tokens = 128_000, input = 0.0008 },
  { service_tier = "Batch", input = 0.0002, output = 0.001 },
]

[[prices]]
model = "painter-*"
currency = "USD"
per = 1_000_000
per_call = 0.04
not_providers = ["OpenAI"]
"""
PRICES = [
    Price(
        model="qwen-plus",
        name="Qwen Plus",
        provider="dashscope",
        currency="CNY",
        input_per_mtok=Decimal("0.4"),
        cache_read_per_mtok=Decimal("0.1"),
        output_per_mtok=Decimal(2),
        valid_from=datetime(2025, 10, 1, tzinfo=UTC),
        valid_to=datetime(2025, 12, 31, 16, tzinfo=UTC),
        source="the contract",
        checked="2025-10-02",
        tiers=(
            Tier(above_input_tokens=128_000, input_per_mtok=Decimal("0.8")),
            Tier(service_tier="batch", input_per_mtok=Decimal("0.2"), output_per_mtok=Decimal(1)),
        ),
    ),
    Price(
        model="painter-*",
        currency="USD",
        per_call=Decimal("0.04"),
        not_providers=("openai",),
        source="the contract",
    ),
]


def test_toml(tmp_path):
    """
    A TOML file gives exact rates per million, whatever unit it is written in.
    """
    path = tmp_path / "prices.toml"
    path.write_text(TOML)

    assert load_prices(path) == PRICES
    assert list(PriceTable.load(str(path), defaults=False)) == PRICES


def test_a_loaded_table_stands_before_the_shipped_one(tmp_path):
    """
    A file of one's own need not repeat what ships.
    """
    path = tmp_path / "prices.toml"
    path.write_text(TOML)

    assert [price.origin for price in PriceTable.load(path)] == ["own"] * 2 + ["ai-ledger"] * 6


rates = st.decimals(0, 10**6, allow_nan=False, places=9)
days = st.dates(date(2020, 1, 1), date(2030, 1, 1))
entries = st.fixed_dictionaries(
    {"model": st.sampled_from(["a", "b-*", 'c "quoted"']), "input": rates},
    optional={
        "output": rates,
        "cache_read": rates,
        "per_call": rates,
        "per": st.sampled_from([1, 1_000, 1_000_000]),
        "currency": st.sampled_from(["USD", "CNY"]),
        "provider": st.sampled_from(["p", "q"]),
        "valid_from": days,
        "tiers": st.just([{"above_input_tokens": 272_000, "input": Decimal("0.5")}]),
    },
)


def as_toml(value: object) -> str:
    """*value* as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else str(value)


@given(st.lists(entries, max_size=3))
def test_toml_json_and_mapping_say_the_same(tmp_path_factory, listed):
    """
    The three forms of one table give equal prices.
    """
    folder = tmp_path_factory.mktemp("prices")
    (folder / "p.toml").write_text(f"prices = {as_toml(listed)}")
    (folder / "p.json").write_text(json.dumps({"prices": listed}, default=str))

    assert (
        load_prices({"prices": listed})
        == load_prices(folder / "p.toml")
        == load_prices(folder / "p.json")
    )


GOOD = {"model": "m", "input": 1}


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"model": "m", "input": float("nan")}, r"prices\[0\] \(m\): input=nan: expected a number"),
        ({"model": "m", "input": float("inf")}, r"\(m\): input=inf"),
        ({"model": "m", "output": -1}, r"\(m\): output=-1: expected a number from 0"),
        ({"model": "m", "input": "cheap"}, r"\(m\): input='cheap'"),
        ({"model": "m", "input": True}, r"\(m\): input=True"),
        ({"model": "m", "input": 10**12}, r"\(m\): input=1000000000000"),
        ({"model": "m", "input": "1e-19"}, r"\(m\): input='1e-19'"),
        ({"model": "m"}, r"\(m\): expected at least one rate"),
        ({"input": 1}, r"prices\[0\]: model=None: expected a model's name"),
        ({**GOOD, "currency": "YUAN"}, r"\(m\): currency='YUAN': expected a currency code"),
        ({**GOOD, "currency": "ABC"}, r"\(m\): currency='ABC'"),
        ({**GOOD, "currency": "usd"}, r"\(m\): currency='usd'"),
        ({**GOOD, "inptu": 1}, r"\(m\): unknown key 'inptu': expected one of model, "),
        ({**GOOD, "per": 500}, r"\(m\): per=500: expected 1, 1_000 or 1_000_000"),
        ({**GOOD, "per": True}, r"\(m\): per=True"),
        (
            {**GOOD, "valid_from": datetime(2025, 1, 1)},
            r"\(m\): valid_from='2025-01-01T00:00:00': expected a datetime with a time zone",
        ),
        ({**GOOD, "valid_from": "2025-01-01T00:00"}, r"\(m\): valid_from='2025-01-01T00:00:00'"),
        ({**GOOD, "valid_from": "soon"}, r"\(m\): valid_from='soon': expected a date"),
        ({**GOOD, "valid_from": 2025}, r"\(m\): valid_from=2025: expected a date"),
        (
            {**GOOD, "valid_from": "2025-02-01", "valid_to": "2025-02-01"},
            r"\(m\): valid_to='2025-02-01': expected a time after valid_from",
        ),
        ({**GOOD, "not_providers": "openai"}, r"\(m\): not_providers=.*expected a list"),
        ({**GOOD, "source": 5}, r"\(m\): source=5: expected a text"),
        ({**GOOD, "tiers": {}}, r"\(m\): tiers: expected a list"),
        ({**GOOD, "tiers": [{"input": 1}]}, r"\(m\): tiers\[0\]: expected above_input_tokens or"),
        (
            {**GOOD, "tiers": [{"above_input_tokens": -1, "input": 1}]},
            r"\(m\): tiers\[0\]: above_input_tokens=-1",
        ),
        ({**GOOD, "tiers": [{"service_tier": "flex", "x": 1}]}, r"tiers\[0\]: unknown key 'x'"),
        ({**GOOD, "tiers": [{"service_tier": "flex"}, {"service_tier": "FLEX"}]}, "two have the"),
        (
            {**GOOD, "tiers": [{"service_tier": "Default", "input": 1}]},
            r"tiers\[0\]: service_tier='Default': expected a tier besides",
        ),
        ("m", r"prices: prices\[0\]: expected a table"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(entry, complaint):
    """
    The error says which entry, which field, and what was expected.
    """
    with pytest.raises(PriceError, match=complaint):
        load_prices({"prices": [entry]})


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("p.toml", "prices = [", "p.toml: cannot be read"),
        ("p.json", "[1]", "p.json: expected a table at the top, not list"),
        ("p.json", '{"prices": [{"model": "m", "input": NaN}]}', r"p.json: prices\[0\] \(m\)"),
        ("p.json", "[" * 200_000, "p.json: cannot be read"),
        ("p.toml", '[[price]]\nmodel = "m"', "p.toml: unknown key 'price'"),
        ("p.toml", "", r"p.toml: prices: expected a list of entries, e.g. \[\[prices\]\]"),
        ("p.toml", "prices = [{model = 'm', input = nan}]", r"\(m\): input=Decimal\('NaN'\)"),
        (
            "p.toml",
            "[[prices]]\nmodel='m'\ninput=1\n[[prices]]\nmodel='M'\ninput=2",
            "own:M: duplicate",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, name, text, complaint):
    """
    Whatever is in a file, the error is ours and names it.
    """
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(PriceError, match=complaint):
        PriceTable.load(path)


def test_a_missing_file_and_foreign_bytes(tmp_path):
    """
    A file that is not there, or is no text, is a configuration error too.
    """
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")

    for name in ("missing.toml", "bytes.toml"):
        with pytest.raises(ConfigurationError, match=f"{name}: cannot be read"):
            PriceTable.load(tmp_path / name)


def test_json_is_as_exact_as_toml(tmp_path):
    """
    All eighteen decimals of a JSON number count.
    """
    path = tmp_path / "p.json"
    path.write_text('{"prices": [{"model": "m", "input": 1.000000000000000001}]}')

    assert load_prices(path)[0].input_per_mtok == Decimal("1.000000000000000001")


def test_a_float_means_what_was_typed():
    """
    0.0004 is 0.0004 and not the binary fraction next to it.
    """
    price = PriceTable().add("m", input=0.0004, output=Decimal("0.002"), per=1_000)

    assert (price.input_per_mtok, price.output_per_mtok) == (Decimal("0.4"), Decimal(2))
