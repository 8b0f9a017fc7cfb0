"""URLs: which name a sink, and what is said of those that cannot work."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ai_ledger import ConfigurationError, MissingExtra, open_sink
from ai_ledger.database.address import to_type
from ai_ledger.secrets import scrub


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (5, "is a text"),
        (None, "is a text"),
        ("stdout:bla", "'bla'"),
        ("memory:x", "'x'"),
        ("jsonl:///x?rotate=day", "'rotate=day'"),
        ("sqlite:///?a=b", "'a=b'"),
        ("sqlite:///x.db?mode=ro", "'mode=ro'"),
        ("postgresql://u:hunter22@h:abc/d", "port"),
        ("postgresql://u@h:99999/d", "port"),
        ("mysql://h:/d?charset=x", None),
        ("postgresql://[::1]:5432/d?sslmode=require", None),
        ("postgresql://h/d", None),
        ("stdout:", None),
        ("stdout://human", None),
        ("memory://", None),
    ],
)
def test_what_is_not_understood(url: Any, said: str | None) -> None:
    """
    A URL with a part that means nothing is refused at once, and that part is named.
    """
    if said is None:
        open_sink(url)
        return
    with pytest.raises(ConfigurationError, match=said) as refused:
        open_sink(url)
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "extra"),
    [("sqlite:///x.db", "standard"), ("postgresql://h/d", "postgres"), ("mysql://h/d", "mysql")],
)
def test_the_extra_that_brings_everything(
    monkeypatch: pytest.MonkeyPatch, url: str, extra: str
) -> None:
    """
    With nothing but the core, the one extra that brings all a URL needs is named.
    """
    for module in ("sqlalchemy", "alembic", "psycopg", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as missing:
        open_sink(url)

    assert missing.value.extra == extra


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://u:p%40ss@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("mysql+pymysql://u@h/d?charset=utf8mb4", "mysql://u@h/d?charset=utf8mb4"),
        ("postgresql://u@h/d?password=p&sslmode=on", "postgresql://u@h/d?password=***&sslmode=on"),
        ("sqlite+pysqlite:////data/x.db", "sqlite:////data/x.db"),
    ],
)
def test_a_url_to_type_again(url: str, shown: str) -> None:
    """
    As the user would write it: without the driver, the password left to be filled in.
    """
    assert to_type(url) == shown


def test_a_hidden_password_stays_as_it_is() -> None:
    """
    What hides credentials in messages leaves ``***`` alone, and nothing else.
    """
    hidden = "run `ai-ledger db upgrade --url postgresql://u:***@h/d`"

    assert scrub(hidden) == hidden
    assert scrub("postgresql://u:***@hunter22@h/d") == "postgresql://u:[redacted]@h/d"
    assert scrub("postgresql://u:***hunter22@h/d") == "postgresql://u:[redacted]@h/d"
