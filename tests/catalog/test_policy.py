"""The catalogue as a policy: what is switched off is refused, at hardly any cost."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from ai_ledger import Ledger, Policy, TrackedClient
from ai_ledger.catalog import Catalog, guard
from ai_ledger.errors import ConfigurationError, ModelNotAllowed
from ai_ledger.records import CallRecord, new_id, utc_now
from ai_ledger.testing import Provider, memory_ledger
from ai_ledger.testing.clock import FakeClock

MARKED = {"ai_ledger.catalog": "unchecked"}
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def call(
    model: str | None = "m", provider: str | None = None, host: str | None = None
) -> CallRecord:
    return CallRecord(
        id=new_id(),
        started_at=utc_now(),
        request_model=model,
        provider=provider,
        server_address=host,
    )


def allows(catalog: Catalog, *about: str | None) -> bool:
    try:
        catalog.check(call(*about), None)
    except ModelNotAllowed:
        return False
    return True


async def test_any_tracked_client(catalog: Catalog, sql_url: str, provider: Provider) -> None:
    """
    Handed to a ledger, it refuses what is switched off, whoever made the client.
    """
    assert isinstance(catalog, Policy)
    catalog.add_provider("house")
    catalog.add_model("m", provider="house")
    with Ledger(sql_url, policies=[catalog]) as ledger:
        client = TrackedClient(OpenAI(base_url=provider.base_url, api_key="k"), ledger=ledger)
        chat = client.chat.completions
        chat.create(model="m", messages=MESSAGES)
        catalog.disable_model("m")
        with pytest.raises(ModelNotAllowed, match="model 'm' is disabled"):
            chat.create(model="m", messages=MESSAGES)
        chat.create(model="unheard-of", messages=MESSAGES)
        async with AsyncOpenAI(base_url=provider.base_url, api_key="k") as bare:
            other = TrackedClient(bare, ledger=ledger)
            with pytest.raises(ModelNotAllowed):
                await other.chat.completions.create(model="M", messages=MESSAGES)
        with pytest.raises(ModelNotAllowed), ledger.call("m"):
            pytest.fail("the call was made")

    assert [each.body["model"] for each in provider.requests] == ["m", "unheard-of"]


@pytest.mark.parametrize(
    ("about", "allowed"),
    [
        (("m", None, None), False),
        (("M", "house", None), False),
        (("m", "elsewhere", None), False),
        (("m", "other", None), True),
        (("m", "OTHER", None), True),
        (("m", None, "api.other.example"), True),
        (("n", None, None), True),
        (("n", "closed", None), False),
        (("n", None, "api.closed.example"), False),
        (("n", None, "api.closed.example."), False),
        (("of-closed", None, None), False),
        (("of-closed", "house", None), True),
        ((None, "closed", None), False),
        ((None, None, None), True),
        (("n", None, "127.0.0.1"), True),
    ],
)
def test_who_is_meant(about: Any, allowed: bool, tmp_path) -> None:
    """
    A model is known by its name, unless the call goes to another provider of the catalogue.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("house")
    catalog.add_provider("other", settings={"base_url": "https://api.other.example/v1"})
    catalog.add_provider("closed", status="disabled")
    catalog.add_provider("local", status="deleted", settings={"base_url": "http://127.0.0.1:8000"})
    catalog.add_model("m", provider="house", status="disabled")
    catalog.add_model("of-closed", provider="closed", api_url="https://api.closed.example")

    assert allows(catalog, *about) is allowed


