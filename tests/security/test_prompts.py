"""Prompts: what is not to be stored touches no disk, and what is to be forgotten leaves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from ai_ledger import CallRecord, Ledger, TrackedClient, call_context
from ai_ledger.errors import RecordRefused, SinkUnavailable
from ai_ledger.testing import Provider

from .canaries import MARKER, canary, contents, found

PROMPT, ANSWER, PERSON = canary("prompt"), canary("answer"), canary("person")


class Refusing:
    """A sink that refuses every record, so that the quarantine gets it."""

    def write(self, records: Sequence[CallRecord]) -> None:
        raise RecordRefused(f"no {records[0].request_content}")


class Away:
    """A sink that is never there, so that the journal keeps everything."""

    def write(self, records: Sequence[CallRecord]) -> None:
        raise SinkUnavailable("away")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(text=ANSWER) as provider:
        yield provider


def ledger_in(folder: Path, **options: Any) -> Ledger:
    return Ledger(
        [f"sqlite:///{folder}/ledger.db", f"jsonl:///{folder}/lines"],
        sinks=[Refusing(), Away()],
        journal=folder / "journal",
        **options,
    )


def chat(provider: Provider, ledger: Ledger) -> None:
    client = TrackedClient(
        openai.OpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0), ledger=ledger
    )
    with client, call_context(user_id=PERSON, function=MARKER, plan=PERSON):
        for stream in (False, True):
            answer = client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": PROMPT}], stream=stream
            )
            said = [chunk.choices[0].delta.content or "" for chunk in answer] if stream else []
            assert ANSWER in ("".join(said) or answer.choices[0].message.content)


def settle(ledger: Ledger) -> None:
    """Until all but the sink that is away have everything."""
    for _ in range(200):
        ledger.flush(0.1)
        if not any(each.pending for each in ledger.health().sinks if each.name != "Away"):
            return
    raise AssertionError(ledger.health())


def broken(text: str) -> str:
    raise ValueError(text)


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {"content": "none"},
    "redacted": {"redact": lambda text: text.replace(PROMPT, "").replace(ANSWER, "")},
    "broken": {"redact": broken},
    "no text": {"redact": lambda text: None},
    "hanging": {"redact": lambda text: threading.Event().wait(), "redact_timeout": 0.05},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_not_to_be_stored_touches_no_disk(
    name: str, provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Without content, redacted, or when redaction fails or hangs: the call goes on, no text is kept.
    """
    ledger = ledger_in(tmp_path, **OPTIONS[name])
    began = time.monotonic()
    chat(provider, ledger)
    seconds = time.monotonic() - began
    settle(ledger)
    during = contents(tmp_path)
    texts = {record.response_content for record in ledger.store.calls(_all())}
    ledger.close(0)

    # Of the person there is more to be found: only the texts are at stake here.
    kept = [each for each in found([*during.values(), caplog.text]) if "canaryperson" not in each]
    assert kept == []
    assert seconds < 5
    assert texts == {
        "none": {None},
        "redacted": {""},
    }.get(name, {"[redaction failed]"})
    for kind in ("ledger.db", "lines/", "journal/", "quarantine"):
        assert any(MARKER.encode() in data for file, data in during.items() if kind in file), kind


def test_what_is_forgotten_is_in_no_byte(provider: Provider, tmp_path: Path) -> None:
    """
    Forgetting someone leaves neither name nor text in the store, its log, lines or the journal.
    """
    ledger = ledger_in(tmp_path)
    chat(provider, ledger)
    settle(ledger)
    # A call that will wait in the journal, and one in memory of what is open.
    ledger.record("m", user_id=PERSON, request_content=PROMPT, error_message=PROMPT)
    before = contents(tmp_path)
    erased = ledger.forget(user_id=PERSON)
    settle(ledger)
    after = contents(tmp_path)
    total = ledger.stats.summary()
    ledger.close(0)

    for kind in ("ledger.db", "lines/", ".segment", "quarantine"):
        assert found(data for name, data in before.items() if kind in name), kind
    assert found(after.values()) == set()
    assert found(contents(tmp_path).values()) == set()
    assert (erased, total.calls, total.unattributed_calls) == (6, 3, 3)


def _all() -> Any:
    from ai_ledger.query import Query

    return Query.build(scope=None)
