"""Connections: how each database is opened, timed out, tried again and understood."""

from __future__ import annotations

import logging
import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from ai_ledger.database import files
from ai_ledger.database.address import refuse_unclear
from ai_ledger.database.pool import Pool
from ai_ledger.database.turns import turns
from ai_ledger.errors import ConfigurationError, RecordRefused, SinkUnavailable

T = TypeVar("T")

_log = logging.getLogger("ai_ledger.sinks.sql")

CONNECT_TIMEOUT_S: Final = 5
LOCK_TIMEOUT_S: Final = 5
_ATTEMPTS: Final = 10
# 1020 is MariaDB's "record has changed since last read".
_DEADLOCK: Final = frozenset({"40001", "40P01", 1020, 1205, 1213})
# 1690 is "BIGINT value is out of range", which PyMySQL takes for an operational error.
_DATA_CODES: Final = frozenset({1690, 1264, 1366, 1406})
_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    # One dialect for both; it notices which of the two has answered.
    "mariadb": "mysql+pymysql",
}
# A connection that was closed long ago says so at once; anything later is no such thing.
_STALE_WITHIN_S: Final = 1.0
# What a forked child inherited stays referenced for ever: the destructor of a
# connection would say goodbye to the server in the parent's name.
_INHERITED: Final[list[object]] = []
_warned_about_sqlite = False


class Again(Exception):
    """Raised inside a transaction that has to start over from the beginning."""


def database_url(url: str) -> URL:
    """
    *url* with the driver that this package uses.

    Raises:
        ConfigurationError: Not a URL of a database that this sink knows.
    """
    refuse_unclear(url)
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # Not "from error", whose message may quote the password.
        raise ConfigurationError(
            "the ledger's database URL cannot be read: a password with : / @ or # in it has to "
            "be percent-encoded"
        ) from None
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise ConfigurationError(f"no SQL sink for {parsed.get_backend_name()!r}")
    parsed = parsed.set(drivername=driver)
    if driver.startswith("sqlite") and (parsed.database or ":memory:").startswith(
        (":memory:", "file:")
    ):
        raise ConfigurationError("an SQLite ledger needs a file: sqlite:///ai_ledger.db")
    return parsed