def test_no_round_trip(tmp_path, monkeypatch) -> None:
    """
    Once known, statuses are not asked for again until they are a few seconds old.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p")
    asked: list[object] = []
    database = catalog._guard._database
    monkeypatch.setattr(catalog._guard, "_database", lambda: [database(), asked.append(1)][0])
    clock = FakeClock()
    catalog._guard._statuses.clock = clock.monotonic
    for _ in range(100):
        assert allows(catalog, "m")
    assert len(asked) == 1

    # A little later they are read again, and nobody waits for that.
    clock.advance(guard.REFRESH_S + 1)
    assert allows(catalog, "m")
    for thread in threading.enumerate():
        if thread.name == "ai-ledger-catalog":
            thread.join(30)
    assert len(asked) == 2


def test_edits_elsewhere(tmp_path, monkeypatch) -> None:
    """
    What another process switched off is refused when the time of what is known is over.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    catalog = Catalog(url)
    catalog.add_provider("p")
    catalog.add_model("m", provider="p")
    assert allows(catalog, "m")

    with monkeypatch.context() as patched:
        # As if the edit were made in another process, which can tell nobody here.
        patched.setattr("ai_ledger.catalog.catalog.statuses_changed", lambda: None)
        Catalog(url).disable_model("m")
    assert allows(catalog, "m")

    later = time.monotonic() + guard.MAX_AGE_S + 1
    catalog._guard._statuses.clock = lambda: later
    assert not allows(catalog, "m")


def test_a_database_that_is_away(tmp_path, caplog) -> None:
    """
    Calls are admitted while nothing is known, and it is said once, without the password.
    """
    url = "postgresql://ledger:hunter22@127.0.0.1:1/none"
    catalog = Catalog(url)
    with memory_ledger(policies=[catalog]) as ledger:
        for _ in range(3):
            with ledger.call("m"):
                pass
        assert ledger.health().incidents == {"the catalogue could not be read": 1}
        assert ledger.flush(60)
        assert [each.tags for each in ledger.stats.calls().calls] == [MARKED] * 3
    assert "hunter22" not in caplog.text + repr(catalog)


async def test_refused_when_in_doubt(caplog) -> None:
    """
    Whoever would rather not call than call unchecked says so; it is no policy that breaks.
    """
    catalog = Catalog("postgresql://nobody@127.0.0.1:1/none", on_unavailable="refuse")
    with memory_ledger(policies=[catalog]) as ledger:
        for _ in range(2):
            with pytest.raises(ModelNotAllowed, match="cannot be told"), ledger.call("m"):
                pytest.fail("the call was made")
        assert ledger.health().incidents == {"the catalogue could not be read": 1}
        assert ledger.flush(60)
        assert {each.status for each in ledger.stats.calls().calls} == {"blocked"}
    with pytest.raises(ModelNotAllowed, match="cannot be told"):
        await catalog.acheck(call(), None)
    with pytest.raises(ConfigurationError, match="on_unavailable"):
        Catalog("sqlite:///a.db", on_unavailable="maybe")  # type: ignore[arg-type]


def test_what_was_known_holds(tmp_path, monkeypatch) -> None:
    """
    While the database is away, what is switched off stays so.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p", status="disabled")
    assert not allows(catalog, "m", "p")

    def away() -> Any:
        raise OSError("no such host")

    monkeypatch.setattr(catalog._guard, "_database", away)
    later = time.monotonic() + guard.MAX_AGE_S + 1
    catalog._guard._statuses.clock = lambda: later
    assert not allows(catalog, "m", "p")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_child(tmp_path) -> None:
    """
    A forked child knows what its parent knew, and reads anew without its threads.
    """
    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p", status="disabled")
    assert not allows(catalog, "m", "p")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            refused = not allows(catalog, "m", "p")
            catalog.enable_provider("p")
            code = 0 if refused and allows(catalog, "m", "p") else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert catalog.provider("p").status == "enabled"


def test_trio(tmp_path) -> None:
    """
    The first call of an asynchronous program waits for what is read, on trio as well.
    """
    import anyio

    catalog = Catalog(f"sqlite:///{tmp_path}/ledger.db")
    catalog.add_provider("p", status="disabled")

    async def main() -> None:
        with pytest.raises(ModelNotAllowed):
            await catalog.acheck(call("m", "p"), None)

    anyio.run(main, backend="trio")
