"""Providers and models as rows: what is written, refused, edited at the same time, and told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial

import pytest
import sqlalchemy as sa

from ai_ledger import Ledger
from ai_ledger.catalog import Catalog, ModelEntry, ProviderEntry
from ai_ledger.database.engine import database_url
from ai_ledger.database.tables.catalog import models as models_table
from ai_ledger.errors import (
    AlreadyThere,
    ConfigurationError,
    EditConflict,
    InvalidValue,
    NotFound,
    PriceError,
)
from ai_ledger.pricing import Price, Tier
from ai_ledger.testing import memory_ledger

PRICES = [
    {"currency": "CNY", "per": 1000, "input": "0.0004", "output": "0.002"},
    {
        "currency": "CNY",
        "input": "0.3",
        "output": "2",
        "valid_from": date(2026, 1, 1),
        "source": "the contract of December",
        "tiers": [{"above_input_tokens": 128_000, "input": "0.8"}],
    },
]


def test_a_provider(catalog: Catalog) -> None:
    """
    What is written comes back as it was, with who and when.
    """
    begun = datetime.now(UTC)
    added = catalog.add_provider(
        "dashscope",
        display_name="阿里云百炼",
        description="Models of Alibaba",
        site="https://bailian.console.aliyun.com",
        type="domestic",
        settings={"api_key": "env:DASHSCOPE_API_KEY", "retries": [1, 2.5, {"deep": True}]},
        sort_order=3,
        default=True,
        by="ada",
    )

    assert added == catalog.provider("dashscope") == catalog.default_provider()
    assert catalog.providers() == [added]
    assert (added.version, added.updated_by, added.status) == (1, "ada", "enabled")
    assert added.updated_at is not None
    assert begun <= added.updated_at <= datetime.now(UTC)
    assert ProviderEntry.from_json(added.to_json()) == added


def test_a_model(catalog: Catalog) -> None:
    """
    Prices are kept exactly, belong to their model and provider, and go to JSON and back.
    """
    catalog.add_provider("dashscope")
    added = catalog.add_model(
        "qwen-plus",
        provider="dashscope",
        display_name="通义千问",
        api_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        parameters={"temperature": 0.7, "stop": ["。"]},
        timeout_s=60,
        context_size=131_072,
        prices=PRICES,
        by="ada",
    )

    assert added == catalog.model("qwen-plus")
    assert catalog.models() == catalog.models(provider="dashscope") == [added]
    assert catalog.models(provider="deepseek") == []
    assert ModelEntry.from_json(added.to_json()) == added
    assert added.prices == (
        Price(
            model="qwen-plus",
            provider="dashscope",
            currency="CNY",
            input_per_mtok=Decimal("0.4"),
            output_per_mtok=Decimal(2),
            origin="catalog",
        ),
        Price(
            model="qwen-plus",
            provider="dashscope",
            currency="CNY",
            input_per_mtok=Decimal("0.3"),
            output_per_mtok=Decimal(2),
            tiers=(Tier(above_input_tokens=128_000, input_per_mtok=Decimal("0.8")),),
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            source="the contract of December",
            origin="catalog",
        ),
    )
    assert added.prices[1].id == "catalog:dashscope/qwen-plus@2026-01-01"


def test_edits(catalog: Catalog) -> None:
    """
    An edit changes what it names, counts, and leaves the rest; one without effect is none.
    """
    catalog.add_provider("a")
    catalog.add_provider("b")
    first = catalog.add_model("m", provider="a", context_size=10, prices=PRICES[:1])

    second = catalog.edit_model("m", version=1, timeout_s=5, prices=[*first.prices, PRICES[1]])
    assert (second.version, second.timeout_s, second.context_size) == (2, 5.0, 10)
    assert [price.currency for price in second.prices] == ["CNY", "CNY"]
    assert catalog.edit_model("m", version=2, timeout_s=5.0) == second

    third = catalog.edit_model("m", version=2, provider="b")
    assert {price.id.partition("/")[0] for price in third.prices} == {"catalog:b"}
    assert third == catalog.model("m")


def test_the_default(catalog: Catalog) -> None:
    """
    One provider at most is the default, and a removed one is not.
    """
    catalog.add_provider("a", default=True)
    catalog.add_provider("b", default=True, by="ada")

    assert [each.name for each in catalog.providers() if each.default] == ["b"]
    assert catalog.provider("a").version == 2
    assert catalog.history("provider", "a")[0].changed_by == "ada"
    catalog.remove_provider("b")
    assert catalog.default_provider() is None


def test_the_order(catalog: Catalog) -> None:
    """
    Providers come in the order they were given, and by name within it.
    """
    for name, order in (("c", 0), ("b", -1), ("a", 0)):
        catalog.add_provider(name, sort_order=order)

    assert [each.name for each in catalog.providers()] == ["b", "a", "c"]


@pytest.mark.parametrize("kind", ["provider", "model"])
def test_removing_is_a_mark(catalog: Catalog, kind: str) -> None:
    """
    What was removed is no longer listed, can be looked at, and comes back when added again.
    """
    catalog.add_provider("p")
    catalog.add_model("p", provider="p")
    removed = getattr(catalog, f"remove_{kind}")("p", by="ada")

    assert removed.status == "deleted"
    assert getattr(catalog, f"{kind}s")() == []
    assert getattr(catalog, f"{kind}s")(deleted=True) == [removed]
    assert getattr(catalog, kind)("p") == removed
    newest = catalog.history(kind, "p")[0]
    assert (newest.after, newest.changed_by) == (None, "ada")

    fields = {} if kind == "provider" else {"provider": "p"}
    if kind == "model":
        again = catalog.add_model("p", **fields, display_name="again")
    else:
        again = catalog.add_provider("p", display_name="again")
    assert (again.version, again.status, again.display_name) == (3, "enabled", "again")


def test_switching(catalog: Catalog) -> None:
    """
    Disabling twice is disabling once; enabling undoes both that and removing.
    """
    catalog.add_provider("p")
    assert catalog.disable_provider("p").version == 2
    assert catalog.disable_provider("p").version == 2
    assert catalog.enable_provider("p").status == "enabled"
    catalog.remove_provider("p")
    assert catalog.enable_provider("p").status == "enabled"


def test_history(catalog: Catalog) -> None:
    """
    Each edit tells who, when, from what and to what; the user of the process if nobody is named.
    """
    catalog.add_provider("p", by="ada")
    catalog.edit_provider("p", version=1, description="one", by="bob")
    catalog.disable_provider("p")

    newest, middle, oldest = catalog.history("provider", "p")
    assert (oldest.before, oldest.changed_by) == (None, "ada")
    assert middle.before is not None
    assert middle.after is not None
    assert (middle.before["description"], middle.after["description"]) == (None, "one")
    assert (middle.after["version"], middle.changed_by) == (2, "bob")
    assert newest.changed_by
    assert oldest.changed_at <= middle.changed_at <= newest.changed_at
    assert catalog.history("provider", "q") == []
    with pytest.raises(InvalidValue, match="kind"):
        catalog.history("word", "p")  # type: ignore[arg-type]


def test_an_edit_of_what_has_changed(catalog: Catalog) -> None:
    """
    An edit names the version that was seen; another one is refused, and says who was quicker.
    """
    catalog.add_provider("p", by="ada")
    catalog.edit_provider("p", version=1, sort_order=1, by="bob")

    with pytest.raises(EditConflict, match="version 2, not 1: bob changed it"):
        catalog.edit_provider("p", version=1, sort_order=5)
    assert catalog.provider("p").sort_order == 1
    assert len(catalog.history("provider", "p")) == 2


def test_edits_at_the_same_time(catalog: Catalog, sql_url: str) -> None:
    """
    Of many edits of one version exactly one is made, and no added up count is lost.
    """
    catalog.add_provider("p")
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def edit(number: int) -> None:
        mine = Catalog(sql_url)
        start.wait(30)
        try:
            mine.edit_provider("p", version=1, description=f"by {number}", by=str(number))
            outcomes.append("made")
        except EditConflict:
            outcomes.append("refused")
        done = False
        while not done:
            seen = mine.provider("p")
            try:
                mine.edit_provider("p", version=seen.version, sort_order=seen.sort_order + 1)
                done = True
            except EditConflict:
                continue

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)

    # One is made, or none when a count was quicker than all of them.
    assert len(outcomes) == 8
    assert outcomes.count("made") <= 1
    made = outcomes.count("made")
    after = catalog.provider("p")
    assert (after.sort_order, after.version) == (8, 9 + made)
    assert len(catalog.history("provider", "p")) == 9 + made


def test_the_same_name_at_the_same_time(catalog: Catalog, sql_url: str) -> None:
    """
    Of many who add one name, one does; the others are told.
    """
    outcomes: list[str] = []
    start = threading.Barrier(6)
    catalog.providers()

    def add() -> None:
        start.wait(30)
        try:
            Catalog(sql_url).add_provider("p")
            outcomes.append("added")
        except AlreadyThere:
            outcomes.append("refused")

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(outcomes) == ["added", *["refused"] * 5]
    assert len(catalog.history("provider", "p")) == 1


def at_once(*works: Callable[[], object]) -> list[BaseException]:
    """Do all of *works* in threads of their own that start together; what they raised."""
    raised: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        start.wait(60)
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return raised


def test_several_defaults_at_the_same_time(catalog: Catalog, sql_url: str) -> None:
    """
    Of many providers that become the default at once, one stays it.
    """
    names = [f"p{number}" for number in range(6)]
    for name in names:
        catalog.add_provider(name)
    for turn in range(4):

        def promote(name: str, turn: int = turn) -> None:
            mine = Catalog(sql_url)
            if turn % 2:
                mine.add_provider(f"{name}-{turn}", default=True)
            else:
                mine.edit_provider(name, version=mine.provider(name).version, default=True)

        raised = at_once(*(partial(promote, name) for name in names))

        # Another one's promotion takes the default away, and counts as an edit.
        assert all(isinstance(each, EditConflict) for each in raised), raised
        assert len([each for each in catalog.providers() if each.default]) == 1


def test_names_alike_at_the_same_time(catalog: Catalog, sql_url: str) -> None:
    """
    Of many who add a name in other capitals each, one does; the others are told.
    """
    catalog.add_provider("p")
    for turn in range(4):
        names = [f"qwen{turn}", f"Qwen{turn}", f"QWEN{turn}", f"qWEN{turn}", f"qweN{turn}"]

        raised = at_once(
            *(partial(Catalog(sql_url).add_model, name, provider="p") for name in names)
        )

        assert [type(each) for each in raised] == [AlreadyThere] * 4
    assert len(catalog.models()) == 4


def test_the_table_refuses_names_alike(catalog: Catalog, sql_url: str) -> None:
    """
    Nor can anything else that writes to the table give two models names that differ in capitals.
    """
    catalog.add_provider("p")
    model = catalog.add_model("Qwen", provider="p")
    row = {**model.to_dict(), "name": "qwen", "name_key": "qwen", "updated_at": model.updated_at}
    row |= dict.fromkeys(("parameters", "prices"), "{}")

    engine = sa.create_engine(database_url(sql_url))
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as direct:
        direct.execute(sa.insert(models_table).values(row))
    engine.dispose()


@pytest.mark.parametrize("kind", ["provider", "model"])
@pytest.mark.parametrize("verb", ["enable", "disable", "remove"])
def test_switches_at_a_version(catalog: Catalog, kind: str, verb: str) -> None:
    """
    Whoever switches what has changed since they looked is told, and nothing is switched.
    """
    catalog.add_provider("p")
    catalog.add_model("m", provider="p")
    name = kind[0]
    seen = getattr(catalog, f"edit_{kind}")(name, version=1, display_name="other")
    switch = getattr(catalog, f"{verb}_{kind}")

    with pytest.raises(EditConflict, match="version 2, not 1"):
        switch(name, version=1)
    assert getattr(catalog, kind)(name) == seen
    switch(name, version=2)


@pytest.mark.parametrize("limit", [0, -1, 1_001, True, "5"])
def test_limits_of_histories(catalog: Catalog, limit: object) -> None:
    """
    A history of less than one edit is refused by all databases alike.
    """
    catalog.add_provider("p")
    with pytest.raises(InvalidValue, match="limit"):
        catalog.history("provider", "p", limit=limit)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("by", ["", "  ", 7])
def test_nobody_edits(catalog: Catalog, by: object) -> None:
    """
    An edit of somebody without a name is refused, and nothing is written.
    """
    with pytest.raises(InvalidValue, match="by="):
        catalog.add_provider("p", by=by)  # pyright: ignore[reportArgumentType]
    assert catalog.providers() == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"type": "martian"}, "type"),
        ({"status": "sleeping"}, "status"),
        ({"site": "javascript:alert(1)"}, "site"),
        ({"site": "ftp://example.com"}, "site"),
        ({"settings": ["a"]}, "settings"),
        ({"settings": {"ratio": float("nan")}}, "settings.ratio"),
        ({"settings": {"gone": None}}, "settings.gone"),
        ({"settings": {"base_url": "nonsense"}}, "settings.base_url"),
        ({"settings": {"default_headers": {"X-A": 1}}}, "settings.default_headers"),
        ({"settings": {"big": "语" * 20_001}}, "settings"),
        ({"sort_order": 1.5}, "sort_order"),
        ({"sort_order": 2**31}, "sort_order"),
        ({"default": "yes"}, "default"),
        ({"display_name": "x" * 256}, "display_name"),
        ({"description": "\x00"}, "description"),
        ({"colour": "red"}, "field"),
    ],
)
def test_wrong_fields_of_providers(fields: dict, named: str, tmp_path) -> None:
    """
    Each is refused by name, when added and when edited, and nothing is written.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    with pytest.raises(InvalidValue) as refusal:
        catalog.add_provider("p", **fields)
    assert refusal.value.field == named
    assert catalog.providers(deleted=True) == []

    added = catalog.add_provider("p")
    with pytest.raises(InvalidValue):
        catalog.edit_provider("p", version=1, **fields)
    assert catalog.provider("p") == added
    assert len(catalog.history("provider", "p")) == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"api_type": "soap"}, "api_type"),
        ({"api_url": "example.com/v1"}, "api_url"),
        ({"api_url": "file:///etc/passwd"}, "api_url"),
        ({"api_url": "https://"}, "api_url"),
        ({"api_url": "https://host:99999/v1"}, "api_url"),
        ({"api_url": "https://a b/v1"}, "api_url"),
        ({"api_url": "http://169.254.169.254/latest"}, "api_url"),
        ({"api_url": "http://[::ffff:169.254.169.254]/latest"}, "api_url"),
        ({"api_url": "http://metadata.google.internal/"}, "api_url"),
        ({"api_url": "http://0.0.0.0/"}, "api_url"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"context_size": 0}, "context_size"),
        ({"context_size": 1.5}, "context_size"),
        ({"parameters": {"temperature": float("inf")}}, "parameters.temperature"),
        ({"parameters": {"model": "other"}}, "parameters"),
        ({"parameters": {"stream": True}}, "parameters"),
        ({"prices": "free"}, "prices"),
        ({"prices": [1]}, "prices[0]"),
        ({"prices": [{"model": "other", "input": 1}]}, "prices[0].model"),
        ({"prices": [{"not_providers": ["x"], "input": 1}]}, "prices[0].not_providers"),
    ],
)
def test_wrong_fields_of_models(fields: dict, named: str, tmp_path) -> None:
    """
    Each is refused by name, when added and when edited, and nothing is written.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p")
    with pytest.raises(InvalidValue) as refusal:
        catalog.add_model("m", **{"provider": "p", **fields})
    assert refusal.value.field == named
    assert catalog.models(deleted=True) == []

    added = catalog.add_model("m", provider="p")
    with pytest.raises(InvalidValue):
        catalog.edit_model("m", version=1, **fields)
    assert catalog.model("m") == added


@pytest.mark.parametrize(
    ("prices", "error", "said"),
    [
        ([{"input": "nan"}], PriceError, "prices[0]"),
        ([{"input": -1}], PriceError, "prices[0]"),
        ([{"input": 1, "currency": "RMB"}], PriceError, "currency"),
        ([{"inptu": 1}], PriceError, "inptu"),
        ([{"input": 1}, {"input": 2}], AlreadyThere, "prices[0] and prices[1] overlap"),
        (
            [
                {"input": 1, "valid_from": "2026-01-01", "valid_to": "2026-03-01"},
                {"input": 2, "valid_from": "2026-02-01"},
            ],
            PriceError,
            "catalog:p/m@2026-02-01: valid_from=2026-02-01T00:00:00+00:00 overlaps with "
            "catalog:p/m@2026-01-01",
        ),
    ],
)
def test_wrong_prices(prices: list, error: type[Exception], said: str, tmp_path) -> None:
    """
    What is no price, and prices that overlap, are refused by name, and nothing is written.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p")
    with pytest.raises(error) as refusal:
        catalog.add_model("m", provider="p", prices=prices)

    assert said in str(refusal.value)
    assert catalog.models(deleted=True) == []


