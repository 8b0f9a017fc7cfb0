"""`Webhook`: an alert as signed JSON, to an address that was checked."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ai_ledger.alerts.addresses import Forbidden, check_address, checked_addresses
from ai_ledger.alerts.alert import Alert
from ai_ledger.alerts.channel import NotSent
from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.references import variable_of

SIGNATURE_HEADER: Final = "AI-Ledger-Signature"
DELIVERY_HEADER: Final = "AI-Ledger-Delivery"
TOLERANCE_S: Final = 300

_LEAST_SECRET: Final = 16
_FIRST_PAUSE_S: Final = 0.5
_MOST_READ: Final = 65_536
_HOST: Final = re.compile(r"[^\x00-\x20/\\@#?%<>^`{|}\x7f]+")


class Webhook:
    """
    A channel that posts each alert as JSON.

    The body is signed: ``AI-Ledger-Signature: t=<seconds>,v1=<hex>``, where the hex is
    HMAC-SHA256, with the secret, over the seconds, a full stop and the body;
    `verify_signature` checks it. ``AI-Ledger-Delivery`` is the same for all attempts at
    one alert, so that a receiver can tell a repetition.

    The host is looked up once for each attempt, all its addresses are checked, and
    the connection goes to one of these very addresses. Proxies of the environment are
    not used, and redirects are failures: either would be a way around the check.

    Args:
        url: ``https://…``; with *allow_private* also ``http://…``. Its path may be a
            secret, and is never shown.
        secret: What the signature is made with, as a reference: ``env:NAME``, of at
            least 16 characters.
        timeout_s: For each attempt, everything included but the look-up of the name.
        attempts: For each `send`, with pauses that grow from half a second. What has
            failed then is tried again later, for ten hours.
        allow_private: Admit addresses that are not public, such as those of this
            machine and network.
        name: By which it is remembered who was told; ``webhook`` and the host, if left out.
        sleep: Pauses; for tests.

    Raises:
        InvalidValue: The URL cannot be, or its host is not public.
        ConfigurationError: The secret is no reference, or its variable is not set.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        timeout_s: float = 10.0,
        attempts: int = 3,
        allow_private: bool = False,
        name: str | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._target = _Target(url, allow_private=allow_private)
        self._secret = secret
        _secret_of(secret)
        if isinstance(timeout_s, bool) or not 0 < timeout_s <= 60:
            raise InvalidValue("timeout_s", timeout_s, "seconds above 0, up to 60")
        if type(attempts) is not int or not 1 <= attempts <= 4:
            # More would take longer than other processes wait for this one.
            raise InvalidValue("attempts", attempts, "a whole number from 1 to 4")
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._allow_private = allow_private
        self._sleep = sleep
        self.name = name or f"webhook {self._target.host}"

    def __repr__(self) -> str:
        return f"Webhook({self._target.host!r}, name={self.name!r})"

    def send(self, alert: Alert) -> None:
        """
        Post *alert*.

        Raises:
            NotSent: No attempt was answered with a 2xx.
        """
        body = body_of(alert)
        for attempt in range(1, self._attempts + 1):
            try:
                self._post(body, f"{alert.id}")
            except _Transient as error:
                if attempt == self._attempts:
                    raise NotSent(str(error)) from error
                pause = _FIRST_PAUSE_S * 2 ** (attempt - 1)
                self._sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            else:
                return

    def _post(self, body: bytes, delivery: str) -> None:
        target = self._target
        try:
            addresses = checked_addresses(
                target.host, target.port, allow_private=self._allow_private
            )
        except Forbidden:
            raise
        except NotSent as error:
            raise _Transient(str(error)) from error
        headers = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": "ai-ledger",
            "Connection": "close",
            DELIVERY_HEADER: delivery,
            SIGNATURE_HEADER: signature_of(body, _secret_of(self._secret), int(time.time())),
        }
        try:
            status = _exchange(target, addresses, body, headers, self._timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # ValueError is what a read says whose socket the time-out has closed.
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise _Transient(f"{target.host}: {said}") from error
        if 200 <= status < 300:
            return
        if status == 429 or status >= 500:
            raise _Transient(f"{target.host} answered {status}")
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        raise NotSent(f"{target.host} answered {status}{hint}")


def verify_signature(
    body: bytes,
    header: str,
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> bool:
    """
    Whether a webhook's body is what this package signed, not long ago.

    Args:
        body: As it was received, byte for byte.
        header: ``AI-Ledger-Signature``.
        secret: The secret itself.
        tolerance_s: How old it may be, and how far the clocks may differ.
        now: Seconds since the epoch; now, if left out.
    """
    found = re.fullmatch(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})", header)
    if found is None:
        return False
    known = hmac.compare_digest(signature_of(body, secret, int(found[1])), header)
    return known and abs((time.time() if now is None else now) - int(found[1])) <= tolerance_s


def signature_of(body: bytes, secret: str, seconds: int) -> str:
    """The header that signs *body* at this time, in seconds since the epoch."""
    signed = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256)
    return f"t={seconds},v1={signed.hexdigest()}"


def body_of(alert: Alert) -> bytes:
    """What is posted: the alert, every field, times in ISO 8601."""
    return msgspec.json.encode({"type": "alert", "alert": alert})


