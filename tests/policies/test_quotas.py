"""Quotas: which organisation may use which model, how often and until when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openai import OpenAI
from tests.policies.support import call

from ai_ledger import CallRefused, Ledger, TrackedClient
from ai_ledger.errors import (
    AlreadyThere,
    ConfigurationError,
    EditConflict,
    InvalidValue,
    ModelNotAllowed,
    NotFound,
    TooSoon,
)
from ai_ledger.policies import Quotas
from ai_ledger.testing import Provider

MESSAGES: Any = [{"role": "user", "content": "hello"}]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def may(quotas: Quotas, org_id: str | None = "acme", model: str | None = "m") -> bool:
    """Whether the call is allowed."""
    asked = call(org_id, model)
    try:
        quotas.check(asked, None)
    except ModelNotAllowed:
        return False
    quotas.settle(asked.replace(status="success"))
    return True


def test_real_calls(sql_url: str, provider: Provider) -> None:
    """
    An organisation is refused the model it may not use, before anything is sent.
    """
    quotas = Quotas()
    with Ledger(sql_url, journal=False, policies=[quotas]) as ledger:
        quotas.set("acme", "gpt-4o", enabled=False)
        client = TrackedClient(OpenAI(base_url=provider.base_url, api_key="k"), ledger=ledger)
        client.with_context(org_id="acme").chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES
        )
        client.with_context(org_id="globex").chat.completions.create(
            model="gpt-4o", messages=MESSAGES
        )
        with pytest.raises(ModelNotAllowed, match="'acme' may not use model 'gpt-4o'"):
            client.with_context(org_id="acme").chat.completions.create(
                model="gpt-4o", messages=MESSAGES
            )
        assert ledger.flush(10)
        outcomes = sorted(
            (each.org_id or "", each.request_model or "", each.status, each.error_type)
            for each in ledger.stats.calls().calls
        )

    assert len(provider.requests) == 2
    assert outcomes == [
        ("acme", "gpt-4o", "blocked", "ModelNotAllowed"),
        ("acme", "gpt-4o-mini", "success", None),
        ("globex", "gpt-4o", "success", None),
    ]


def test_the_most_specific_row_counts(sql_url: str) -> None:
    """
    A row of the organisation and the model comes before its row for every model, and so on.
    """
    quotas = Quotas(sql_url, default="refuse")
    answers = [may(quotas)]
    for org_id, model, enabled in (
        ("*", "*", True),
        ("*", "m", False),
        ("acme", "*", True),
        ("acme", "m", False),
    ):
        quotas.set(org_id, model, enabled=enabled)
        answers.append(may(quotas))

    assert answers == [False, True, False, True, False]
    assert may(quotas, "acme", "other")
    assert not may(quotas, "globex")
    assert may(quotas, "globex", "other")
    assert not may(quotas, None)
    assert may(quotas, None, None)


def test_without_a_row(sql_url: str) -> None:
    """
    The default says what holds for those who have none.
    """
    assert may(Quotas(sql_url))
    assert not may(Quotas(sql_url, default="refuse"))


@pytest.mark.parametrize(
    ("start", "end", "allowed"),
    [
        (None, None, True),
        (NOW - DAY, None, True),
        (NOW - DAY, NOW + DAY, True),
        (NOW + DAY, None, False),
        (None, NOW - DAY, False),
    ],
)
def test_only_within_its_time(
    tmp_path: Any, start: datetime | None, end: datetime | None, allowed: bool
) -> None:
    """
    Before its start and from its end on, a quota allows nothing.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.set("acme", "m", valid_from=start, valid_until=end)

    assert may(quotas) is allowed


def test_a_model_is_switched_off_for_everybody(sql_url: str) -> None:
    """
    Whatever the rows say, nobody may use it until it is on again; here that holds at once.
    """
    quotas, other = Quotas(sql_url), Quotas(sql_url)
    quotas.set("acme", "m")
    assert may(other)
    quotas.switch_off("m", by="ann")

    assert not may(other)
    assert not may(other, None)
    assert may(other, "acme", "n")
    with pytest.raises(ModelNotAllowed, match="'m' is switched off for everybody"):
        other.check(call(), None)
    quotas.switch_on("m", by="bob")
    assert may(other)
    assert [each.changed_by for each in quotas.history(None, "m")] == ["bob", "ann"]
    assert [each.off for each in quotas.switches()] == [False]


