"""`run`: the console as a server of its own."""

from __future__ import annotations

import errno
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvicorn

from ai_ledger.access import Access, AccessTokens
from ai_ledger.bounds import label
from ai_ledger.database.address import without_password
from ai_ledger.database.changes import whoever
from ai_ledger.errors import ConfigurationError
from ai_ledger.ledger import Ledger
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web.app import create_app
from ai_ledger.web.guard.hosts import Hosts, is_loopback

if TYPE_CHECKING:
    from datetime import tzinfo
    from types import FrameType

    from starlette.applications import Starlette

PORT: Final = 8700
# A live tail goes on for ever; the end is not kept waiting for it longer than this.
_GOODBYE_S: Final = 3
_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104  # refused without a token


def run(
    ledger_url: str,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    tz: str | tzinfo = "UTC",
    hosts: Sequence[str] = (),
    root_path: str = "",
    browser: bool = False,
    evaluate_alerts_s: float | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """
    Serve the console of a ledger until SIGTERM or Ctrl-C.

    On loopback, as long as there is no access token, whoever uses this machine is an
    administrator. Anywhere else, and where *hosts* or *root_path* tell of a proxy in
    front, which is on this machine for whoever comes through it, a token is needed.

    Args:
        ledger_url: Of a ledger that exists, with an SQL store; several as for `Ledger`,
            separated by spaces.
        host: Address to listen at.
        port: To listen at; 0 for one that is free.
        tz: Whose days and hours are told.
        hosts: Names under which it is reached, besides *host* and those of loopback.
        root_path: Where a proxy in front shows it, such as ``/ai-ledger``, if it takes
            this away before it passes a request on.
        browser: Open it in the browser.
        evaluate_alerts_s: Look at the rules of alerts every so many seconds, at least 1;
            ``None``: only when somebody asks.
        say: Told in one line where it is.

    Raises:
        ConfigurationError: There is no SQL store, no token where one is needed, or the
            address is not to be had.
        InvalidValue: One of *hosts* is no name of a host.
        SinkUnavailable: The store is away.
        KeyboardInterrupt: It was stopped with Ctrl-C.
    """
    Hosts(hosts)
    root_path = root_path.rstrip("/")
    if root_path and not root_path.startswith("/"):
        raise ConfigurationError(f"the root path {root_path!r} has to begin with /")
    with Ledger(ledger_url.split() if " " in ledger_url else ledger_url) as ledger:
        door = _Door.of(host, hosts, root_path, guarded=AccessTokens(ledger).any())
        app = create_app(ledger, tz=tz, hosts=door.names, anonymous=door.anonymous)
        try:
            if evaluate_alerts_s is not None:
                app.state.house.alerts.start(evaluate_alerts_s)
            server = _server(app, root_path)
            # Before anybody can know that it is there, and so can stop it.
            with _listening(host, port) as listener, _stopped_by_signals(server):
                address = f"http://{_shown(host)}:{listener.getsockname()[1]}{root_path}/"
                shown = " ".join(map(without_password, ledger.urls))
                say(f"The console of {shown} is at {address} ({door.entry}; Ctrl-C stops it)")
                if browser:
                    # After the listener is there, so that the browser is not too early.
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
                server.run(sockets=[listener])
        finally:
            app.state.house.close()
            close_databases()


@dataclass(frozen=True)
class _Door:
    """
    Who may come in, and by which names.

    Args:
        names: Of hosts, besides those of loopback.
        anonymous: Who comes without a token; ``None``: nobody does.
        entry: What is said of it.
    """

    names: Sequence[str]
    anonymous: Access | None
    entry: str

    @classmethod
    def of(cls, host: str, hosts: Sequence[str], root_path: str, *, guarded: bool) -> _Door:
        """
        The door of a console that listens at *host*.

        Raises:
            ConfigurationError: It would be open to others than this machine's user.
        """
        local, proxied = is_loopback(host), bool(hosts or root_path)
        if not local and not guarded:
            raise ConfigurationError(
                f"whoever reaches {host} could read this ledger: make an access token first, "
                "with `ai-ledger tokens add NAME --role admin`, or leave --host out"
            )
        if proxied and not guarded:
            raise ConfigurationError(
                "whoever comes through the proxy that --allow-host and --root-path are for could "
                "read this ledger: make an access token first, with "
                "`ai-ledger tokens add NAME --role admin`, or leave them out"
            )
        user = Access(name=label(whoever() or "local"), role="admin", prompts=True)
        return cls(
            names=[*hosts, *([] if local or host in _EVERYWHERE else [_name(host)])],
            # Also when the last token is revoked later, nobody comes through a proxy without one.
            anonymous=user if local and not proxied else None,
            entry="sign in with an access token" if guarded else "open to this machine's user",
        )


def _server(app: Starlette, root_path: str) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        root_path=root_path,
        lifespan="off",
        ws="none",
        # Addresses hold what people look for, so they are in no log.
        access_log=False,
        log_level="warning",
        server_header=False,
        # Whoever sends these headers could say that they are on this machine.
        proxy_headers=False,
        timeout_graceful_shutdown=_GOODBYE_S,
    )
    return uvicorn.Server(config)


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Generator[None]:
    """
    Ctrl-C and SIGTERM end *server* with grace, also before its loop runs.

    uvicorn hears them only from then on, and afterwards raises them again for whoever was
    there before: without this a SIGTERM would be the end of the process, before the
    ledger's, and an early Ctrl-C would break into the making of the loop.

    Raises:
        KeyboardInterrupt: Ctrl-C was among them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: set[int] = set()

    def stop(number: int, frame: FrameType | None) -> None:
        heard.add(number)
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in heard:
        raise KeyboardInterrupt


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ConfigurationError(f"there is no address {host}: {error}") from error
    try:
        # A console that has just ended leaves its connections behind for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        busy = error.errno == errno.EADDRINUSE
        reason = "something else listens there; take another with --port" if busy else str(error)
        raise ConfigurationError(f"cannot listen at {_shown(host)}:{port}: {reason}") from error
    return listener


def _name(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _shown(host: str) -> str:
    """*host* in an address that a browser understands."""
    return "localhost" if host in _EVERYWHERE else _name(host)
