"""Webhooks: signed, retried, bounded in time, and only to where they may go."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.alerts.support import NOW, failed, write

from ai_ledger.alerts import Alert, Alerts, NotSent, Rule, Webhook, verify_signature
from ai_ledger.alerts.addresses import Forbidden, check_address, checked_addresses
from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.testing import FakeClock

SECRET = "whsec-0123456789abcdef"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


class Receiver:
    """A server that keeps what it was sent and answers as it is told, then with 204."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.location: str | None = None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((self.path, dict(self.headers), body))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            if found.location:
                self.send_header("Location", found.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def alert(tmp_path: Path) -> Alert:
    url = f"sqlite:///{tmp_path}/ledger.db"
    write(url, [failed(status="timeout", id="call-1", function="分析", request_content="prompt")])
    rule = Rule(name="time-outs", kind="timeouts", threshold=1)
    [raised] = Alerts(url, [rule], clock=FakeClock(NOW)).evaluate()
    return raised


def hook(receiver: Any, **options: Any) -> Webhook:
    path = options.pop("path", "/hook?k=1")
    return Webhook(
        receiver.url + path, secret="env:HOOK_SECRET", allow_private=True,
        sleep=lambda seconds: None, **options,
    )  # fmt: skip


def test_signed_json(receiver: Receiver, alert: Alert) -> None:
    """
    The receiver can check who sent it and when, and reads every field of the alert.
    """
    hook(receiver).send(alert)

    [(path, headers, body)] = receiver.requests
    signature = headers["AI-Ledger-Signature"]
    assert (path, headers["Content-Type"]) == ("/hook?k=1", "application/json")
    assert headers["AI-Ledger-Delivery"] == str(alert.id)
    assert verify_signature(body, signature, SECRET)
    assert not verify_signature(body + b" ", signature, SECRET)
    assert not verify_signature(body, signature, SECRET + "x")
    assert not verify_signature(body, signature.replace("t=", "t=1"), SECRET)
    assert not verify_signature(body, signature, SECRET, now=time.time() + 301)
    assert not verify_signature(body, "nonsense", SECRET)
    sent = json.loads(body)
    assert sent["alert"]["text"] == alert.text
    assert sent["alert"]["calls"]["ids"] == ["call-1"]
    assert b"prompt" not in body


def test_tried_again(receiver: Receiver, alert: Alert) -> None:
    """
    What may pass is tried again after a growing pause; the signature is of each attempt.
    """
    receiver.answers = [503, 429]
    pauses: list[float] = []
    webhook = Webhook(
        receiver.url, secret="env:HOOK_SECRET", allow_private=True, sleep=pauses.append  # type: ignore[attr-defined]
    )  # fmt: skip

    webhook.send(alert)

    assert len(receiver.requests) == 3
    assert 0.4 <= pauses[0] <= 0.6 < 0.8 <= pauses[1] <= 1.2


@pytest.mark.parametrize(
    ("answers", "requests", "said"),
    [
        ([500, 502, 503, 500], 3, "503"),
        ([404], 1, "404"),
        ([301], 1, "redirects are not followed"),
        ([307], 1, "redirects are not followed"),
    ],
)
def test_given_up(
    receiver: Receiver, alert: Alert, answers: list[int], requests: int, said: str
) -> None:
    """
    A refusal is not repeated at once, a redirect not followed, and trouble not for ever.
    """
    receiver.answers = answers
    receiver.location = receiver.url + "/elsewhere"  # type: ignore[attr-defined]

    with pytest.raises(NotSent, match=said):
        hook(receiver).send(alert)

    assert [path for path, _, _ in receiver.requests] == ["/hook?k=1"] * requests


@contextmanager
def trickling() -> Iterator[Any]:
    """A server that says one byte of its answer after the other, for as long as it can."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            try:
                peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not ended.wait(0.05):
                    peer.sendall(b"x")
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    class Server:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield Server
    ended.set()
    thread.join()
    listener.close()


def test_the_time_out_is_for_all_of_it(alert: Alert) -> None:
    """
    A server that trickles cannot hold an alert for longer than the time-out.
    """
    with trickling() as server, pytest.raises(NotSent, match="no answer within"):
        # Without the bound on all of it, this would last until the test times out.
        hook(server, timeout_s=0.5, attempts=1).send(alert)


def test_nobody_there(alert: Alert) -> None:
    """
    A refused connection is one line that names the host and nothing secret.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    class Gone:
        url = f"http://127.0.0.1:{port}"

    with pytest.raises(NotSent, match=r"127\.0\.0\.1: Connection") as caught:
        hook(Gone, path="/services/T0KEN").send(alert)
    assert "T0KEN" not in str(caught.value) + repr(hook(Gone, path="/services/T0KEN"))


FORBIDDEN = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "169.254.1.1", "100.64.0.1", "100.100.100.200",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1",
    "198.18.0.1", "203.0.113.5", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1", "::ffff:0:127.0.0.1",
    "fe80::1%1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_are_not_public(address: str) -> None:
    """
    Private, loopback, link-local, multicast and metadata addresses are refused in every form.
    """
    with pytest.raises(Forbidden):
        check_address(address, allow_private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_addresses_that_are_public(address: str) -> None:
    """
    What is public is admitted.
    """
    check_address(address, allow_private=False)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "100.100.100.200",
     "fd00:ec2::254", "224.0.0.1", "0.0.0.0", "::", "ff02::1"],
)  # fmt: skip
def test_never(address: str) -> None:
    """
    Allowed or not: the credential service of a cloud is no receiver of alerts.
    """
    with pytest.raises(Forbidden):
        check_address(address, allow_private=True)
    check_address("10.1.2.3", allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://127.1/", "https://0x7f.0.0.1/", "https://0x7f000001/",
        "https://2130706433/", "https://017700000001/", "https://0/", "https://localhost/",
        "https://LOCALHOST./", "https://a.localhost/", "https://[::1]/", "https://[::]/",
        "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://169.254.169.254/",
        "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
def test_odd_spellings(url: str) -> None:
    """
    An address that is not public is refused when it is given, however it is written.
    """
    with pytest.raises(InvalidValue, match="url"):
        Webhook(url, secret="env:HOOK_SECRET")


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "http://example.com/", "ftp://example.com/", "file:///etc/passwd",
        "https://", "https://user:hunter22@example.com/", "https://example.com:0/",
        "https://example.com:99999/", "https://exa mple.com/", "https://example.com/\r\nX: y",
        "https://example.com\\@127.0.0.1/", "https://example.com/路", 7, None,
    ],
)  # fmt: skip
def test_urls_that_cannot_be(url: Any) -> None:
    """
    What is no plain https URL is refused, and what may be secret in it not repeated.
    """
    with pytest.raises(InvalidValue, match=r"^url=") as caught:
        Webhook(url, secret="env:HOOK_SECRET")
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "secret", [SECRET, "", "env:", "env:NOT_SET", "env:SHORT", "env:A-B", None]
)
def test_secrets(secret: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A secret is a reference to a variable that is there; one given itself is not shown.
    """
    monkeypatch.setenv("SHORT", "abc")
    with pytest.raises(ConfigurationError) as caught:
        Webhook("https://example.com/", secret=secret)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"timeout_s": 999}, {"attempts": 0}])
def test_options(options: dict[str, Any]) -> None:
    """
    Numbers out of bounds are refused by name.
    """
    with pytest.raises(InvalidValue, match=next(iter(options))):
        Webhook("https://example.com/", secret="env:HOOK_SECRET", **options)


def named(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the look-up of any name answer this, in turn; the names that were looked up."""
    asked: list[str] = []
    left = list(answers)

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"]])
def test_names_of_private_addresses(
    alert: Alert, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    """
    A name that means an address of the inside, also among others, is not connected to.
    """
    webhook = Webhook("https://inside.example/", secret="env:HOOK_SECRET")
    asked = named(monkeypatch, addresses)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))

    with pytest.raises(Forbidden, match="not public"):
        webhook.send(alert)
    assert asked == ["inside.example"]


def test_the_address_that_was_checked(
    receiver: Receiver, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A name that means something else a moment later is connected to where it was checked.
    """
    port = receiver.url.rpartition(":")[2]  # type: ignore[attr-defined]
    webhook = Webhook(
        f"http://rebinding.example:{port}/", secret="env:HOOK_SECRET", allow_private=True
    )
    asked = named(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])

    webhook.send(alert)

    assert asked == ["rebinding.example"]
    [(_, headers, _)] = receiver.requests
    assert headers["Host"] == f"rebinding.example:{port}"


def test_a_name_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A look-up that fails is trouble that may pass.
    """

    def none(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    with pytest.raises(NotSent, match="looked up") as caught:
        checked_addresses("nowhere.example", 443, allow_private=False)
    assert not isinstance(caught.value, Forbidden)


def test_proxies_are_not_used(
    receiver: Receiver, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A proxy of the environment would connect to what nobody has checked.
    """
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    hook(receiver).send(alert)

    assert len(receiver.requests) == 1