class Database:
    """
    One database: an engine for short reads and one for writes.

    Threads may share one instance.

    Args:
        url: As the user typed it.
        timeout_s: How long any one transaction may take.
        writers: How many connections may write at the same time; SQLite always has one.
        functions: What SQLite is taught before it writes: functions of one text, by name.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        writers: int = 1,
        functions: Mapping[str, Callable[[str], str]] | None = None,
    ) -> None:
        self.url = database_url(url)
        self.kind = self.url.get_backend_name()
        self.timeout_s = timeout_s
        if self.kind == "sqlite":
            self.path = Path(self.url.database or "").absolute()
            self.reader = _sqlite_engine(self.path, writes=False, functions={})
            self.writer = _sqlite_engine(self.path, writes=True, functions=functions or {})
        else:
            options = _OPTIONS[self.kind](self.url, timeout_s)
            self.reader = _server_engine(self.url, options, "REPEATABLE READ", pool_size=4)
            self.writer = _server_engine(self.url, options, "READ COMMITTED", pool_size=writers)
            self._used = threading.local()
            for engine in (self.reader, self.writer):
                event.listen(engine, "connect", self._note_use)
                event.listen(engine, "checkout", self._note_use)

        self._out: set[Any] = set()
        for engine in (self.reader, self.writer):
            event.listen(engine, "checkout", self._note_out)
            event.listen(engine, "checkin", self._note_in)

    def _note_out(self, raw: Any, *_: object) -> None:
        self._out.add(raw)

    def _note_in(self, raw: Any, _: object) -> None:
        self._out.discard(raw)

    def prepare_file(self) -> None:
        """Make the SQLite file, private; nothing for servers."""
        if self.kind == "sqlite":
            _warn_about_sqlite(self.path)
            with self.translated_errors(refusing=False):
                files.make_private(self.path)

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """
        A connection inside a transaction that sees one moment.

        Raises:
            SinkUnavailable: The database is away, or takes longer than the time-out.
        """
        with self.translated_errors(refusing=False):
            pool = self.reader.pool
            if self.kind != "sqlite" and isinstance(pool, sa.QueuePool) and pool.checkedin():
                self._drop_stale()
            with self.connected(self.reader) as connection:
                yield connection
                connection.rollback()

    def writing(self, work: Callable[[Connection], T]) -> T:
        """
        What *work* returns, from inside a transaction of its own.

        After a deadlock, when *work* raises `Again`, or when the connection turns
        out to have been closed while nobody used it, it is done over.

        Raises:
            SinkUnavailable: The database is away, locked or full.
            RecordRefused: It does not accept a value.
        """
        begun = time.monotonic()
        with self.translated_errors(refusing=True):
            for attempt in range(_ATTEMPTS):
                try:
                    with self.connected(self.writer) as connection, connection.begin():
                        return work(connection)
                except exc.DBAPIError as error:
                    stale = error.connection_invalidated and attempt == 0
                    if stale and time.monotonic() < begun + _STALE_WITHIN_S:
                        continue
                    if _code(error) not in _DEADLOCK:
                        raise
                except Again:
                    pass
                pause = min(0.5, 0.02 * 2**attempt)
                time.sleep(random.uniform(0.0, pause))  # noqa: S311 - jitter
            raise SinkUnavailable(f"{self.kind}: other writers were in the way every time")

    def _drop_stale(self) -> None:
        """Notice connections that the server has closed meanwhile, and let go of all of them."""
        try:
            with self.connected(self.reader) as connection:
                connection.exec_driver_sql("SELECT 1")
                connection.rollback()
        except exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise

    def sweep(self) -> None:
        """
        Leave no trace of what was erased in SQLite's files; nothing for servers.

        ``secure_delete`` overwrites what is deleted, but not what pages left behind
        when they were split long before: only writing the file anew does. Other
        writers wait meanwhile. When it cannot be done now, a log line says so.
        """
        if self.kind != "sqlite":
            return
        try:
            with self._raw_writer() as raw:
                raw.execute("VACUUM")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (SinkUnavailable, sqlite3.Error) as error:
            _log.warning(
                "%s: what was forgotten is deleted, but traces stay in the file until VACUUM: %s",
                self.path,
                error,
            )

    def checkpoint(self) -> None:
        """
        Have SQLite's file say now what its log says; nothing for servers.

        As far as nobody is in the way: what is left comes with the next one.
        """
        if self.kind != "sqlite":
            return
        with suppress(SinkUnavailable, sqlite3.Error), self._raw_writer() as raw:
            (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
            raw.execute("PRAGMA busy_timeout = 0").fetchall()
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                raw.execute(f"PRAGMA busy_timeout = {patience}").fetchall()

    @contextmanager
    def _raw_writer(self) -> Generator[sqlite3.Connection]:
        """The connection that writes to SQLite's file, for what is no transaction."""
        with self.translated_errors(refusing=False), self.connected(self.writer) as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            yield raw

    def close(self) -> None:
        """Close all connections, those in use when they are let go; the next use opens new ones."""
        self.reader.dispose()
        self.writer.dispose()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone and start with none."""
        _INHERITED.append(self._out)
        self._out = set()
        for engine in (self.reader, self.writer):
            _INHERITED.append(engine.pool)
            engine.dispose(close=False)

    @contextmanager
    def translated_errors(self, *, refusing: bool) -> Generator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise translated(error, refusing=refusing) from error
        except (exc.TimeoutError, OSError) as error:
            raise SinkUnavailable(f"{self.kind}: {error}") from error
        except OverflowError as error:
            kind = RecordRefused if refusing else SinkUnavailable
            raise kind(f"{self.kind}: a number is too large: {error}") from error

    @contextmanager
    def connected(self, engine: Engine) -> Generator[Connection]:
        """A connection on which nothing is waited for longer than the time-out."""
        if self.kind == "sqlite":
            writes = engine is self.writer
            with (
                turns.inside(self.path, writes=writes, timeout_s=LOCK_TIMEOUT_S),
                engine.connect() as connection,
                _interrupted(connection, self.timeout_s),
            ):
                yield connection
        elif self.kind == "postgresql":
            with self._watchdog(), engine.connect() as connection:
                yield connection
        else:
            with engine.connect() as connection:  # PyMySQL's own time-outs keep the watch
                yield connection

    @contextmanager
    def _watchdog(self) -> Generator[None]:
        """
        Shut the sockets down that this thread opens or takes up, if it is still there too late.

        A server that was stopped, or a proxy that lost its other end, still
        acknowledges packets, so that neither time-outs on the server nor TCP's own
        ever fire.
        """
        used: list[Any] = []
        self._used.connections = used
        timer = threading.Timer(self.timeout_s + LOCK_TIMEOUT_S, _shut_down, [used])
        timer.daemon = True
        with suppress(RuntimeError):  # the interpreter ends and starts no thread any more
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._used.connections = None

    def _note_use(self, raw: Any, *_: object) -> None:
        used = getattr(self._used, "connections", None)
        if used is not None:
            used.append(raw)


@contextmanager
def _interrupted(connection: Connection, seconds: float) -> Generator[None]:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    end = time.monotonic() + seconds
    raw.set_progress_handler(lambda: time.monotonic() > end, 100_000)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


def _shut_down(connections: list[Any]) -> None:
    for connection in connections:
        try:
            duplicate = socket.socket(fileno=os.dup(connection.fileno()))
            with duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
        except Exception as error:  # noqa: BLE001 - psycopg's errors are not imported here
            _log.debug("a stalled connection was gone already: %s", error)


def translated(error: exc.DBAPIError, *, refusing: bool) -> Exception:
    """
    The error of ours that *error* means. Says what the driver said, without the values.

    Args:
        error: From the driver.
        refusing: Whether bad values are the records' fault; when reading they cannot be.
    """
    code = _code(error)
    text = f"{type(error.orig).__name__}: {str(error.orig)[:300]}"
    about_values = (
        isinstance(error, (exc.DataError, exc.IntegrityError))
        or code in _DATA_CODES
        # Program limits, as "index row size exceeds maximum".
        or (isinstance(code, str) and code.startswith("54"))
    )
    return (RecordRefused if refusing and about_values else SinkUnavailable)(text)


def is_duplicate(error: exc.DBAPIError) -> bool:
    """Whether *error* says that a row with this key is there already."""
    return _code(error) in ("23505", 1062)


def _code(error: exc.DBAPIError) -> str | int | None:
    # The number first: newer versions of PyMySQL give a state as well, which says less.
    arguments = getattr(error.orig, "args", ())
    if arguments and isinstance(arguments[0], int):
        return arguments[0]
    state = getattr(error.orig, "sqlstate", None)
    return None if state is None else str(state)


def _sqlite_engine(
    path: Path, *, writes: bool, functions: Mapping[str, Callable[[str], str]]
) -> Engine:
    engine = sa.create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=Pool,
        pool_size=1 if writes else 4,
        max_overflow=0 if writes else 8,
        connect_args={"timeout": float(LOCK_TIMEOUT_S), "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def connected(raw: sqlite3.Connection, _: object) -> None:
        # The driver's own idea of when a transaction begins is switched off.
        raw.isolation_level = None
        if not writes:
            raw.execute("PRAGMA query_only = ON")
            return
        _keep_a_log(raw)
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA journal_size_limit = 67108864")
        # The same pages of totals change with every batch: they stay in memory, and
        # go from the log into the file less often than every few batches.
        raw.execute("PRAGMA cache_size = -32768")
        raw.execute("PRAGMA wal_autocheckpoint = 8000").fetchall()
        # What is deleted is overwritten; see Database.sweep for what else erasing takes.
        raw.execute("PRAGMA secure_delete = ON").fetchall()
        for name, function in functions.items():
            raw.create_function(name, 1, function, deterministic=True)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once when
        # another writer was quicker; one that takes the lock first waits for it.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _keep_a_log(raw: sqlite3.Connection) -> None:
    """
    Switch a file to the write-ahead log, which it then keeps.

    SQLite does not wait for its locks here, whatever the time-out: processes that
    open a new file together are told at once that it is locked.
    """
    end = time.monotonic() + LOCK_TIMEOUT_S
    switched = False
    while not switched:
        try:
            raw.execute("PRAGMA journal_mode = WAL").fetchall()
            switched = True
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - jitter


def _server_engine(
    url: URL, connect_args: dict[str, Any], isolation_level: Any, *, pool_size: int
) -> Engine:
    return sa.create_engine(
        url,
        poolclass=Pool,
        connect_args=connect_args,
        isolation_level=isolation_level,
        pool_size=pool_size,
        max_overflow=0 if isolation_level == "READ COMMITTED" else 8,
        hide_parameters=True,
    )


def _postgresql_options(url: URL, timeout_s: float) -> dict[str, Any]:
    settings = {
        "statement_timeout": f"{timeout_s:.0f}s",
        "lock_timeout": f"{LOCK_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{timeout_s + LOCK_TIMEOUT_S:.0f}s",
        "timezone": "UTC",
        # It takes a second or two to compile what then reads for half a second.
        "jit": "off",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    asked = url.query.get("options", "")
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": int(timeout_s * 1000),
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "application_name": "ai-ledger",
        "options": f"{options} {asked if isinstance(asked, str) else ' '.join(asked)}".strip(),
    }


def _mysql_options(_: URL, timeout_s: float) -> dict[str, Any]:
    # What stands in /*M! … */ is read by MariaDB alone; MySQL calls it differently.
    return {
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": timeout_s + LOCK_TIMEOUT_S,
        "write_timeout": timeout_s,
        "init_command": (
            "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES', "
            f"innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}, group_concat_max_len = 1073741824"
            f" /*M!100100 , max_statement_time = {timeout_s:.0f} */"
        ),
    }


_OPTIONS: Final[dict[str, Callable[[URL, float], dict[str, Any]]]] = {
    "postgresql": _postgresql_options,
    "mysql": _mysql_options,
}


def _warn_about_sqlite(path: Path) -> None:
    global _warned_about_sqlite
    if _warned_about_sqlite or sqlite3.sqlite_version_info >= (3, 51, 3):
        return
    # The fault needs two connections that write and check-point at the same
    # moment, so that it matters only where another process has the file open.
    if files.is_open_elsewhere(path):
        _warned_about_sqlite = True
        _log.warning(
            "SQLite %s may damage a file that several processes write (fixed in 3.51.3): "
            "%s is open elsewhere; a newer SQLite or a server is safer",
            sqlite3.sqlite_version,
            path,
        )
