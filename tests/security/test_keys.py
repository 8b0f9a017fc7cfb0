"""Keys: what authorises a call is found in nothing that the ledger writes, logs or shows."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from ai_ledger import CallRecord, Ledger, TrackedClient, track_ai_usage
from ai_ledger.errors import ConfigurationError, RecordRefused, SinkUnavailable
from ai_ledger.sinks import open_sink
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.testing import Provider

from .canaries import MARKER, canary, contents, found

OPENAI_1 = openai.__version__.startswith("1.")

KEY = canary("key")
HEADERS = {
    "Authorization": f"Gateway {canary('authorization')}",
    "X-Gateway-Pass": canary("header"),
    "Cookie": f"theme=1; session={canary('cookie')}",
}
QUERY = {"key": canary("query"), "signature": canary("signature")}
EXTRA_HEADERS = {"Proxy-Authorization": f"Digest {canary('proxy')}", "X-Once": canary("once")}
EXTRA_BODY = {"api_key": canary("body"), "credentials": {"secret": canary("nested")}}
LOGIN = f"user:{canary('login')}"
PATH = canary("path")

ECHO = " ".join(
    [
        MARKER,
        f"Incorrect API key provided: {KEY}.",
        *(f"{name}: {value}\n" for name, value in {**HEADERS, **EXTRA_HEADERS}.items()),
        *(f"?{name}={value}" for name, value in QUERY.items()),
        f"bare {canary('header')} and {canary('once')} and {canary('query')} and {KEY}",
        f"url https://{LOGIN}@host/{PATH}/v1",
        base64.b64encode(LOGIN.encode()).decode(),
    ]
)
"""What a gateway might answer that tells everything it got."""

LEAKS = {base64.b64encode(LOGIN.encode()).decode()}


LOST = f"postgresql://ledger:{canary('lost')}@db/ai with Authorization: Token {canary('lost')}"
"""What a sink might say that cannot do its work."""


class Refusing:
    """A sink that refuses every record, and quotes it."""

    name = "refusing"

    def write(self, records: Sequence[CallRecord]) -> None:
        raise RecordRefused(f"{LOST} {records[0].to_json().decode()}")


class Away:
    """A sink that is never there, so that the journal keeps everything."""

    name = "away"

    def write(self, records: Sequence[CallRecord]) -> None:
        raise SinkUnavailable(f"{LOST} {records[0].to_json().decode()}")


class Books:
    """One ledger with every kind of sink, and all that came out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/ledger.db"
        self.memory = MemorySink()
        self.ledger = Ledger(
            [self.url, f"jsonl:///{folder}/lines", "stdout:", "stdout:human"],
            sinks=[self.memory, Refusing(), Away()],
            journal=folder / "journal",
            redact=None,
        )

    def wait(self) -> None:
        """Until all but the sink that is away have everything."""
        for _ in range(200):
            self.ledger.flush(0.1)
            pending = {each.name: each.pending for each in self.ledger.health().sinks}
            if not any(count for name, count in pending.items() if name != "away"):
                return
        raise AssertionError(pending)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "books")
    (tmp_path / "books").mkdir()
    yield books
    books.ledger.close(0)


def chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": f"{MARKER} {KEY}"}],
        extra_headers=EXTRA_HEADERS,
        extra_body=EXTRA_BODY,
        **options,
    )


def answered(client: Any, provider: Provider) -> None:
    provider.next(text=f"{MARKER} said {KEY}")
    chat(client)


def streamed(client: Any, provider: Provider) -> None:
    provider.next(text=f"{MARKER} said {KEY}", chunks=1)
    list(chat(client, stream=True))


def refused(client: Any, provider: Provider) -> None:
    provider.next(status=401, message=ECHO)
    with pytest.raises(openai.AuthenticationError):
        chat(client)


def refused_in_raw(client: Any, provider: Provider) -> None:
    provider.next(status=403, message=ECHO)
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.with_raw_response.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": MARKER}],
            extra_headers=EXTRA_HEADERS,
        )