def test_edits(sql_url: str) -> None:
    """
    What an edit does not name stays; each leaves who made it; a stale one is refused.
    """
    quotas = Quotas(sql_url)
    made = quotas.set("acme", "m", tokens=100, rates="60/minute", by="ann", version=0)
    changed = quotas.set("acme", "m", min_interval_s=0.25, by="bob", version=made.version)
    again = quotas.set("acme", "m", min_interval_s=0.25, by="cleo")

    assert (changed.tokens, changed.rates, changed.min_interval_s) == (100, "60/minute", 0.25)
    assert (made.version, changed.version, changed.updated_by) == (1, 2, "bob")
    assert again == changed == quotas.get("acme", "m")
    with pytest.raises(AlreadyThere):
        quotas.set("acme", "m", tokens=5, version=0)
    with pytest.raises(EditConflict, match="bob changed it"):
        quotas.set("acme", "m", tokens=5, version=1)
    with pytest.raises(NotFound):
        quotas.disable("globex", "m")
    with pytest.raises(NotFound):
        quotas.remove("acme", "n")
    with pytest.raises(EditConflict):
        quotas.remove("acme", "m", version=1)
    assert quotas.disable("acme", "m", by="dora").enabled is False
    assert quotas.enable("acme", "m", by="dora").enabled is True
    quotas.remove("acme", "m", by="eve")
    assert quotas.rows() == []
    history = quotas.history("acme", "m")
    assert [each.changed_by for each in history] == ["eve", "dora", "dora", "bob", "ann"]
    assert history[0].after is None
    assert history[-1].before is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tokens": -1}, "tokens"),
        ({"tokens": 1.5}, "tokens"),
        ({"tokens": None}, "tokens"),
        ({"min_interval_s": -0.1}, "min_interval_s"),
        ({"min_interval_s": float("nan")}, "min_interval_s"),
        ({"min_interval_s": "1"}, "min_interval_s"),
        ({"max_concurrent": -1}, "max_concurrent"),
        ({"max_concurrent": 10**7}, "max_concurrent"),
        ({"enabled": 1}, "enabled"),
        ({"shared": "no"}, "shared"),
        ({"rates": "often"}, "rates"),
        ({"rates": "0/minute"}, "rates"),
        ({"rates": "1/fortnight"}, "rates"),
        ({"rates": 60}, "rates"),
        ({"valid_from": datetime(2026, 1, 1)}, "valid_from"),
        ({"valid_until": "2026-01-01"}, "valid_until"),
        ({"valid_from": NOW, "valid_until": NOW}, "valid_until"),
        ({"valid_from": NOW, "valid_until": NOW - DAY}, "valid_until"),
    ],
)
def test_bad_input(sql_url: str, fields: dict[str, Any], field: str) -> None:
    """
    What no quota can have is refused by name, and nothing is written.
    """
    quotas = Quotas(sql_url)
    before = quotas.set("acme", "m", tokens=7, by="ann")
    for org_id in ("acme", "globex"):
        with pytest.raises(InvalidValue) as refused:
            quotas.set(org_id, "m", **fields)
        assert refused.value.field == field

    assert quotas.rows() == [before]
    assert len(quotas.history("acme", "m")) == 1


def test_an_end_before_the_stored_start(sql_url: str) -> None:
    """
    An edit is held against what is stored already.
    """
    quotas = Quotas(sql_url)
    before = quotas.set("acme", "m", valid_from=NOW)
    with pytest.raises(InvalidValue, match="valid_until"):
        quotas.set("acme", "m", valid_until=NOW - DAY)

    assert quotas.get("acme", "m") == before


