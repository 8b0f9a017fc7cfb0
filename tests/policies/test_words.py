"""Words as a policy: what is sent, what is refused, who is told, and when the list is away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI

from ai_ledger import TrackedClient
from ai_ledger.errors import (
    AlreadyThere,
    ConfigurationError,
    ContentBlocked,
    EditConflict,
    InvalidValue,
    NotFound,
    SinkUnavailable,
)
from ai_ledger.policies import Words
from ai_ledger.policies.words import WordList, WordSettings, WordsUnavailable
from ai_ledger.policies.words.places import places_of, with_texts
from ai_ledger.policies.words.rows import Draft
from ai_ledger.query import Query
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.testing import Provider, memory_ledger


@pytest.fixture
def words(tmp_path: Path) -> Words:
    """A filter with a list of its own."""
    return Words(f"sqlite:///{tmp_path}/words.db")


def only(ledger: Any) -> CallRecord:
    """The one call on the books."""
    assert ledger.flush(10)
    (record,) = next(ledger.store.scan(Query.build(scope=None)))
    return record


def said(text: str) -> Any:
    """Messages with one text."""
    return [{"role": "user", "content": text}]


def call(**fields: Any) -> CallRecord:
    """A call before it is made."""
    return CallRecord(id=new_id(), started_at=utc_now(), status="unfinished", **fields)


@pytest.mark.parametrize("stream", [False, True])
def test_blocking(words: Words, provider: Provider, stream: bool) -> None:
    """
    Nothing is sent; the exception and the record say which rule, and not the word.
    """
    rule = words.rows.add("秘密计划")
    with (
        memory_ledger(policies=[words], content="none") as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        with pytest.raises(ContentBlocked) as raised:
            client.chat.completions.create(
                model="m", messages=said("说说 秘*密*计*划"), stream=stream
            )
        record = only(ledger)

    assert provider.requests == []
    assert raised.value.rules == (rule.id,)
    assert (record.status, record.error_type) == ("blocked", "ContentBlocked")
    assert record.error_message == f"blocked by word {rule.id}"
    assert "秘" not in str(raised.value)


@pytest.mark.parametrize("stream", [False, True])
def test_replacing(words: Words, provider: Provider, stream: bool) -> None:
    """
    The provider sees the other text; the caller's own objects stay as they were.
    """
    rule = words.rows.add("秘密计划", action="replace", replacement="某事")
    messages = [
        {"role": "system", "content": "秘密计划"},
        {"role": "user", "content": [{"type": "text", "text": "讲 秘密 计划。"}]},
    ]
    before = json.dumps(messages)
    with (
        memory_ledger(policies=[words]) as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        answer: Any = client.chat.completions.create(model="m", messages=messages, stream=stream)  # type: ignore[call-overload]
        if stream:
            list(answer)
        record = only(ledger)

    body = provider.requests[0].body
    assert body["messages"][0]["content"] == "某事"
    assert body["messages"][1]["content"][0]["text"] == "讲 某事。"
    assert json.dumps(messages) == before
    assert record.tags == {"ai_ledger.words_replaced": str(rule.id)}
    assert "秘密" not in (record.request_content or "")


def test_warning(words: Words, provider: Provider) -> None:
    """
    What is sent stays, and the record carries the rules.
    """
    first = words.rows.add("watch this", action="warn")
    second = words.rows.add("这个", action="warn")
    with (
        memory_ledger(policies=[words]) as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        client.chat.completions.create(model="m", messages=said("WATCH  THIS 这个"))
        record = only(ledger)

    assert provider.requests[0].body["messages"][0]["content"] == "WATCH  THIS 这个"
    assert record.tags == {"ai_ledger.words": f"{first.id},{second.id}"}


@pytest.mark.parametrize("stream", [False, True])
def test_coroutines(words: Words, provider: Provider, stream: bool) -> None:
    """
    Asynchronous clients are treated alike.
    """
    words.rows.add("苹果", action="replace", replacement="水果")
    rule = words.rows.add("idiot")

    async def main() -> None:
        async with TrackedClient(
            AsyncOpenAI(base_url=provider.url, api_key="k"), ledger=ledger
        ) as client:
            answer: Any = await client.chat.completions.create(
                model="m", messages=said("苹 果"), stream=stream
            )
            if stream:
                async for _ in answer:
                    pass
            with pytest.raises(ContentBlocked) as raised:
                await client.chat.completions.create(
                    model="m", messages=said("i.d.i.o.t"), stream=stream
                )
            assert raised.value.rules == (rule.id,)

    with memory_ledger(policies=[words]) as ledger:
        asyncio.run(main())
    assert [each.body["messages"][0]["content"] for each in provider.requests] == ["水果"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("answers", [False, True])
def test_answers(
    words: Words, provider: Provider, *, answers: bool, asynchronous: bool, stream: bool
) -> None:
    """
    The record of an answer that has words is marked if that was asked for, and nothing is lost.
    """
    rules = [words.rows.add("机密 计划", action="warn").id, words.rows.add("falcon").id]
    words.rows.add("absent", action="warn")
    policy = Words(words.rows.url, answers=answers)
    policy.reload()
    # Cut in the middle of both words when it is streamed.
    provider.default = replace(provider.default, text="about 机 密计划 and F-A-L-C-O-N", chunks=9)
    with memory_ledger(policies=[policy]) as ledger:
        got = asyncio.run(answered(provider, ledger, asynchronous=asynchronous, stream=stream))
        record = only(ledger)

    assert got == record.response_content
    assert got.startswith("about 机 密计划 and F-A-L-C-O-N")
    assert (record.status, record.streamed) == ("success", stream)
    marks = {"ai_ledger.words_in_answer": f"{rules[0]},{rules[1]}"} if answers else {}
    assert record.tags == marks


async def answered(provider: Provider, ledger: Any, *, asynchronous: bool, stream: bool) -> str:
    """What a client reads of one answer."""
    arguments: Any = {"model": "m", "messages": said("x"), "stream": stream}
    parts: list[str] = []
    if asynchronous:
        async with TrackedClient(
            AsyncOpenAI(base_url=provider.url, api_key="k"), ledger=ledger
        ) as client:
            answer: Any = await client.chat.completions.create(**arguments)
            if not stream:
                return answer.choices[0].message.content
            async for chunk in answer:
                parts += [each.delta.content or "" for each in chunk.choices]
        return "".join(parts)
    with TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client:
        answer = client.chat.completions.create(**arguments)
        if not stream:
            return answer.choices[0].message.content
        for chunk in answer:
            parts += [each.delta.content or "" for each in chunk.choices]
    return "".join(parts)


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "falcon",
            "description": "Looks up Falcon.",
            "parameters": {
                "type": "object",
                "properties": {
                    "falcon": {"type": "string", "description": "f a l c o n", "enum": ["falcon"]},
                    "description": {"type": "string", "examples": ["falcon"]},
                },
                "required": ["falcon"],
            },
        },
    }
]
TOOL_CALL = {
    "id": "falcon",
    "type": "function",
    "function": {"name": "falcon", "arguments": '{"falcon": "the FALCON"}'},
}


@pytest.mark.parametrize("stream", [False, True])
def test_tools_over_http(words: Words, provider: Provider, stream: bool) -> None:
    """
    Descriptions and arguments are sent in other words; names, ids and choices as they were.
    """
    words.rows.add("falcon", action="replace", replacement="x")
    messages: Any = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "fal"}, {"type": "text", "text": "con"}],
        },
        {"role": "user", "content": [{"type": "text", "text": "a falcon"}]},
        {"role": "assistant", "tool_calls": [TOOL_CALL]},
        {"role": "tool", "tool_call_id": "falcon", "content": "one falcon"},
    ]
    before = json.dumps([messages, TOOLS])
    with (
        memory_ledger(policies=[words]) as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        answer: Any = client.chat.completions.create(
            model="m", messages=messages, tools=cast("Any", TOOLS), stream=stream
        )
        if stream:
            list(answer)
        assert only(ledger).status == "success"

    body = provider.requests[0].body
    function = body["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("falcon", "Looks up x.")
    assert function["parameters"]["required"] == ["falcon"]
    assert function["parameters"]["properties"] == {
        "falcon": {"type": "string", "description": "x", "enum": ["falcon"]},
        "description": {"type": "string", "examples": ["x"]},
    }
    assert [each.get("content") for each in body["messages"]] == [
        [{"type": "text", "text": "fal"}, {"type": "text", "text": "con"}],
        [{"type": "text", "text": "a x"}],
        None,
        "one x",
    ]
    sent = body["messages"][2]["tool_calls"][0]
    assert (sent["id"], sent["function"]["name"]) == ("falcon", "falcon")
    assert json.loads(sent["function"]["arguments"]) == {"falcon": "the x"}
    assert json.dumps([messages, TOOLS]) == before


@pytest.mark.parametrize("place", ["tools", "arguments", "content"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_is_blocked_before_anything_is_sent(
    words: Words, provider: Provider, place: str, *, asynchronous: bool
) -> None:
    """
    Wherever the word stands, and not only when the stream is read.
    """
    rule = words.rows.add("falcon")
    arguments: Any = {"model": "m", "messages": said("x"), "stream": True}
    arguments |= {
        "tools": {"tools": TOOLS},
        "arguments": {"messages": [{"role": "assistant", "tool_calls": [TOOL_CALL]}]},
        "content": {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "falcon"}]}]
        },
    }[place]

    async def main() -> None:
        async with TrackedClient(
            AsyncOpenAI(base_url=provider.url, api_key="k"), ledger=ledger
        ) as client:
            await client.chat.completions.create(**arguments)

    with (
        memory_ledger(policies=[words]) as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        with pytest.raises(ContentBlocked) as raised:
            if asynchronous:
                asyncio.run(main())
            else:
                client.chat.completions.create(**arguments)
        record = only(ledger)

    assert raised.value.rules == (rule.id,)
    assert provider.requests == []
    assert (record.status, record.streamed, record.cost) == ("blocked", True, None)


PLACES = {
    "messages": [
        {"role": "user", "name": "X", "content": "1X"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "2X"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,X"}},
                {"type": "input_audio", "input_audio": {"data": "X", "format": "X"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "X", "type": "X", "function": {"name": "X", "arguments": '{"a": "3X"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "X", "content": "4X"},
        {"role": "user", "content": [{"type": "tool_use", "id": "X", "input": {"q": "5X"}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "X", "content": "6X"}],
        },
    ],
    "input": ["7X", {"role": "X", "content": [{"type": "input_text", "text": "8X"}]}],
    "instructions": "9X",
    "prompt": {"id": "X", "variables": {"city": "10X", "X": {"type": "X", "text": "11X"}}},
    "system": [{"type": "text", "text": "12X", "cache_control": {"type": "X"}}],
    "tools": [
        {"type": "X", "name": "X", "description": "13X", "input_schema": {"title": "14X"}},
        {"type": "mcp", "server_url": "X", "headers": {"X": "X"}, "server_description": "15X"},
    ],
    "response_format": {"json_schema": {"name": "X", "schema": {"description": "16X"}}},
    "text": {"format": {"name": "X", "schema": {"properties": {"X": {"description": "17X"}}}}},
    "contents": [
        {"type": "document", "title": "18X", "source": {"type": "text", "data": "19X"}},
        {"type": "document", "source": {"type": "base64", "data": "X"}},
    ],
    "model": "X",
    "user": "X",
    "metadata": {"X": "X"},
    "stop": ["X"],
}


def test_the_places_of_a_request() -> None:
    """
    Every text that a person may have written, and no key, id, name, address or data.
    """
    texts = [place.text for place in places_of(PLACES)]

    assert [text for text in texts if "X" in text and len(text) > 1] == [
        "1X", "2X", "3X", "4X", "5X", "6X", "7X", "8X", "9X", "10X", "11X", "12X",
        "13X", "14X", "15X", "16X", "17X", "18X", "19X",
    ]  # fmt: skip


def test_other_texts_in_their_places() -> None:
    """
    Only what is on the way to a changed text is copied.
    """
    before = json.dumps(PLACES)
    path = ("messages", 1, "content", 0, "text")

    changed = with_texts(PLACES, {path: "new"})

    assert changed["messages"][1]["content"][0] == {"type": "text", "text": "new"}
    assert changed["messages"][0] is PLACES["messages"][0]
    assert json.dumps(PLACES) == before


def test_json_stays_json(words: Words) -> None:
    """
    A replacement inside of the arguments of a tool is written as JSON has it.
    """
    words.rows.add("falcon", action="replace", replacement='a "bird"\n')
    message = {"tool_calls": [{"function": {"arguments": '{"q": "falcon"}'}}]}

    revision = words.check(call(), {"messages": [message]})

    assert revision is not None
    assert revision.request is not None
    arguments = revision.request["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"q": 'a "bird"\n'}


@pytest.mark.parametrize(
    "message",
    [
        {
            "tool_calls": [
                {"function": {"arguments": json.dumps({"q": ["a", {"敏感词": "敏感词"}]})}}
            ]
        },
        {"role": "tool", "content": json.dumps({"q": ["a", {"敏感词": "敏感词"}]})},
    ],
)
def test_escapes_of_json(words: Words, message: Any) -> None:
    """
    A letter that is written as JSON may write it is that letter; keys stay.
    """
    words.rows.add("敏感词", action="replace", replacement='"b"')

    revision = words.check(call(), {"messages": [message]})

    assert revision is not None
    assert revision.request is not None
    sent = revision.request["messages"][0]
    text = sent["content"] if "content" in sent else sent["tool_calls"][0]["function"]["arguments"]
    assert json.loads(text) == {"q": ["a", {"敏感词": '"b"'}]}


@pytest.mark.parametrize(
    "arguments", ['{"q": "falcon', '{"q": "falcon", "q": "y"}', '"falcon"', "falcon"]
)
def test_what_is_no_plain_json_is_looked_through_as_text(words: Words, arguments: str) -> None:
    """
    What is cut short, or has a key twice, so that its meaning depends on who reads it.
    """
    words.rows.add("falcon")
    message = {"tool_calls": [{"function": {"arguments": arguments}}]}

    with pytest.raises(ContentBlocked):
        words.check(call(), {"messages": [message]})


def test_embeddings_and_parts(words: Words) -> None:
    """
    Texts of a list are apart from each other; parts of one message are not.
    """
    rule = words.rows.add("敏感词")

    assert words.check(call(), {"input": ["敏", "感词"]}) is None
    parts = [{"type": "text", "text": "敏"}, {"type": "text", "text": "感词"}]
    with pytest.raises(ContentBlocked) as raised:
        words.check(call(), {"messages": [{"role": "user", "content": parts}]})
    assert raised.value.rules == (rule.id,)


def test_messages_that_are_models(words: Words, provider: Provider) -> None:
    """
    An answer's message handed back as it came is looked through as well.
    """
    words.rows.add("banana", action="replace", replacement="fruit")
    with (
        memory_ledger(policies=[words]) as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        answer = client.chat.completions.create(model="m", messages=said("x"))
        message = answer.choices[0].message
        message.content = "a banana"
        client.chat.completions.create(model="m", messages=[*said("y"), message])

    assert provider.requests[-1].body["messages"][1]["content"] == "a fruit"
    assert message.content == "a banana"


def test_a_body_nested_too_deep(words: Words) -> None:
    """
    Is refused, since it cannot be looked through.
    """
    words.rows.add("敏感词")
    body: Any = "x"
    for _ in range(5_000):
        body = {"content": [body]}

    with pytest.raises(WordsUnavailable):
        words.check(call(), {"messages": [body]})
    assert words.incidents() == {"the word filter failed": 1}


def test_what_replacing_puts_together_is_blocked(words: Words) -> None:
    """
    A word that blocks, made by taking another one out of its middle.
    """
    blocking = words.rows.add("敏感词")
    words.rows.add("苹果", action="replace", replacement="")

    with pytest.raises(ContentBlocked) as raised:
        words.check(call(), {"input": "敏苹果感词"})
    assert raised.value.rules == (blocking.id,)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.text("敏感词苹果 x*", max_size=20), st.sampled_from([None, "a", "b", "c"]))
def test_tenants_stay_apart(tmp_path: Path, text: str, org: str | None) -> None:
    """
    The words of one organisation change nothing for another one, or for calls without one.
    """
    words = Words(f"sqlite:///{tmp_path}/words.db")
    if not words.rows.list(everybody=True):
        words.rows.add("敏感", org_id="a", action="warn")
        words.rows.add("敏感", org_id="b", action="warn")
        words.rows.add("苹果", action="warn")
    whose = {each.org_id for each in words.find(text, org)}

    assert whose <= {None, org}
    assert {each.rule for each in words.find(text, "c")} == {each.rule for each in words.find(text)}


# The list


def test_the_list(sql_url: str) -> None:
    """
    Added, read, edited, removed, with who and when, on every database.
    """
    rows = WordList(sql_url)
    first = rows.add("敏感词", by="ann", variants=True, note="n")
    second = rows.add("敏感词", org_id="acme", action="replace", replacement="x")
    upper = rows.add("ABC")
    lower = rows.add("abc")

    assert rows.get(first.id) == first
    assert [each.id for each in rows.list()] == [first.id, upper.id, lower.id]
    assert [each.id for each in rows.list(org_id="acme")] == [second.id]
    assert len(rows.list(everybody=True)) == 4
    assert [each.id for each in rows.list(contains="感")] == [first.id]
    changed = rows.edit(first.id, version=1, by="bob", action="warn")
    assert (changed.version, changed.updated_by, changed.created_by) == (2, "bob", "ann")
    assert rows.get(first.id) == changed
    with pytest.raises(EditConflict):
        rows.edit(first.id, version=1, action="block")
    with pytest.raises(AlreadyThere):
        rows.add("敏感词")
    with pytest.raises(AlreadyThere):
        rows.edit(upper.id, word="abc")
    rows.remove(lower.id, by="eve")
    with pytest.raises(NotFound):
        rows.get(lower.id)
    assert [each.changed_by for each in rows.history(first.id)] == ["bob", "ann"]
    assert rows.history(lower.id)[0].after is None
    assert rows.add("new").id > lower.id
    assert rows.settings().fuzzy is True
    assert rows.set_fuzzy(False, by="ann").version == 1
    assert (rows.settings().fuzzy, rows.settings().updated_by) == (False, "ann")
    with pytest.raises(EditConflict):
        rows.set_fuzzy(True, version=0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"word": ""}, "word", id="empty"),
        pytest.param({"word": "x" * 101}, "word", id="too long"),
        pytest.param({"word": "***"}, "word", id="punctuation"),
        pytest.param({"word": "\u200b"}, "word", id="invisible"),
        pytest.param({"word": ".*敏感"}, "word", id="any text before"),
        pytest.param({"word": "(a+)+$"}, "word", id="repeated groups"),
        pytest.param({"word": r"\d+"}, "word", id="digits"),
        pytest.param({"word": "敏感|违规"}, "word", id="alternatives"),
        pytest.param({"word": "[a-z]x"}, "word", id="a class"),
        pytest.param({"word": "敏感", "match": "regex"}, "match", id="unknown match"),
        pytest.param({"word": "敏感", "action": "delete"}, "action", id="unknown action"),
        pytest.param({"word": "敏感", "active": "yes"}, "active", id="no boolean"),
        pytest.param({"word": "感", "match": "fuzzy"}, "match", id="fuzzy and too short"),
        pytest.param({"word": "敏感", "replacement": "x"}, "replacement", id="not replaced"),
        pytest.param(
            {"word": "敏感", "action": "replace", "replacement": "敏*感"}, "replacement",
            id="replaced by itself",
        ),
        pytest.param({"word": "敏感", "colour": 1}, "colour", id="unknown field"),
    ],
)  # fmt: skip
def test_bad_words(words: Words, fields: dict[str, Any], field: str) -> None:
    """
    Refused with the field's name, and nothing is written.
    """
    with pytest.raises(InvalidValue) as raised:
        words.rows.add(fields.pop("word"), **fields)

    assert raised.value.field == field
    assert words.rows.list(everybody=True) == []
    assert words.rows.generation() == 0


@pytest.mark.parametrize("word", [".*敏感", "a|b"])
def test_literal_words(words: Words, word: str) -> None:
    """
    What looks like an expression may be meant letter for letter, and can be edited then.
    """
    added = words.rows.add(word, literal=True)

    assert words.rows.edit(added.id, action="warn").word == word


@pytest.mark.parametrize("word", ["C++", "a.b", "what?", "$$$ money", "50% off", "F*** you", "1+1"])
def test_words_with_punctuation(words: Words, word: str) -> None:
    """
    Punctuation alone makes no regular expression.
    """
    words.rows.add(word)

    assert len(words.find(f"x {word} y")) == 1


# Reloading


def test_edits_of_this_process_apply_at_once(words: Words) -> None:
    """
    The call after an edit is checked by the new list.
    """
    assert words.find("敏感词") == ()
    rule = words.rows.add("敏感词")
    assert words.find("敏感词").rules() == (rule.id,)
    WordList(words.rows.url).edit(rule.id, active=False)
    assert words.find("敏感词") == ()
    words.rows.edit(rule.id, active=True, match="fuzzy")
    assert words.find("民感词").rules() == (rule.id,)
    words.rows.set_fuzzy(False)
    assert words.find("民感词") == ()


def test_edits_of_others_apply_after_a_while(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Noticed in the background; meanwhile the old list is used.
    """
    quick = Words(words.rows.url, poll_s=0.01)
    quick.reload()
    monkeypatch.setattr("ai_ledger.policies.words.store.on_change", [])
    rule = words.rows.add("敏感词")

    async def until_found() -> None:
        while not quick.find("敏感词"):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(until_found(), 60))
    assert quick.find("敏感词").rules() == (rule.id,)