def failed_in_stream(client: Any, provider: Provider) -> None:
    provider.next(error_after=1, message=ECHO)
    with pytest.raises(openai.APIError):
        list(chat(client, stream=True))


def not_json(client: Any, provider: Provider) -> None:
    provider.next(body=ECHO.encode())
    with pytest.raises(Exception):  # noqa: B017  # which one depends on the SDK
        chat(client)


def no_answer(client: Any, provider: Provider) -> None:
    provider.next(hang_up=True)
    with pytest.raises(openai.APIConnectionError):
        chat(client)


def decorated(client: Any, provider: Provider) -> None:
    @track_ai_usage("decorated", "gpt-4o", ledger=client._ai_ledger_tracking.ledger, user_id=MARKER)
    def work() -> None:
        raise RuntimeError(f"{MARKER} https://{LOGIN}@host/ Cookie: {HEADERS['Cookie']}")

    with pytest.raises(RuntimeError):
        work()


WAYS: list[Callable[[Any, Provider], None]] = [
    answered,
    streamed,
    refused,
    refused_in_raw,
    failed_in_stream,
    not_json,
    no_answer,
    decorated,
]


def client_of(provider: Provider, ledger: Ledger) -> Any:
    base_url = f"{provider.base_url}/{PATH}".replace("://", f"://{LOGIN}@")
    provider.on(path="/chat/completions")
    return TrackedClient(
        openai.OpenAI(
            base_url=base_url,
            api_key=KEY,
            default_headers=HEADERS,
            default_query=QUERY,
            max_retries=0,
        ),
        ledger=ledger,
        user_id=MARKER,
    )