@pytest.mark.parametrize("name", ["", "x" * 256, None, True])
def test_bad_names(tmp_path: Any, name: Any) -> None:
    """
    A row without a name, or with one that no record can have, is refused.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    for arguments in ((name, "m"), ("acme", name)):
        with pytest.raises(InvalidValue):
            quotas.set(*arguments)
    with pytest.raises(InvalidValue, match="not \\* for both"):
        quotas.set("*", "*", tokens=1)
    assert quotas.rows() == []


def test_rows_made_at_the_same_time(sql_url: str) -> None:
    """
    Of those who make the same row at once, one succeeds.
    """

    def make(number: int) -> str:
        try:
            quotas.set("acme", "m", tokens=number + 1, version=0, by=str(number))
        except AlreadyThere:
            return "there"
        return "made"

    quotas = Quotas(sql_url)
    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(make, range(8)))

    assert outcomes == ["made"] + ["there"] * 7
    assert len(quotas.history("acme", "m")) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"default": "maybe"},
        {"on_unavailable": "panic"},
        {"max_wait": -1},
        {"place_ttl": 0.1},
        {"storage": "nonsense://x"},
        {"where": "jsonl:///x"},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    """
    They are refused when the policy is made, or when it is first used.
    """
    with pytest.raises(ConfigurationError):
        Quotas(**options).rows()


def test_a_ledger_without_a_database(tmp_path: Any) -> None:
    """
    It is refused at set-up, since nobody would be told later.
    """
    with pytest.raises(ConfigurationError, match="no SQL store"):
        Ledger(f"jsonl:///{tmp_path}", policies=[Quotas()])


# Interval


def test_the_interval(sql_url: str) -> None:
    """
    Each organisation and model has turns of its own, and a refusal says when the next one is.
    """
    quotas = Quotas(sql_url)
    quotas.set("*", "m", min_interval_s=600)
    assert quotas.check(call(), None) is None
    with pytest.raises(TooSoon, match="quota \\* / m: one call in 600 s") as refused:
        quotas.check(call(), None)
    assert 300 < refused.value.retry_after_s <= 600
    assert quotas.check(call("globex"), None) is None
    assert quotas.check(call(None), None) is None
    assert quotas.check(call("acme", "n"), None) is None


@pytest.mark.parametrize("shared", [True, False])
def test_the_interval_among_threads(sql_url: str, shared: bool) -> None:
    """
    Of many threads that ask at once, one gets the turn.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", min_interval_s=600, shared=shared)
    start = threading.Barrier(16)

    def ask(_: int) -> bool:
        start.wait(30)
        try:
            quotas.check(call(), None)
        except TooSoon:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(16))) == 1


def test_waiting_for_the_interval(sql_url: str) -> None:
    """
    Those who wait are let through one by one, no two closer than the interval.
    """
    quotas = Quotas(sql_url, wait=True, max_wait=60)
    quotas.set("acme", "m", min_interval_s=0.2)
    begun = datetime.now(UTC).timestamp()
    quotas.check(call(), None)
    times: list[float] = []

    def ask(_: int) -> None:
        quotas.check(call(), None)
        times.append(datetime.now(UTC).timestamp())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))

    assert len(times) == 4
    assert max(times) - begun > 0.79


def test_waiting_too_long(sql_url: str) -> None:
    """
    Nobody waits for a turn that comes after the longest wait.
    """
    quotas = Quotas(sql_url, wait=True, max_wait=5)
    quotas.set("acme", "m", min_interval_s=600)
    quotas.check(call(), None)
    with pytest.raises(TooSoon):
        quotas.check(call(), None)


# Calls in flight


@pytest.mark.parametrize("shared", [True, False])
def test_calls_in_flight(sql_url: str, shared: bool) -> None:
    """
    As many as the row says, and one that ends makes room at once.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", max_concurrent=2, shared=shared)
    first, second = call(), call()
    quotas.check(first, None)
    quotas.check(second, None)
    for _ in range(3):
        with pytest.raises(TooSoon, match="2 calls are in flight"):
            quotas.check(call(), None)
    quotas.check(call("globex"), None)
    for _ in range(20):
        quotas.settle(first)
        quotas.settle(first)
        first = call()
        quotas.check(first, None)
        with pytest.raises(TooSoon):
            quotas.check(call(), None)


def test_calls_in_flight_of_all_organisations(sql_url: str) -> None:
    """
    A model's own bound counts everybody's calls, beside the quotas.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", max_concurrent=1)
    quotas.cap("m", 2)
    mine, other = call(), call("globex")
    quotas.check(mine, None)
    with pytest.raises(TooSoon, match="quota acme / m"):
        quotas.check(call(), None)
    quotas.check(other, None)
    with pytest.raises(TooSoon, match="model 'm': 2 calls are in flight"):
        quotas.check(call(None), None)
    quotas.settle(mine)
    quotas.close()
    assert (quotas.in_flight("m"), quotas.in_flight("m", "acme")) == (1, 0)
    quotas.check(call(None), None)
    quotas.cap("m", 0)
    quotas.check(call(None), None)


