"""Access tokens and sessions, on every database."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from ai_ledger.access import Access, AccessTokens, Sessions
from ai_ledger.access.tokens import RETRY_S, hash_of
from ai_ledger.database.changes import changes_before, changes_of, kinds_of_changes
from ai_ledger.database.tables import metadata
from ai_ledger.errors import InvalidValue, NotFound, SinkUnavailable
from ai_ledger.secrets import scrub
from ai_ledger.sinks.sql.shared import shared_database

NOW = datetime(2026, 5, 20, 9, 30, tzinfo=UTC)


class Clock:
    """Says what time it is, as the test has it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(sql_url: str, clock: Clock) -> AccessTokens:
    """No tokens, in each database in turn."""
    return AccessTokens(sql_url, clock=clock)


def test_a_token_says_what_its_bearer_may(tokens: AccessTokens) -> None:
    """
    Whoever shows the text gets the access it was made with; nothing else finds it.
    """
    text, made = tokens.add("ada", role="operator", org_id="acme", prompts=True, by="ann")

    assert tokens.find(text) == Access(
        name="ada", role="operator", org_id="acme", prompts=True, token_id=made.id
    )
    assert text.startswith("ail_")
    assert len(text) == 47
    assert made.hint == text[-4:]
    wrong = (text[:-1], text.upper(), text.swapcase(), f"{text} ", hash_of(text), "ail_\x00", "")
    assert [tokens.find(each) for each in wrong] == [None] * len(wrong)


def test_the_text_is_kept_nowhere(tokens: AccessTokens, sql_url: str) -> None:
    """
    No table holds a token's text, the history not even its hash, and no log either.
    """
    text, made = tokens.add("ada", by="ann")
    cookie = Sessions(sql_url).open(made.id)
    tokens.revoke(made.id, by="ann")

    rows: dict[str, str] = {}
    with shared_database(sql_url).reading() as connection:
        for table in metadata.sorted_tables:
            rows[table.name] = repr(connection.execute(sa.select(table)).all())
    for each in rows.values():
        assert text not in each
        assert cookie not in each
    assert hash_of(text) not in rows["ai_changes"]
    assert text not in scrub(f"refused {text}")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"name": "a\r\nSet-Cookie: b"}, "name", id="a line break"),
        pytest.param({"name": "a\x1b[31m"}, "name", id="a colour of terminals"),
        pytest.param({"name": "a\u202eb"}, "name", id="letters the other way round"),
        pytest.param({"name": "a\x00"}, "name", id="NUL"),
        pytest.param({"name": "\ud800"}, "name", id="half a letter"),
        pytest.param({"name": "x" * 256}, "name", id="too long"),
        pytest.param({"name": "a", "role": "root"}, "role", id="no such role"),
        pytest.param({"name": "a", "org_id": " "}, "org_id", id="an empty organisation"),
        pytest.param({"name": "a", "expires_at": NOW}, "expires_at", id="over already"),
        pytest.param(
            {"name": "a", "expires_at": datetime(2030, 1, 1)}, "expires_at", id="without a zone"
        ),
    ],
)
def test_tokens_that_cannot_be(sql_url: str, clock: Clock, fields: Any, field: str) -> None:
    """
    What would stand in logs and beside edits as something else is refused, and nothing is kept.
    """
    tokens = AccessTokens(sql_url, clock=clock)

    with pytest.raises(InvalidValue) as caught:
        tokens.add(**fields)

    assert caught.value.field == field
    assert tokens.list() == []


def test_tokens_end(tokens: AccessTokens, clock: Clock) -> None:
    """
    A token is worth nothing from its last moment on, and a revoked one at once.
    """
    short, first = tokens.add("ada", expires_at=NOW + timedelta(hours=1), by="ann")
    long, second = tokens.add("bob", by="ann")
    assert tokens.any()

    clock.now += timedelta(hours=1)
    assert tokens.find(short) is None
    assert tokens.find(long) is not None
    assert tokens.any()

    assert tokens.revoke(second.id, by="ann").revoked_at == clock.now
    assert tokens.revoke(second.id, by="bob").revoked_at == clock.now
    assert tokens.find(long) is None
    assert tokens.any()
    assert [each.state(clock.now) for each in tokens.list()] == ["revoked", "expired"]
    for id in (first.id + 99, 0, 2**70):
        with pytest.raises(NotFound):
            tokens.revoke(id)
    tokens.revoke(first.id, by="ann")
    assert not tokens.any()