@pytest.mark.parametrize("way", WAYS)
def test_no_key_is_left_anywhere(
    way: Callable[[Any, Provider], None],
    books: Books,
    provider: Provider,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Keys sent in any place, and told back by the provider, reach no sink, file, log or screen.
    """
    from ai_ledger.cli.app import run

    caplog.set_level(logging.DEBUG, "ai_ledger")
    with client_of(provider, books.ledger) as client:
        way(client, provider)
        books.wait()
    raw = b"".join(contents(books.folder).values())
    health = repr(books.ledger.health()) + repr(books.ledger)
    (call_id,) = [record.id for record in books.memory.records]
    books.ledger.close(0)
    report = books.folder / "report"
    for arguments in (
        ["calls", "--json"],
        ["show", call_id],
        ["show", call_id, "--json"],
        ["tail", "--no-follow", "--json"],
        ["report", "--by", "error_type", "--json"],
        ["report", "--write", f"{report}.csv"],
        ["report", "--write", f"{report}.json"],
        ["export", f"jsonl:///{books.folder}/exported"],
    ):
        assert run([*arguments, "--url", books.url]) == 0, arguments
    out, err = capfd.readouterr()
    files = contents(books.folder)
    logs = [record.getMessage() for record in caplog.records if record.name.startswith("ai_ledger")]
    texts = [raw, out, err, health, *logs, *files.values(), repr(books.memory.records)]

    assert found(texts) == set()
    assert not [leak for leak in LEAKS for text in texts if leak in str(text)]
    # And the search was worth something: all of these speak of the call.
    kinds = ("ledger.db", "lines/usage", "journal/", "quarantine", "exported", "report")
    for kind in kinds:
        speaking = b"".join(data for name, data in files.items() if kind in name)
        assert MARKER.encode() in (speaking if kind != "journal/" else raw), kind
    assert out.count(MARKER) >= 5
    assert any("refusing refused the call" in line for line in logs)


@pytest.mark.parametrize("kind", ["AsyncOpenAI", "AsyncAzureOpenAI"])
async def test_no_key_is_left_by_async_clients(kind: str, provider: Provider) -> None:
    """
    The same for async clients and for Azure's token.
    """
    options: dict[str, Any] = (
        {"azure_endpoint": provider.url, "azure_ad_token": KEY, "api_version": "2024-10-21"}
        if "Azure" in kind
        else {"base_url": provider.base_url, "api_key": KEY}
    )
    memory = MemorySink()
    with Ledger(sinks=[memory], journal=False) as ledger:
        client = TrackedClient(
            getattr(openai, kind)(default_headers=HEADERS, max_retries=0, **options), ledger=ledger
        )
        # A client of Azure sends its token in place of this header.
        headers = [each for name, each in HEADERS.items() if name != "Authorization"]
        sent = [KEY, *headers, *HEADERS["Cookie"].split("=")]
        provider.next(status=401, message=" ".join([MARKER, *sent]))
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": MARKER}]
            )
        await client.close()
        assert ledger.flush(10)

    assert found([repr(memory.records)]) == set()
    assert MARKER in (memory.records[0].error_message or "")


@pytest.mark.skipif(OPENAI_1, reason="keys that are asked for came with openai 1.106 or later")
def test_a_key_that_is_asked_for_each_time(provider: Provider) -> None:
    """
    A key that a function hands out for each request is known when the request fails.
    """
    memory = MemorySink()
    with Ledger(sinks=[memory], journal=False) as ledger:
        client = TrackedClient(
            openai.OpenAI(base_url=provider.base_url, api_key=lambda: KEY, max_retries=0),
            ledger=ledger,
        )
        provider.next(status=400, message=f"{MARKER} bare {KEY}")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="m", messages=[])
        client.close()
        assert ledger.flush(10)

    assert found([repr(memory.records)]) == set()
    assert f"{MARKER} bare [redacted]" in (memory.records[0].error_message or "")


PASSWORD = canary("password")
URLS = [
    f"postgresql://ledger:{PASSWORD}@127.0.0.1:1/db",
    f"mysql://ledger:{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://ledger:a%2F{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://ledger:a/{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://ledger:a#{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://ledger:[{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://name@tenant:{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://127.0.0.1:1/db?user=ledger&password={PASSWORD}",
]
UNCLEAR = [
    f"postgresql://ledger:a@{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://ledger:a@b:{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://ledger:a?{PASSWORD}@127.0.0.1:1/db",
    f"mysql://127.0.0.1:1/db?user=ledger&password=a@{PASSWORD}",
]


@pytest.mark.parametrize("url", URLS)
def test_no_database_password_is_shown(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """
    A password in the ledger's URL, however it is spelled, is in no name, health, log or error.
    """
    import traceback

    from ai_ledger.cli.app import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    ledger = Ledger(url)
    ledger.record("m", input_tokens=1)
    ledger.flush(0.1)
    told = [repr(ledger), repr(ledger.sinks), repr(ledger.health())]
    try:
        ledger.stats.summary()
    except Exception as error:
        told += traceback.format_exception(error)
    ledger.close(0)
    for arguments in (["report"], ["db", "check"], ["init"], ["doctor", "--form", "no such form"]):
        run([*arguments, "--url", url])
    out, err = capfd.readouterr()

    assert found([*told, out, err, caplog.text, *contents(tmp_path).values()]) == set()
    assert "ledger" in told[0] or "127.0.0.1" in told[0]


@pytest.mark.parametrize("url", UNCLEAR)
def test_a_password_without_a_clear_end_is_refused(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """
    A URL whose password a driver would take for a host is refused, and not quoted.
    """
    from ai_ledger.cli.app import run

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="%40") as refusal:
        Ledger(url)

    for arguments in (["report"], ["db", "check"], ["db", "upgrade"], ["init"]):
        assert run([*arguments, "--url", url]) == 2
    assert found([str(refusal.value), *capfd.readouterr()]) == set()


def test_a_sink_of_a_database_is_named_without_its_password() -> None:
    """
    The name keeps what tells databases apart.
    """
    assert repr(open_sink(URLS[0])) == "SQLSink('postgresql://ledger:***@127.0.0.1:1/db')"