EDIT = """
import sys
from ai_ledger.policies.words import WordList
words = WordList(sys.argv[1])
words.add("另一个词") if sys.argv[2] == "add" else words.edit(int(sys.argv[2]), active=False)
"""


def test_edits_of_another_process_apply_after_a_while(words: Words) -> None:
    """
    A word that it adds is found, and one that it switches off is not any more.
    """
    rule = words.rows.add("敏感词")
    quick = Words(words.rows.url, poll_s=0.01)
    quick.reload()
    assert quick.find("敏感词 另一个词").rules() == (rule.id,)

    async def until(rules: int) -> None:
        while len(quick.find("敏感词 另一个词")) != rules:
            await asyncio.sleep(0.01)

    for what, rules in (("add", 2), (str(rule.id), 1)):
        subprocess.run([sys.executable, "-c", EDIT, words.rows.url, what], check=True, timeout=120)
        asyncio.run(asyncio.wait_for(until(rules), 60))
    assert quick.find("敏感词") == ()
    assert quick.incidents() == {}


def held_load(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The next reading of a list ends only when the second event is set; the first: it has read."""
    has_read, may_end = threading.Event(), threading.Event()
    load = WordList.load

    def slow(rows: WordList) -> Any:
        read = load(rows)
        if not has_read.is_set():
            has_read.set()
            assert may_end.wait(60)
        return read

    monkeypatch.setattr(WordList, "load", slow)
    return has_read, may_end


def test_a_reading_that_began_before_an_edit_does_not_undo_it(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the background brings late is older than what is there, and not used.
    """
    own = Words(words.rows.url, poll_s=3_600)
    has_read, may_end = held_load(monkeypatch)
    behind = own._list.soon()
    assert behind is not None
    assert has_read.wait(60)
    rule = words.rows.add("敏感词")
    own.reload()
    assert own.find("敏感词").rules() == (rule.id,)
    may_end.set()
    assert behind.wait(60)

    assert own.find("敏感词").rules() == (rule.id,)
    assert own.generation == 1


def test_an_edit_during_the_first_reading_applies(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The list that was read first is known to be too old.
    """
    has_read, may_end = held_load(monkeypatch)
    words._list.soon()
    assert has_read.wait(60)
    rule = words.rows.add("敏感词")
    may_end.set()

    assert words.find("敏感词").rules() == (rule.id,)


def test_a_restored_backup_is_used(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Its number is lower than that of the list in use, and it is the newer one.
    """
    words.rows.add("敏感词")
    words.reload()
    monkeypatch.setattr(WordList, "load", lambda _: (0, WordSettings(), []))
    words.reload()

    assert (words.generation, words.find("敏感词")) == (0, ())


def test_a_review_waits_for_nothing(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A finalizer may bring it in the middle of anything in this thread: with each lock held.
    """
    policy = Words(words.rows.url, answers=True, poll_s=0.001)
    rule = words.rows.add("敏感词", action="warn")
    policy.reload()
    words.rows.add("另一个词", action="warn")
    load, generation = WordList.load, WordList.generation
    marks: list[Any] = []
    ending = threading.Thread(target=lambda: marks.append(policy.review(call(), "敏感词")))

    def elsewhere(ask: Any) -> Any:
        def asked(rows: WordList) -> Any:
            assert threading.current_thread() is not ending, "the database was asked"
            return ask(rows)

        return asked

    monkeypatch.setattr(WordList, "load", elsewhere(load))
    monkeypatch.setattr(WordList, "generation", elsewhere(generation))
    parts = [*vars(policy).values(), *vars(policy._list).values()]
    locks = [part for part in parts if hasattr(part, "acquire")]
    assert locks
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        ending.start()
        ending.join(60)
        assert marks == [{"ai_ledger.words_in_answer": str(rule.id)}]


def test_a_review_without_a_list_waits_for_none(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It says that there is none, while one is being loaded.
    """
    policy = Words(words.rows.url, answers=True)
    has_read, may_end = held_load(monkeypatch)
    loading = policy._list.soon()
    assert loading is not None
    assert has_read.wait(60)
    with pytest.raises(WordsUnavailable):
        policy.review(call(), "敏感词")
    may_end.set()
    assert loading.wait(60)


def test_a_review_asks_for_the_list_in_the_background(words: Words) -> None:
    """
    The edit that it has not seen is there some time after.
    """
    policy = Words(words.rows.url, answers=True, poll_s=0.001)
    policy.reload()
    rule = words.rows.add("敏感词", action="warn")

    async def until_marked() -> dict[str, str]:
        while not (marks := policy.review(call(), "敏感词")):
            await asyncio.sleep(0.01)
        return marks

    marks = asyncio.run(asyncio.wait_for(until_marked(), 60))
    assert marks == {"ai_ledger.words_in_answer": str(rule.id)}


def test_the_loop_reads_no_database(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Neither after an edit, nor when another one comes while the list is read in a thread.
    """
    words.rows.add("敏感词")
    words.reload()
    words.edited(words.rows.url)
    load = WordList.load
    threads: list[int] = []

    def edited_meanwhile(rows: WordList) -> Any:
        threads.append(threading.get_ident())
        read = load(rows)
        words.edited(rows.url)
        return read

    monkeypatch.setattr(WordList, "load", edited_meanwhile)

    async def main() -> None:
        with pytest.raises(ContentBlocked):
            await words.acheck(call(), {"input": "敏感词"})
        assert threads
        assert threading.get_ident() not in threads

    asyncio.run(main())


def test_a_database_that_is_away_is_not_asked_by_each_call(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After an edit that cannot be read, calls go on with what is there for a while.
    """
    own = Words(words.rows.url, poll_s=3_600)
    own.reload()
    asked: list[WordList] = []

    def away(rows: WordList) -> Any:
        asked.append(rows)
        raise SinkUnavailable("gone")

    monkeypatch.setattr(WordList, "load", away)
    own.edited(own.rows.url)
    for _ in range(3):
        assert own.find("x") == ()
    assert len(asked) == 1


def test_edits_that_change_nothing_tell_nobody(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The number stays, and no process reads the list anew.
    """
    rule = words.rows.add("敏感词", action="warn")
    told: list[str] = []
    monkeypatch.setattr("ai_ledger.policies.words.store.on_change", [told.append])

    assert words.rows.edit(rule.id, action="warn") == rule
    assert words.rows.set_fuzzy(True) == WordSettings()
    assert words.rows.put([Draft(word="敏感词", action="warn")]) == ["unchanged"]
    assert words.rows.put([Draft(word="另一个词")], rehearse=True) == ["added"]
    assert (words.rows.generation(), told) == (1, [])
    assert len(words.rows.history(rule.id)) == 1


@pytest.mark.parametrize("by", ["", " ", 5])
def test_whoever_edits_has_a_name(words: Words, by: Any) -> None:
    """
    Or leaves it out; nothing is written for anybody else.
    """
    rule = words.rows.add("敏感词", by=None)
    edits: list[Any] = [
        lambda: words.rows.add("x", by=by),
        lambda: words.rows.edit(rule.id, by=by, active=False),
        lambda: words.rows.remove(rule.id, by=by),
        lambda: words.rows.set_fuzzy(False, by=by),
        lambda: words.rows.put([Draft(word="x")], by=by),
    ]
    for edit in edits:
        with pytest.raises(InvalidValue) as raised:
            edit()
        assert raised.value.field == "by"
    assert words.rows.list() == [rule]
    assert words.rows.generation() == 1


def test_numbers_that_no_database_holds(sql_url: str) -> None:
    """
    Are told by name on every database, before it is asked.
    """
    rows = WordList(sql_url)
    for limit in (0, -1, 10**30, True, "5"):
        with pytest.raises(InvalidValue, match="limit"):
            rows.list(limit=cast("Any", limit))
    for after in (-1, 2**70, "5"):
        with pytest.raises(InvalidValue, match="after"):
            rows.list(after=cast("Any", after))
    for id in (2**70, -(2**70), 2**63 - 1, 0, True, "1"):
        for ask in (rows.get, rows.remove, rows.edit):
            with pytest.raises(NotFound):
                ask(cast("Any", id))


def test_without_words_nothing_is_looked_through(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nor for those whom no word concerns.
    """
    words.rows.add("敏感词", org_id="acme")
    words.rows.add("inactive", active=False)
    words.reload()

    def refuse(*_: object) -> None:
        raise AssertionError("the body was looked through")

    monkeypatch.setattr("ai_ledger.policies.words.policy.places_of", refuse)
    assert words.check(call(), {"input": "敏感词"}) is None
    assert words.check(call(org_id="other"), {"input": "敏感词"}) is None
    with pytest.raises(WordsUnavailable):
        words.check(call(org_id="acme"), {"input": "敏感词"})


class FrozenDict(dict[str, Any]):
    """A mapping that nobody may change, nor copy in depth."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise AssertionError("the caller's object was changed")

    __setitem__ = __delitem__ = __ior__ = __deepcopy__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse


class FrozenList(list[Any]):
    """A list that nobody may change, nor copy in depth."""

    __setitem__ = __delitem__ = __iadd__ = __deepcopy__ = FrozenDict._refuse
    append = extend = insert = pop = remove = clear = sort = reverse = FrozenDict._refuse


def frozen(value: Any) -> Any:
    """*value* of things that nobody may change."""
    if isinstance(value, dict):
        return FrozenDict({key: frozen(each) for key, each in value.items()})
    return FrozenList(map(frozen, value)) if isinstance(value, list) else value


def test_the_body_is_neither_copied_nor_changed(words: Words) -> None:
    """
    What no word is in is the caller's own in the other body as well.
    """
    assert words.reads_only
    words.rows.add("falcon", action="replace", replacement="x")
    words.rows.add("bird", action="warn")
    plain = {"messages": [*said("a falcon and a bird"), {"tool_calls": [TOOL_CALL]}, *said("y")]}
    body = frozen({**plain, "tools": TOOLS})

    revision = words.check(call(), body)

    assert revision is not None
    assert revision.request is not None
    assert revision.request["messages"][0]["content"] == "a x and a bird"
    assert revision.request["messages"][2] is body["messages"][2]
    assert body == {**plain, "tools": TOOLS}


def test_the_usual_call_asks_nobody(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Within the two seconds no database is spoken to.
    """
    rested = Words(words.rows.url, poll_s=3_600)
    rested.rows.add("敏感词")
    rested.find("x")

    def refuse(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(WordList, "load", refuse)
    monkeypatch.setattr(WordList, "generation", refuse)
    for _ in range(100):
        assert rested.find("敏感词")
    assert rested.incidents() == {}


def test_a_database_that_is_away_keeps_the_last_list(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The list in use stays, and the trouble is counted.
    """
    words.rows.add("敏感词")
    words.reload()

    def away(*_: object) -> None:
        raise SinkUnavailable("gone")

    monkeypatch.setattr(WordList, "load", away)
    words.edited(words.rows.url)

    with pytest.raises(ContentBlocked):
        words.check(call(), {"input": "敏感词"})
    assert words.incidents() == {"the list of words could not be read again": 1}


@pytest.mark.parametrize("choice", ["refuse", "allow"])
def test_a_list_that_was_never_loaded(provider: Provider, choice: Any) -> None:
    """
    The call is refused or let through, as was said, and it is counted.
    """
    words = Words("postgresql://nobody@127.0.0.1:1/none", on_unavailable=choice)
    with (
        memory_ledger(policies=[words]) as ledger,
        TrackedClient(OpenAI(base_url=provider.url, api_key="k"), ledger=ledger) as client,
    ):
        if choice == "refuse":
            with pytest.raises(WordsUnavailable):
                client.chat.completions.create(model="m", messages=said("x"))
        else:
            client.chat.completions.create(model="m", messages=said("x"))
        record = only(ledger)
        noted = ledger.health().incidents if hasattr(ledger.health(), "incidents") else {}

    assert record.status == ("blocked" if choice == "refuse" else "success")
    assert len(provider.requests) == (choice == "allow")
    assert any("words" in reason for reason in {**words.incidents(), **noted})


@pytest.mark.parametrize("choice", ["refuse", "allow"])
def test_a_filter_that_fails(
    words: Words, choice: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Whatever breaks in it, the gate is as was said; the log has no word of the prompt.
    """
    failing = Words(words.rows.url, on_unavailable=choice)
    failing.rows.add("敏感词")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("about the 秘密")

    monkeypatch.setattr("ai_ledger.policies.words.policy.hits_in", broken)
    if choice == "refuse":
        with pytest.raises(WordsUnavailable):
            failing.check(call(), {"input": "秘密"})
    else:
        assert failing.check(call(), {"input": "秘密"}) is None
    assert failing.incidents() == {"the word filter failed": 1}
    assert "秘密" not in caplog.text


def test_a_ledger_says_where_the_list_is(tmp_path: Path, provider: Provider) -> None:
    """
    Without an address the words are those in the ledger's own database.
    """
    from ai_ledger import Ledger

    words = Words()
    with pytest.raises(ConfigurationError):
        _ = words.rows
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[words]) as ledger:
        rule = WordList(ledger).add("敏感词")
        assert words.find("敏感词").rules() == (rule.id,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_filters_with_what_it_has(words: Words) -> None:
    """
    With the parent's list, its own locks, and its own edits.
    """
    words.rows.add("敏感词")
    assert words.find("敏感词")
    elsewhere = ThreadPoolExecutor(1)
    elsewhere.submit(words._list._turn.acquire).result(60)
    elsewhere.submit(words._list._counting.acquire).result(60)
    child = os.fork()
    if child == 0:
        try:
            found = bool(words.find("敏感词"))
            words.rows.add("另一个词")
            found = found and bool(words.find("另一个词"))
        except BaseException:
            found = False
        os._exit(0 if found else 1)
    elsewhere.submit(words._list._counting.release).result(60)
    elsewhere.submit(words._list._turn.release).result(60)
    elsewhere.shutdown()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_options_that_cannot_be() -> None:
    """
    Refused when the filter is made.
    """
    with pytest.raises(ConfigurationError):
        Words("sqlite:///x.db", on_unavailable="maybe")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        Words(memory_ledger())
