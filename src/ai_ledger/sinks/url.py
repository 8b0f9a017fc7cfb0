"""Which URL scheme means which sink."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ai_ledger.errors import ConfigurationError, MissingExtra
from ai_ledger.sinks.base import Sink

SCHEMES = ("sqlite", "postgresql", "mysql", "mariadb", "jsonl", "stdout", "memory")


def open_sink(url: str) -> Sink:
    """
    The sink that *url* names.

    ==============================  ==========================================
    ``sqlite:///ai_ledger.db``      one file; ``sqlite:////abs/path.db``
    ``postgresql://user@host/db``   PostgreSQL, through psycopg 3
    ``mysql://…``, ``mariadb://…``  MySQL or MariaDB, through PyMySQL
    ``jsonl:///folder``             a folder of JSON Lines files, one a day;
                                    ``jsonl:////abs/folder`` is absolute
    ``stdout:``, ``stdout:human``   one JSON object, or one readable line, a call
    ``memory:``                     a list, for tests
    ==============================  ==========================================

    Nothing is connected to or created yet.

    Raises:
        ConfigurationError: No sink has this scheme, or a part of *url* means nothing to it.
        MissingExtra: The scheme's packages are not installed.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"a ledger URL is a text, as sqlite:///ai_ledger.db, not {url!r}")
    scheme, colon, rest = url.partition(":")
    family = scheme.partition("+")[0].lower()
    if family == "postgres":
        family = "postgresql"
    if not colon or family not in SCHEMES:
        raise ConfigurationError(
            f"no sink for {scheme + colon!r}: a ledger URL starts with one of "
            + ", ".join(f"{known}:" for known in SCHEMES)
        )
    if family in ("memory", "stdout"):
        word = rest.strip("/")
        if word not in (("",) if family == "memory" else ("", "human")):
            raise ConfigurationError(f"{family}: means nothing with {word!r} behind it")
    if family == "memory":
        from ai_ledger.sinks.memory import MemorySink

        return MemorySink()
    if family == "stdout":
        from ai_ledger.sinks.stdout import StdoutSink

        return StdoutSink(human=rest.strip("/") == "human")
    if family == "jsonl":
        from ai_ledger.sinks.jsonl import JSONLSink

        rest, _, options = rest.partition("?")
        if options:
            raise ConfigurationError(f"a jsonl: ledger has no options: {options!r} in its URL")
        # jsonl:///folder is relative and jsonl:////folder absolute, as in sqlite:///.
        return JSONLSink(rest[3:] if rest.startswith("///") else rest.removeprefix("//"))
    return _sql_sink(_absolute(url) if family == "sqlite" else url, family)


def _absolute(url: str) -> str:
    """A relative SQLite path made absolute now, so that a program may change its folder later."""
    scheme, _, path = url.partition(":///")
    if not path or path.startswith(("/", ":", "file:")):
        return url
    return f"{scheme}:///{Path.cwd()}/{path}"


def _sql_sink(url: str, family: str) -> Sink:
    drivers = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
    # An extra of a server brings what is in "standard" as well.
    extra = {"postgresql": "postgres", "sqlite": "standard"}.get(family, "mysql")
    needed = ["sqlalchemy", "alembic", *([drivers[family]] if family in drivers else [])]
    if any(find_spec(module) is None for module in needed):
        raise MissingExtra(f"a ledger in {family}", extra)
    from ai_ledger.sinks.sql import SQLSink

    return SQLSink(url)