def test_last_used_is_exact_to_an_hour(tokens: AccessTokens, clock: Clock) -> None:
    """
    The use of a token is written down once an hour, however often it is shown.
    """
    text, made = tokens.add("ada", by="ann")
    assert made.last_used_at is None
    seen: list[datetime | None] = []

    for minutes in (0, 59, 60):
        clock.now = NOW + timedelta(minutes=minutes)
        tokens.find(text)
        seen.append(tokens.get(made.id).last_used_at)

    assert seen == [NOW, NOW, NOW + timedelta(hours=1)]


def test_a_store_that_takes_nothing_is_not_asked_by_everybody(
    tokens: AccessTokens, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When no use can be written down, people come in, and it is tried again in a minute.
    """
    texts = [tokens.add(name, by="ann")[0] for name in ("ada", "eve")]
    now, tried = time.monotonic(), []

    def refuse(_: Any) -> None:
        tried.append(now)
        raise SinkUnavailable("read-only")

    with monkeypatch.context() as away:
        away.setattr(time, "monotonic", lambda: now)
        away.setattr(shared_database(sql_url), "writing", refuse)
        for later in (0.0, 1.0, RETRY_S - 1, RETRY_S, 1.0):
            now += later
            assert [found.name for text in texts if (found := tokens.find(text))] == ["ada", "eve"]

    assert len(tried) == 3, "at first, after a minute, and after one more"


def test_nobody_waits_for_another_use_to_be_written_down(
    tokens: AccessTokens, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One use at a time is written down; whoever comes meanwhile is let in at once.
    """
    ada, eve = (tokens.add(name, by="ann")[0] for name in ("ada", "eve"))
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        begun.set()
        go_on.wait(60)

    with monkeypatch.context() as slow:
        slow.setattr(shared_database(sql_url), "writing", wait)
        first = threading.Thread(target=tokens.find, args=(ada,))
        first.start()
        try:
            assert begun.wait(60)
            begun.clear()
            assert tokens.find(eve) is not None
            assert not begun.is_set()
        finally:
            go_on.set()
            first.join(60)

    tokens.find(eve)
    assert tokens.list()[0].last_used_at == NOW


def test_who_made_and_revoked_tokens_stays(tokens: AccessTokens, sql_url: str) -> None:
    """
    The history says who let whom in and out; doing it twice is one change.
    """
    _, made = tokens.add("ada", role="admin", by="ann")
    tokens.revoke(made.id, by="bob")
    tokens.revoke(made.id, by="cleo")

    plain = {
        "name": "ada", "hint": made.hint, "role": "admin", "org_id": None, "prompts": False,
        "expires_at": None,
    }  # fmt: skip
    with shared_database(sql_url).reading() as connection:
        found = changes_of(connection, "access_token", str(made.id))
        assert kinds_of_changes(connection) == ["access_token"]
        everything = changes_before(connection)
        older = changes_before(connection, before=everything[0].id, by="ann", kind="access_token")
    assert [(each.changed_by, each.before, each.after) for each in found] == [
        ("bob", plain, None),
        ("ann", None, plain),
    ]
    assert everything == found
    assert older == found[1:]


def test_a_session_is_worth_what_its_token_is(sql_url: str, clock: Clock) -> None:
    """
    A cookie says the same as its token, until the session, the token or its time is over.
    """
    tokens, sessions = AccessTokens(sql_url, clock=clock), Sessions(sql_url, clock=clock)
    text, made = tokens.add("ada", org_id="acme", expires_at=NOW + timedelta(hours=3), by="ann")
    _, other = tokens.add("bob", by="ann")
    ada, again, bob = sessions.open(made.id), sessions.open(made.id), sessions.open(other.id)
    access = tokens.find(text)
    assert sessions.access_of(ada) == sessions.access_of(again) == access

    sessions.close(ada)
    assert [sessions.access_of(each) for each in (ada, "", "x" * 500)] == [None, None, None]
    assert sessions.access_of(again) == access

    clock.now += timedelta(hours=3)
    assert sessions.access_of(again) is None
    assert sessions.access_of(bob) is not None
    clock.now += timedelta(hours=9)
    assert sessions.access_of(bob) is None

    fresh = sessions.open(other.id)
    assert sessions.access_of(fresh) is not None
    tokens.revoke(other.id, by="ann")
    assert sessions.access_of(fresh) is None