@pytest.mark.parametrize(
    "name", ["", " p", "p\n", "p*", "gpt-[4]", "p" * 65, "a\u200bb", 7, None, "sk-abcdef"]
)
def test_wrong_names(name: object, tmp_path) -> None:
    """
    A name is a few visible characters, and neither a pattern nor a key.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    with pytest.raises(InvalidValue, match="name"):
        catalog.add_provider(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["gpt-4o-2024-08-06", "通义千问", "Qwen/Qwen2.5-72B-Instruct", "xai-grok-4", "ds-chat-v3"],
)
def test_names_that_look_odd(name: str, tmp_path) -> None:
    """
    Names that models really have are no keys.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p")
    assert catalog.add_model(name, provider="p").name == name


def test_names_are_unique(catalog: Catalog) -> None:
    """
    Two of one name cannot be, nor two that differ in capitals alone: calls do not tell them apart.
    """
    catalog.add_provider("p")
    for name in ("p", "P"):
        with pytest.raises(AlreadyThere):
            catalog.add_provider(name)
    catalog.add_model("m", provider="p")
    with pytest.raises(AlreadyThere):
        catalog.add_model("M", provider="p")


def test_what_is_not_there(catalog: Catalog) -> None:
    """
    Whatever is asked of an entry that never was, there is nothing of that name.
    """
    for ask in (
        lambda: catalog.provider("x"),
        lambda: catalog.model("x"),
        lambda: catalog.edit_provider("x", version=1, sort_order=1),
        lambda: catalog.disable_model("x"),
        lambda: catalog.remove_model("x"),
        lambda: catalog.client("x"),
        lambda: catalog.test("x"),
    ):
        with pytest.raises(NotFound, match="'x'"):
            ask()


def test_a_removed_provider_takes_no_models(catalog: Catalog) -> None:
    """
    The provider of a new model is one that is there.
    """
    catalog.add_provider("p")
    catalog.remove_provider("p")
    with pytest.raises(InvalidValue, match="provider"):
        catalog.add_model("m", provider="p")


def test_where(sql_url: str) -> None:
    """
    A ledger and its URL mean one catalogue; what has no tables is refused at once.
    """
    with Ledger(sql_url) as ledger:
        Catalog(ledger).add_provider("p")
        assert [each.name for each in Catalog(sql_url).providers()] == ["p"]
    with memory_ledger() as ledger, pytest.raises(ConfigurationError, match="no SQL store"):
        Catalog(ledger)
    with pytest.raises(ConfigurationError, match="Ledger"):
        Catalog(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 5])
def test_what_is_no_name(tmp_path, name) -> None:
    """
    Asked for something that is no text, the catalogue says so.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    with pytest.raises(InvalidValue, match="name"):
        catalog.model(name)
    with pytest.raises(InvalidValue, match="name"):
        catalog.history("model", name)
    with pytest.raises(NotFound):
        catalog.model("\ud800")
