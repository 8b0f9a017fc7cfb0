"""The pages of costs: both languages, nothing yet, links, walls, and answers that take long."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.web import sample

from ai_ledger.catalog import Catalog
from ai_ledger.errors import SinkUnavailable
from ai_ledger.sinks.sql import SQLSink
from ai_ledger.web import unpriced
from ai_ledger.web.costs import pages
from ai_ledger.web.recent import Recent

VIEWS = (
    "/costs?wait=1",
    "/costs/rows",
    "/costs/time",
    "/costs/time?by=user_id&wait=1",
    "/costs/time?by=session_id&wait=1",
    "/costs/time/charts",
    "/costs/models",
    "/costs/forecast?wait=1",
    "/costs/forecast/found",
    "/costs/suggestions?wait=1",
    "/costs/unpriced",
    "/costs/unpriced/rows",
    "/costs/reports",
)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Pages wait for what they ask, however slow this machine is."""
    monkeypatch.setattr(pages, "PATIENCE_S", 30.0)
    monkeypatch.setattr(unpriced, "PATIENCE_S", 60.0)


class Links(HTMLParser):
    """Collects where a page leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.found.append(dict(attrs).get("href") or "")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("full", [True, False], ids=["calls", "no calls"])
def test_each_view_is_there_in_both_languages_with_calls_and_without(
    request, visitor, view, language, full
):
    """
    Also for an organisation, whose pages name no other.
    """
    if full:
        request.getfixturevalue("filled")
    for org in (None, "acme"):
        page = visitor(org_id=org).get(view, headers={"Accept-Language": language})

        assert page.status_code == 200
        assert "style=" not in page.text
        assert "<script>" not in page.text
        if org:
            assert "globex" not in page.text


def test_a_fresh_ledger_is_told_how_the_first_call_is_recorded(visitor):
    """
    Instead of a table without rows.
    """
    page = visitor().get("/costs?wait=1")

    assert "TrackedClient" in page.text
    assert "<tbody>" not in page.text


@pytest.mark.usefixtures("filled")
def test_rows_lead_to_their_calls_and_chips_remove_their_filter(visitor):
    """
    With the same days and the other filters.
    """
    page = visitor().get("/costs?by=function&days=7&user_id=user-1&unset=session_id&status=failed")
    links = [urlsplit(each) for each in Links(page.text).found]
    chips = [each for each in links if each.path == "/costs" and "by=function" in each.query]

    kept = {"days": ["7"], "by": ["function"], "ranked_by": ["cost"], "limit": ["25"]}
    assert {**kept, "unset": ["session_id"], "status": ["failed"]} in [
        parse_qs(each.query) for each in chips
    ]
    assert {**kept, "user_id": ["user-1"], "status": ["failed"]} in [
        parse_qs(each.query) for each in chips
    ]

    page = visitor().get("/costs?by=function&days=7&user_id=user-1")
    links = [urlsplit(each) for each in Links(page.text).found]
    calls = [parse_qs(each.query) for each in links if each.path == "/calls" and each.query]
    assert {"days": ["7"], "user_id": ["user-1"], "function": ["search"]} in calls


def test_what_was_not_set_leads_to_the_calls_without_it(ledger, visitor):
    """
    For fields and for tags.
    """
    ledger.store.write([sample.call(0, function=None, tags={})])

    page = visitor().get("/costs?by=function")
    calls = [parse_qs(urlsplit(each).query) for each in Links(page.text).found if "/calls" in each]
    assert {"days": ["30"], "unset": ["function"]} in calls
    assert "tag=team%3D&#34;" in visitor().get("/costs?by=tags.team").text.replace('"', "&#34;")


def test_stored_texts_are_shown_as_text(ledger, visitor):
    """
    Names of models, users and tags are anybody's.
    """
    bad = "<script>alert(1)</script>"
    ledger.store.write(
        [sample.call(0, request_model=bad, user_id=bad, tags={bad: bad}, cost=None, currency=None)]
    )

    for view in (*VIEWS, "/costs?by=user_id", f"/costs?by=tags.{bad}", f"/costs?user_id={bad}"):
        assert bad not in visitor().get(view).text


def test_the_forecast_says_why_there_is_none(ledger, visitor):
    """
    Too few days, in the reader's language; and with enough of them, the interval.
    """
    ledger.store.write([sample.call(number) for number in range(50)])
    few = visitor().get("/costs/forecast", headers={"Accept-Language": "en"})
    assert "Not enough to judge by: 2 complete days" in few.text
    assert "数据不足" in visitor().get("/costs/forecast", headers={"Accept-Language": "zh"}).text

    ledger.store.write(
        [
            sample.call(0, id=f"day-{day}", started_at=sample.NOW - timedelta(days=day))
            for day in range(20)
        ]
    )
    enough = visitor().get("/costs/forecast", headers={"Accept-Language": "en"})
    assert "expected; with a probability of 80% from" in enough.text


def test_days_are_stacked_by_the_seven_dearest_and_the_others(ledger, visitor):
    """
    One chart for each currency; what is behind the seventh is one series.
    """
    ledger.store.write(
        [
            sample.call(
                0, id=f"{n}{code}", request_model=f"model-{n}", cost=Decimal(n + 1), currency=code
            )
            for n in range(9)
            for code in ("CNY", "USD")
        ]
    )

    page = visitor().get("/costs/time?days=1", headers={"Accept-Language": "en"}).text

    assert page.count("<canvas") == 2
    assert "Cost by day in CNY: 45.00" in page
    # The others: 1 + 2.
    assert "&#34;label&#34;:&#34;Others&#34;,&#34;values&#34;:[3.0]" in page


@pytest.mark.usefixtures("filled")
def test_a_long_answer_is_waited_for_by_the_page_and_not_by_its_reader(visitor, monkeypatch):
    """
    The page comes at once with what is known; the list asks again until it is there.
    """
    gate = threading.Event()
    costs = SQLSink.costs

    def slow(self, query, by=()):
        assert gate.wait(60) or by != ("session_id",)
        return costs(self, query, by)

    client = visitor()
    monkeypatch.setattr(pages, "PATIENCE_S", 0.0)
    monkeypatch.setattr(
        SQLSink, "costs", lambda self, query, by=(): (slow if by else costs)(self, query, by)
    )
    first = client.get("/costs?by=session_id", headers={"Accept-Language": "en"})
    assert "Counting call by call" in first.text
    assert 'hx-get="/costs/rows?days=30&amp;by=session_id' in first.text
    assert "120" in first.text  # calls, of the totals
    assert "session-3" not in first.text

    gate.set()
    monkeypatch.setattr(pages, "PATIENCE_S", 30.0)
    assert "session-3" in client.get("/costs/rows?by=session_id").text


@pytest.mark.usefixtures("filled")
def test_what_takes_too_long_says_what_to_do(visitor, monkeypatch):
    """
    A note instead of an error page, and the totals stay.
    """

    def refuses(*args, **options):
        raise SinkUnavailable("interrupted")

    monkeypatch.setattr(SQLSink, "leading", refuses)
    monkeypatch.setattr(pages, "PATIENCE_S", 60.0)

    page = visitor().get("/costs?by=session_id", headers={"Accept-Language": "en"})

    assert page.status_code == 200
    assert "Choose fewer days, or a filter" in page.text


def test_a_forecast_that_takes_long_comes_later(filled, visitor, monkeypatch):
    """
    The page is there at once and asks for it; the part is there when it was counted.
    """
    gate, costs = threading.Event(), SQLSink.costs

    def slow(*args):
        assert gate.wait(60)
        return costs(*args)

    monkeypatch.setattr(SQLSink, "costs", slow)
    monkeypatch.setattr(pages, "PATIENCE_S", 0.0)
    visit = visitor()
    page = visit.get("/costs/forecast")
    assert page.status_code == 200
    assert "/costs/forecast/found?" in page.text
    gate.set()
    monkeypatch.setattr(pages, "PATIENCE_S", 60.0)

    part = visit.get("/costs/forecast/found")

    assert "/costs/forecast/found?" not in part.text
    assert "CNY" in part.text


def test_one_question_is_worked_on_once_for_all_who_ask():
    """
    And kept; another key is another question.
    """
    recent, gate, times = Recent(), threading.Event(), []

    def work() -> int:
        times.append(1)
        assert gate.wait(60)
        return len(times)

    asked = [recent.ask("a", sample.NOW, work) for _ in range(5)]
    gate.set()

    assert all(each.wait(60) for each in asked)
    assert [each.value for each in asked] == [1] * 5
    assert recent.ask("a", sample.NOW, work).value == 1
    other = recent.ask("b", sample.NOW, work)
    assert other.wait(60)
    assert other.value == 2


def test_questions_in_line_are_bounded():
    """
    Somebody who asks for everything at once is told to come back.
    """
    recent, gate = Recent(), threading.Event()
    asked = [recent.ask(number, sample.NOW, lambda: gate.wait(60)) for number in range(32)]

    with pytest.raises(SinkUnavailable):
        recent.ask("one more", sample.NOW, lambda: None)

    gate.set()
    assert all(each.wait(60) for each in asked)
    assert recent.ask("one more", sample.NOW, lambda: 1).wait(60)


def test_nobody_takes_the_room_of_others_who_ask():
    """
    So many questions of one organisation wait; those of another are taken in turn with them.
    """
    recent, gate, order = Recent(at_once=1), threading.Event(), []

    def work(name: str) -> Callable[[], None]:
        def note() -> None:
            assert gate.wait(60)
            order.append(name)

        return note

    asked = [recent.ask(n, sample.NOW, work(f"acme {n}"), whose="acme") for n in range(8)]
    with pytest.raises(SinkUnavailable):
        recent.ask(8, sample.NOW, work("acme 8"), whose="acme")
    asked.append(recent.ask("b", sample.NOW, work("globex"), whose="globex"))
    gate.set()

    assert all(each.wait(60) for each in asked)
    # At once those that were begun; then one of each.
    assert order.index("globex") <= 2
    assert [each for each in order if each != "globex"] == [f"acme {n}" for n in range(8)]


def test_a_question_that_no_thread_could_be_started_for_is_asked_again(monkeypatch):
    """
    It takes no room for ever, and is not told as being counted.
    """
    recent = Recent()
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", _no_more_threads)
        for _ in range(40):
            with pytest.raises(SinkUnavailable):
                recent.ask("a", sample.NOW, lambda: 1)

    found = recent.ask("a", sample.NOW, lambda: 2)
    assert found.wait(60)
    assert found.value == 2


def _no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    "by", ["user_id", "device_id", "session_id", "tags.team", "request_model", "operation"]
)
def test_days_are_stacked_by_every_dimension(ledger, visitor, by):
    """
    The seven dearest values have each a series, and the others are what is left of the total.
    """
    name = "tags" if by.startswith("tags.") else by
    ledger.store.write(
        [
            sample.call(
                0,
                id=f"{n}-{day}",
                started_at=sample.NOW - timedelta(days=day),
                cost=Decimal(n + 1 + day),
                currency="CNY",
                **{name: {"team": f"value-{n}"} if name == "tags" else f"value-{n}"},
            )
            for n in range(10)
            for day in range(2)
        ]
    )

    page = visitor().get(f"/costs/time?days=2&by={by}&wait=1", headers={"Accept-Language": "en"})

    (canvas,) = re.findall(r'data-chart="([^"]*)"', page.text)
    series = json.loads(html.unescape(canvas))["series"]
    assert [(each["label"], each["values"]) for each in series] == [
        *((f"value-{n}", [n + 2, n + 1]) for n in range(9, 2, -1)),
        ("Others", [2 + 3 + 4, 1 + 2 + 3]),
    ]
    assert "Cost by day in CNY: 120.00" in page.text


@pytest.mark.parametrize(
    ("counted", "told"),
    [pytest.param(True, 2, id="counted"), pytest.param(False, 1, id="not in time: at least")],
)
def test_calls_that_no_price_helps_are_counted_beside_failed_ones(
    ledger, visitor, monkeypatch, counted, told
):
    """
    Two calls without token counts, beside a failed one that has some and one that has none:
    pricing again is not offered, since it would change nothing. Without time for that
    it is told of fewer calls, and never of more.
    """
    unknown = {"usage_source": "unknown", "input_tokens": None, "output_tokens": None}
    free = {"cost": None, "currency": None, "price_id": None}
    of = {"request_model": "gone", "provider": "shop"}
    ledger.store.write(
        [
            sample.call(0, id="late-1", status="timeout", **of, **free, **unknown),
            sample.call(1, id="late-2", status="timeout", **of, **free, **unknown),
            sample.call(2, id="charged", status="failed", **of),
            sample.call(3, id="refused", status="failed", **of, **free, **unknown),
        ]
    )
    catalog = Catalog(ledger)
    catalog.add_provider("shop")
    catalog.add_model("gone", provider="shop", prices=[{"currency": "CNY", "input": 1}])
    ledger.prices.refresh()
    if not counted:
        monkeypatch.setattr(SQLSink, "costs", _too_slow)
    client = visitor()

    (model,) = client.get("/api/v1/unpriced").json()["models"]
    (stranger,) = client.get("/api/v1/models").json()["unlisted"]
    use = client.get("/api/v1/models/gone").json()["use"]
    rows = html.unescape(client.get("/costs/unpriced", headers={"Accept-Language": "en"}).text)
    entry = client.get("/models/entry?kind=model&name=gone").text

    assert (model["calls"], model["has_price"]) == (2, True)
    assert [each["without_usage"] for each in (model, stranger, use)] == [told] * 3
    assert ("request_model=gone#reprice-title" in rows) is not counted
    assert ("request_model=gone#reprice-title" in entry) is not counted


def _too_slow(*args, **options):
    raise SinkUnavailable("not in time")


def test_a_fresh_ledger_is_no_ledger_of_which_every_cost_is_known(visitor):
    """
    Where nothing is recorded, pages say how to begin.
    """
    for path in ("/costs/unpriced", "/costs/suggestions?wait=1"):
        page = visitor().get(path, headers={"Accept-Language": "en"}).text

        assert "No calls in these days" in page
        assert "TrackedClient(OpenAI()" in page
        assert "Every cost is known" not in page


def test_what_to_do_about_unpriced_calls_is_what_helps(ledger, visitor):
    """
    A price where there is none, in the form of that model; the calls priced again where
    there is one now; and nothing for calls without token counts.
    """
    lacking = {"cost": None, "currency": None, "price_id": None, "status": "success"}
    unknown = {**lacking, "status": "timeout", "usage_source": "unknown", "input_tokens": None,
               "output_tokens": None}  # fmt: skip
    ledger.store.write(
        [
            sample.call(0, id="listed", request_model="house/7b", provider="shop", **lacking),
            sample.call(2, id="unlisted", request_model="fresh", provider="shop", **lacking),
            sample.call(4, id="priced", request_model="now", provider="shop", **lacking),
            sample.call(4, id="half", request_model="now", provider="shop", **unknown),
            sample.call(6, id="none", request_model="gone", provider="shop", **unknown),
        ]
    )
    catalog = Catalog(ledger)
    catalog.add_provider("shop")
    catalog.add_model("house/7b", provider="shop")
    price = {"currency": "CNY", "input": 1, "output": 1}
    for name in ("now", "gone"):
        catalog.add_model(name, provider="shop", prices=[price])
    ledger.prices.refresh()
    client = visitor()

    found = {each["model"]: each for each in client.get("/api/v1/unpriced").json()["models"]}
    assert {
        name: (each["calls"], each["without_usage"], each["listed"], each["has_price"])
        for name, each in found.items()
    } == {
        "house/7b": (1, 0, True, False),
        "fresh": (1, 0, False, False),
        "now": (2, 1, True, True),
        "gone": (1, 1, True, True),
    }
    page = html.unescape(client.get("/costs/unpriced", headers={"Accept-Language": "en"}).text)
    assert "/models/entry?kind=model&name=house%2F7b#price" in page
    assert "/models/new?kind=model&name=fresh" in page
    assert 'value="shop"' in client.get("/models/new?kind=model&name=fresh").text
    assert "request_model=now#reprice-title" in page
    assert "request_model=gone#reprice-title" not in page
    form = client.get("/costs/unpriced?request_model=now").text
    assert 'list="r-models" value="now"' in form

    models = html.unescape(client.get("/models", headers={"Accept-Language": "en"}).text)
    assert "/costs/unpriced?days=30&request_model=now#reprice-title" in models
    assert "request_model=gone#" not in models
    for name, offered in (("now", True), ("gone", False)):
        entry = client.get(f"/models/entry?kind=model&name={name}").text
        assert (f"request_model={name}#reprice-title" in entry) is offered
        assert "1 unpriced call has no token counts" in entry