@pytest.mark.parametrize("shared", [True, False])
def test_calls_in_flight_among_threads(sql_url: str, shared: bool) -> None:
    """
    Never more than allowed, however many threads; and all come through when they wait.
    """
    quotas = Quotas(sql_url, wait=True, max_wait=100)
    quotas.set("acme", "m", max_concurrent=3, shared=shared)
    lock = threading.Lock()
    inside = most = 0

    def ask(_: int) -> None:
        nonlocal inside, most
        asked = call()
        quotas.check(asked, None)
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1
        quotas.settle(asked)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(48)))

    assert 1 <= most <= 3
    quotas.close()
    assert quotas.in_flight("m", "acme") == 0


def test_a_refused_call_holds_nothing(sql_url: str) -> None:
    """
    Refused by one of its bounds, a call has not used up the others.
    """
    quotas = Quotas(sql_url)
    quotas.set("acme", "m", max_concurrent=1, min_interval_s=600, rates="2/day")
    quotas.cap("m", 5)
    mine = call()
    quotas.check(mine, None)
    for _ in range(5):
        with pytest.raises(TooSoon, match="one call in 600 s"):
            quotas.check(call(), None)
    quotas.settle(mine)
    quotas.close()
    assert quotas.in_flight("m") == 0
    quotas.set("acme", "m", min_interval_s=0)
    quotas.check(call(), None)  # the second of the day: the refused ones were not counted
    with pytest.raises(TooSoon):
        quotas.check(call(), None)
    quotas.set("acme", "m", max_concurrent=0)
    with pytest.raises(TooSoon, match="2/day"):
        quotas.check(call(), None)


# Rates


def test_rate_windows(tmp_path: Any) -> None:
    """
    All windows hold, for each organisation by itself, also when a name has a slash in it.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.set("*", "*", rates="3/hour; 5 per 1 day")
    for org_id, model in (("a/b", "c"), ("a", "b/c")):
        for _ in range(3):
            quotas.check(call(org_id, model), None)
        with pytest.raises(TooSoon, match="3/hour; 5 per 1 day") as refused:
            quotas.check(call(org_id, model), None)
        assert 1800 < refused.value.retry_after_s <= 3600


def test_rate_windows_among_threads(tmp_path: Any) -> None:
    """
    Exactly as many as allowed.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.set("acme", "m", rates="20/hour")

    def ask(_: int) -> bool:
        try:
            quotas.check(call(), None)
        except CallRefused:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(100))) == 20


def test_the_longer_window_holds_too(tmp_path: Any) -> None:
    """
    A call that the shorter window has room for is refused when the longer one has none.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.set("acme", "m", rates="9/hour; 3/day")
    for _ in range(3):
        quotas.check(call(), None)
    with pytest.raises(TooSoon) as refused:
        quotas.check(call(), None)
    assert refused.value.retry_after_s > 3600


def test_names_that_cannot_be(tmp_path) -> None:
    """
    A name is read as it was written; what is no name is said to be none.
    """
    quotas = Quotas(f"sqlite:///{tmp_path}/ledger.db")
    quotas.set("a\x00b", "m\ud800")
    assert quotas.get("a\x00b", "m\ud800") == quotas.rows()[0]
    assert len(quotas.history("a\x00b", "m\ud800")) == 1
    for wrong in (lambda: quotas.get("", "m"), lambda: quotas.set("a", "m", by=5)):  # type: ignore[arg-type]
        with pytest.raises(InvalidValue):
            wrong()
    assert len(quotas.rows()) == 1