class _Transient(Exception):
    """Worth another attempt at once."""


class _Target:
    """Where to, taken apart once."""

    def __init__(self, url: str, *, allow_private: bool) -> None:
        # Not shown in errors: the path of a webhook is often its password.
        expected = "an https:// URL without a login" if not allow_private else "an http(s):// URL"
        try:
            parts = urlsplit(url)
            port = parts.port
        except (ValueError, AttributeError, TypeError):
            raise InvalidValue("url", "…", expected) from None
        schemes = ("https", "http") if allow_private else ("https",)
        if parts.scheme not in schemes or not parts.hostname:
            raise InvalidValue("url", f"{parts.scheme}://…", expected)
        if "@" in parts.netloc or not url.isprintable() or " " in url or "\\" in url or port == 0:
            raise InvalidValue("url", f"{parts.scheme}://…", expected)
        self.secure = parts.scheme == "https"
        self.host = _host(parts.hostname)
        self.port = port or (443 if self.secure else 80)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = shown if port is None else f"{shown}:{port}"
        query = f"?{parts.query}" if parts.query else ""
        self.path = f"{parts.path or '/'}{query}"
        if not self.path.isascii():
            raise InvalidValue("url", f"{parts.scheme}://{shown}…", "a path in percent-encoding")
        _refuse_plain(self.host, allow_private=allow_private)


def _host(host: str) -> str:
    if ":" in host:
        return host
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not name or not _HOST.fullmatch(name):
        raise InvalidValue("url", host, "a URL whose host can be")
    return name


def _refuse_plain(host: str, *, allow_private: bool) -> None:
    """Refuse at once what needs no look-up: addresses in any spelling, and this machine."""
    address = host
    try:
        # The old spellings: 127.1, 0x7f.1, 017700000001, 2130706433.
        address = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        if ":" not in host:
            name = host.rstrip(".").lower()
            if (name == "localhost" or name.endswith(".localhost")) and not allow_private:
                raise InvalidValue("url", host, "a public host; or allow_private=True") from None
            return
    try:
        check_address(address, allow_private=allow_private)
    except Forbidden as error:
        raise InvalidValue("url", host, f"a public host ({error})") from None


def _secret_of(reference: str) -> str:
    name = variable_of(reference) if isinstance(reference, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if name is None:
        raise ConfigurationError(
            "webhook: the secret is given as the name of an environment variable: env:NAME"
        )
    secret = os.environ.get(name, "")
    if len(secret) < _LEAST_SECRET:
        raise ConfigurationError(
            f"webhook: the environment variable {name} is not set, or has fewer than "
            f"{_LEAST_SECRET} characters"
        )
    return secret


def _exchange(
    target: _Target,
    addresses: list[tuple[int, str]],
    body: bytes,
    headers: dict[str, str],
    timeout_s: float,
) -> int:
    """
    The status of the answer to one request, which is all over within *timeout_s*.

    By http.client and not by httpx: nothing else in this package needs an HTTP client,
    and a connection of its own is all it takes to fix the address.
    """
    connection = _Pinned(target, addresses, timeout_s)
    # The time-outs of sockets begin anew with each byte that trickles in.
    watch = threading.Timer(timeout_s, connection.shut)
    watch.daemon = True
    watch.start()
    try:
        connection.request("POST", target.path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(_MOST_READ)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if connection.was_shut:
            raise TimeoutError(f"no answer within {timeout_s:g} s") from error
        raise
    else:
        if connection.was_shut:
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return answer.status
    finally:
        watch.cancel()
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to addresses that were checked, whatever the host's name means by now."""

    def __init__(self, target: _Target, addresses: list[tuple[int, str]], timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self._target = target
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._open: socket.socket | None = None
        self.was_shut = False

    def connect(self) -> None:
        end = time.monotonic() + self._timeout_s
        problem: OSError | None = None
        for number, (family, address) in enumerate(self._addresses):
            left = end - time.monotonic()
            share = left / (len(self._addresses) - number)
            plain = socket.socket(family, socket.SOCK_STREAM)
            self._open = plain
            try:
                plain.settimeout(max(0.05, share))
                plain.connect((address, self._target.port))
                plain.settimeout(max(0.05, end - time.monotonic()))
                self.sock = self._secured(plain)
            except OSError as error:
                self._open.close()
                problem = error
            else:
                return
        raise problem or OSError("no address")

    def _secured(self, plain: socket.socket) -> socket.socket:
        if not self._target.secure:
            return plain
        # The certificate has to be that of the name, though nobody looks it up again.
        secured = ssl.create_default_context().wrap_socket(
            plain, server_hostname=self._target.host, do_handshake_on_connect=False
        )
        self._open = secured
        secured.do_handshake()
        return secured

    def shut(self) -> None:
        """Cut it off, from another thread."""
        self.was_shut = True
        open_one = self._open
        if open_one is not None:
            # Not connected yet: then its own time-out ends it.
            with suppress(OSError):
                # Not that of SSL sockets, which changes what the other thread is using.
                socket.socket.shutdown(open_one, socket.SHUT_RDWR)
