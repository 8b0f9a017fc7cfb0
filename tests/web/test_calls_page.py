"""The pages of calls and of one call: what they show, to whom, and as text."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.records import CallRecord
from ai_ledger.sinks import CostChange
from ai_ledger.web.calls.detail import SHOWN_CHARS, Block, reading_of
from ai_ledger.web.rendering import breakable

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)">"\'><svg/onload=alert(3)>'
    "![](http://canary.example/x)\u2028\u2029\u202eevil\x00 {{ 7 * 7 }} javascript:alert(4)"
)
TEXTS = (
    *("error_type", "error_message", "operation", "provider", "server_address", "request_model"),
    *("response_model", "response_id", "service_tier", "finish_reason", "price_id", "currency"),
    *("org_id", "user_id", "device_id", "session_id", "function", "business_type"),
    *("reference_id", "request_content", "response_content"),
)


def test_hostile_texts_are_texts(ledger: Ledger, visitor: Visitor) -> None:
    """
    Whatever stands in a call is shown as text: no element and no attribute comes of it.
    """
    fields: dict[str, Any] = dict.fromkeys(TEXTS, HOSTILE)
    fields["currency"] = "<b>"
    fields["request_content"] = json.dumps({"messages": [{"role": HOSTILE, "content": HOSTILE}]})
    ledger.store.write(
        [
            sample.call(1, **fields, status="failed", tags={HOSTILE: HOSTILE}),
            sample.call(2, id="<script>id</script>/?#\"'", **fields),
        ]
    )
    client = visitor()
    listed = client.get("/calls").text
    pages = [listed, client.get("/calls/call-00001").text, client.get("/calls/values").text]
    odd = re.search(r'href="(/calls/one\?id=%3Cscript[^"]*)"', listed)
    assert odd is not None
    one = client.get(unescape(odd[1]))
    assert one.status_code == 200, one.url
    pages.append(one.text)

    for page in pages:
        tags = set(re.findall(r"<(script|img|svg/|b>)[^>]*", page))
        assert tags <= {"script"}
        assert all("src=" in each for each in re.findall(r"<script[^>]*>", page))
        assert not re.search(r"<[^>]*\son\w+=(?!\w*&)", re.sub(r'"[^"]*"', '""', page))
        assert "alert(1)" in page
        assert "49" not in page or "{{ 7 * 7 }}" in page


def test_half_a_character_does_not_keep_a_call_from_being_seen(
    ledger: Ledger, visitor: Visitor
) -> None:
    """
    JSON can name half of a character, which text cannot hold: a sign stands in its place.
    """
    half = '{"messages": [{"role": "user", "content": "before \\ud83d behind"}]}'
    ledger.store.write([sample.call(1, request_content=half, response_content=half)])

    page = visitor().get("/calls/one?id=call-00001")

    assert page.status_code == 200
    assert page.text.count("before ? behind") == 2


def test_one_call(filled: Ledger, visitor: Visitor) -> None:
    """
    The page of a call tells what was asked and answered, by whom, for what, and what it cost.
    """
    filled.store.correct_costs(
        [
            CostChange(
                call_id="call-00001",
                corrected_at=sample.NOW,
                old_cost=Decimal("0.002"),
                old_currency="USD",
                old_price_id="gpt-4o-mini@2026-01-01",
                cost=Decimal("0.5"),
                currency="USD",
                price_id="own:new",
            )
        ]
    )

    page = visitor().get("/calls/call-00001").text

    for text in ("prompt 1", "answer 1", "user-1", "device-1", "session-0", "translate"):
        assert text in page, text
    for to in ("user_id=user-1", "tag=team%3Dblue", "session_id=session-0", "price_id=own%3Anew"):
        assert f'href="/calls?{to}"' in page, to
    assert "Corrections" in page
    assert "gpt-4o-mini@2026-01-01" in page


def test_the_panel_is_the_page_without_its_frame(filled: Ledger, visitor: Visitor) -> None:
    """
    A script gets the inside alone, with the same content.
    """
    part = visitor().get("/calls/call-00001", headers={"HX-Request": "true"}).text

    assert ("<html" in part, "prompt 1" in part, 'id="call-title"' in part) == (False, True, True)


def test_prompts_are_kept_from_whoever_may_not_see_them(filled: Ledger, visitor: Visitor) -> None:
    """
    Without the right, neither page nor API shows a prompt; the page says why.
    """
    client = visitor(prompts=False)
    page = client.get("/calls/call-00001").text
    api = client.get("/api/v1/calls/call-00001").json()

    assert ("prompt 1" in page, "answer 1" in page) == (False, False)
    assert "Your access does not include prompts" in page
    assert (api["call"]["request_content"], api["call"]["response_content"]) == (None, None)


def test_a_price_with_its_rates(ledger: Ledger, visitor: Visitor) -> None:
    """
    The price entry that was charged is shown with its rates, as long as it is known.
    """
    price = next(
        each for each in ledger.prices if each.input_per_mtok is not None and "*" not in each.model
    )
    ledger.store.write([sample.call(1, price_id=price.id), sample.call(2, price_id="own:gone")])

    known, gone = (visitor().get(f"/calls/call-0000{n}").text for n in (1, 2))

    assert f"{price.input_per_mtok:f} {price.currency} per million tokens" in known
    assert "no longer in the price table" not in known
    assert "no longer in the price table" in gone


def test_long_texts_are_cut(ledger: Ledger, visitor: Visitor) -> None:
    """
    A prompt of a megabyte does not become a page of a megabyte, unless all of it is asked for.
    """
    ledger.store.write([sample.call(1, request_content="x" * 900_000 + "the end")])
    client = visitor()

    short, whole = (
        client.get("/calls/call-00001").text,
        client.get("/calls/call-00001?whole=1").text,
    )

    assert (len(short) < 100_000, "the end" in short, "Show all" in short) == (True, False, True)
    assert ("the end" in whole, "Show all" in whole) == (True, False)


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        ("plain", [(None, "plain")]),
        ("", [(None, "")]),
        ("{not json", [(None, "{not json")]),
        ("[" * 100_000, [(None, "[" * 100_000)]),
        ('{"messages": [{"role": "user", "content": "hi"}]}', [("user", "hi")]),
        ('[{"role": "system", "content": "be"}]', [("system", "be")]),
        ('{"role": "assistant", "content": "yes"}', [("assistant", "yes")]),
        (
            '[{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "x"}]}]',
            [("user", 'see\n{\n  "type": "x"\n}')],
        ),
        (
            '[{"role": "assistant", "content": null, "tool_calls": [1]}]',
            [("assistant", '{\n  "tool_calls": [\n    1\n  ]\n}')],
        ),
        ('{"messages": [], "model": "m"}', [(None, '{\n  "messages": [],\n  "model": "m"\n}')]),
        ('{"input": "Mood?"}', [(None, "Mood?")]),
        ('{"input": [{"role": "user", "content": "hi"}]}', [("user", "hi")]),
        ('["a", 1]', [(None, '[\n  "a",\n  1\n]')]),
    ],
)
def test_readings(content: str, blocks: list[tuple[str | None, str]]) -> None:
    """
    A conversation is read message by message, and nothing of anything else is lost.
    """
    reading = reading_of(content, whole=True)

    assert reading is not None
    assert reading.blocks == tuple(Block(*each) for each in blocks)
    assert reading_of(None, whole=True) is None


def test_many_messages_are_cut_together() -> None:
    """
    What is shown at first is bounded over all messages.
    """
    content = json.dumps([{"role": "user", "content": "y" * 15_000}] * 4)

    reading = reading_of(content, whole=False)

    assert reading is not None
    assert (len(reading.blocks), reading.is_cut) == (2, True)
    assert sum(len(block.text) for block in reading.blocks) == SHOWN_CHARS


def test_a_fresh_ledger_teaches(visitor: Visitor) -> None:
    """
    Without a call there are the lines that record the first one.
    """
    page = visitor().get("/calls").text

    assert ("from ai_ledger import" in page, "data-export" in page) == (True, False)


def test_a_filter_without_hits(filled: Ledger, visitor: Visitor) -> None:
    """
    Where no call fits, the page says so and offers all of them.
    """
    page = visitor().get("/calls?user_id=nobody").text

    assert ("No call fits this filter." in page, "Clear filters" in page) == (True, True)
    assert "from ai_ledger import" not in page


def test_totals_are_a_part_of_their_own(filled: Ledger, visitor: Visitor) -> None:
    """
    The table does not wait for the totals, which come by themselves for the same filter.
    """
    client = visitor()
    page = client.get("/calls?status=success").text
    totals = client.get("/calls/totals?status=success", headers={"HX-Request": "true"}).text

    assert 'hx-get="/calls/totals?status=success"' in page
    assert ("<html" in totals, "80</dd>" in totals, "CNY" in totals, "USD" in totals) == (
        False,
        True,
        True,
        True,
    )


def test_readers_of_one_organisation(filled: Ledger, visitor: Visitor) -> None:
    """
    Whoever is confined to an organisation sees nothing of others, not even a name to choose.
    """
    client = visitor(org_id="acme")
    pages = [
        client.get(path).text for path in ("/calls?limit=100", "/calls/totals", "/calls/values")
    ]

    assert not any("globex" in page for page in pages)
    assert "Organisation" not in pages[0]
    listed = client.get("/api/v1/calls?limit=200").json()["calls"]
    assert {call["org_id"] for call in listed} == {"acme"}


def test_in_chinese(filled: Ledger, visitor: Visitor) -> None:
    """
    The pages speak Chinese to whoever asks for it.
    """
    page = visitor().get("/calls", headers={"Accept-Language": "zh-CN"}).text

    assert ("清除" in page or "筛选" in page, "More filters" in page) == (True, False)


def test_an_unknown_call(visitor: Visitor) -> None:
    """
    A call that is not there is 404, as a page and in the API.
    """
    client = visitor()

    for path in ("/calls/nothing", "/api/v1/calls/nothing", "/calls/a/b?c", "/api/v1/calls/%00"):
        assert client.get(path).status_code == 404, path


def test_calls_of_all_kinds_can_be_shown(ledger: Ledger, visitor: Visitor) -> None:
    """
    A call of which next to nothing is known has a row and a page too.
    """
    bare = CallRecord(id="bare", started_at=sample.NOW)
    ledger.store.write([bare])
    client = visitor()

    assert (client.get("/calls").status_code, client.get("/calls/bare").status_code) == (200, 200)


def test_a_fresh_page_waits_for_the_first_call(ledger: Ledger, visitor: Visitor) -> None:
    """
    The empty page asks whether there is a call, and is shown anew as soon as there is one.
    """
    client = visitor()
    hx = {"HX-Request": "true"}
    assert 'hx-get="/calls/first"' in client.get("/calls").text

    before = client.get("/calls/first", headers=hx)
    ledger.store.write([sample.call(1)])
    after = client.get("/calls/first", headers=hx)

    assert (before.status_code, before.headers.get("hx-refresh")) == (204, None)
    assert (after.status_code, after.headers.get("hx-refresh")) == (204, "true")
    assert 'hx-get="/calls/first"' not in client.get("/calls").text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("detect_interview", "detect_<wbr>interview"),
        ("qwen-plus/2024.1", "qwen-<wbr>plus/<wbr>2024.<wbr>1"),
        ("<b>_&", "&lt;b&gt;_<wbr>&amp;"),
        ("x" * 41, f"{'x' * 20}<wbr>{'x' * 20}<wbr>x"),
        ("", ""),
    ],
)
def test_where_names_may_break(text: str, shown: str) -> None:
    """
    A line ends behind a sign, or within what has none for long; the text stays a text.
    """
    assert breakable(text) == shown
