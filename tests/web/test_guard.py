"""What every request passes before anything else of the console sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.errors import InvalidValue
from ai_ledger.web import create_app
from ai_ledger.web.guard.headers import ALWAYS
from ai_ledger.web.guard.hosts import Hosts

ADMIN = Access(name="local", role="admin", prompts=True)
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def door(ledger: Ledger) -> Iterator[Callable[..., TestClient]]:
    """``door(anonymous=…)``: a client on loopback of a console without auth of its own."""
    clients: list[TestClient] = []

    def open_(
        peer: str = "127.0.0.1", base: str = "http://127.0.0.1", **options: Any
    ) -> TestClient:
        options.setdefault("clock", lambda: sample.NOW)
        client = TestClient(
            create_app(ledger, **options),
            base_url=base,
            client=(peer, 50_000),
            raise_server_exceptions=False,
            follow_redirects=False,
        )
        clients.append(client)
        return client

    yield open_
    for client in clients:
        client.close()


def token_of(client: TestClient, **fields: Any) -> str:
    app: Any = client.app
    return app.state.house.tokens.add("ada", by="ann", **{"role": "admin", **fields})[0]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    ("names", "host", "known"),
    [
        pytest.param([], "localhost:8700", True, id="localhost"),
        pytest.param([], "a.localhost", True, id="below localhost"),
        pytest.param([], "LOCALHOST.", True, id="capitals, and the dot of the root"),
        pytest.param([], "127.8.9.1:1", True, id="all of 127"),
        pytest.param([], "[::1]:8700", True, id="IPv6"),
        pytest.param([], "evil.example", False, id="somebody else's name"),
        pytest.param([], "localhost.evil.example", False, id="a name that begins like ours"),
        pytest.param([], "127.0.0.1.evil.example", False, id="and like our address"),
        pytest.param([], "evil.example#localhost", False, id="no name at all"),
        pytest.param([], "user@localhost", False, id="a login"),
        pytest.param([], "localhost, evil.example", False, id="two in one"),
        pytest.param([], "", False, id="empty"),
        pytest.param([], "[::1", False, id="half an address"),
        pytest.param(["my.example"], "My.Example:443", True, id="any port"),
        pytest.param(["my.example:8443"], "my.example:8443", True, id="this port"),
        pytest.param(["my.example:8443"], "my.example", False, id="not this port"),
        pytest.param(["*.my.example"], "a.b.my.example", True, id="below"),
        pytest.param(["*.my.example"], "my.example", False, id="but not itself"),
        pytest.param(["*.my.example"], "evilmy.example", False, id="nor what ends alike"),
        pytest.param(["*"], "any.example", True, id="all"),
        pytest.param(["*"], "a b", False, id="all names, but only names"),
    ],
)
def test_hosts(names: list[str], host: str, known: bool) -> None:
    """
    A request is for this console if its Host is one of loopback's, or was named.
    """
    assert Hosts(names).know(host) is known


@pytest.mark.parametrize("name", ["https://my.example", "my.example/x", "", "a b", "*.", "*.*"])
def test_a_host_that_is_none(ledger: Ledger, name: str) -> None:
    """
    What can never be in a Host is refused when the console is made.
    """
    with pytest.raises(InvalidValue, match="hosts"):
        create_app(ledger, hosts=[name])


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/static/favicon.svg", "/healthz", "/api/v1/nothing", "/api/v1/calls"]
)
def test_every_answer_is_protected(visitor: Visitor, path: str) -> None:
    """
    Pages, files, the API and errors have the same headers, and allow no other site to read.
    """
    answer = visitor().get(path, headers={"Origin": "https://evil.example"})

    assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS
    assert [name for name in answer.headers if name.startswith("access-control")] == []


def test_what_breaks_is_protected_and_tells_nothing(ledger: Ledger) -> None:
    """
    An error that nobody foresaw is a 500 with the same headers, and without its text.
    """

    def broken(request: Request) -> Access:
        raise RuntimeError("the password is hunter2")

    app = create_app(ledger, auth=broken)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        page, api = client.get("/settings"), client.get("/api/v1/settings")

    assert (page.status_code, api.status_code) == (500, 500)
    assert "hunter2" not in page.text + api.text
    assert page.headers["Content-Security-Policy"] == ALWAYS["Content-Security-Policy"]
    assert api.headers["Content-Type"] == "application/problem+json"


async def _later(request: Request) -> Access | None:
    return ADMIN if request.headers.get("x-user") else None


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        pytest.param(lambda request: ADMIN, 200, id="a function"),
        pytest.param(_later, 401, id="a coroutine that knows nobody"),
        pytest.param(lambda request: _later(request), 401, id="a function that gives one"),
        pytest.param(lambda request: None, 401, id="nobody"),
        pytest.param(lambda request: True, 500, id="no access at all"),
        pytest.param(lambda request: {"role": "admin"}, 500, id="something like one"),
    ],
)
def test_auth_of_the_program(door: Callable[..., TestClient], auth: Any, status: int) -> None:
    """
    A program's own auth decides alone: tokens and being on this machine count for nothing.
    """
    client = door(auth=auth, anonymous=ADMIN)
    token = token_of(client)

    assert client.get("/settings", headers=bearer(token)).status_code == status
    assert client.get("/sign-in").status_code == (404 if status == 200 else status)


def test_a_token_lets_in(door: Callable[..., TestClient]) -> None:
    """
    Whoever shows a living token is let in, as what it says; revoked, it is worth nothing at once.
    """
    client = door()
    text = token_of(client, role="viewer")

    assert client.get("/api/v1/settings", headers=bearer(text)).status_code == 200
    app: Any = client.app
    app.state.house.tokens.revoke(1, by="ann")
    refused = client.get("/api/v1/settings", headers=bearer(text))

    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_nobody_is_sent_to_sign_in(door: Callable[..., TestClient]) -> None:
    """
    Pages lead to the form and back; the API, and scripts of pages, are told.
    """
    client = door()

    page = client.get("/settings/tokens?x=1")
    api = client.get("/api/v1/settings")
    script = client.get("/settings", headers={"HX-Request": "true"})

    assert (page.status_code, page.headers["location"]) == (
        303,
        "/sign-in?next=%2Fsettings%2Ftokens%3Fx%3D1",
    )
    for answer in (api, script):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("peer", "base", "headers", "status"),
    [
        pytest.param("127.0.0.1", "http://localhost", {}, 200, id="this machine"),
        pytest.param("::1", "http://[::1]", {}, 200, id="IPv6"),
        pytest.param("10.0.0.7", "http://localhost", {}, 303, id="another machine"),
        pytest.param("127.0.0.1", "http://my.example", {}, 303, id="under another name"),
        pytest.param(
            "127.0.0.1", "http://localhost", {"X-Forwarded-For": "10.0.0.7"}, 303, id="a proxy"
        ),
        *(
            pytest.param("127.0.0.1", "http://localhost", {name: "x"}, 303, id=name)
            for name in (
                "X-Forwarded-Proto",
                "X-Forwarded-Anything",
                "Forwarded",
                "Via",
                "X-Real-IP",
                "CF-Ray",
                "True-Client-IP",
                "X-Client-IP",
                "CDN-Loop",
                "X-Cluster-Client-IP",
            )
        ),
    ],
)
def test_anonymous_is_this_machine(
    door: Callable[..., TestClient], peer: str, base: str, headers: dict[str, str], status: int
) -> None:
    """
    Without a token comes in who is on this machine, as long as there is no token.
    """
    client = door(peer, base, anonymous=ADMIN, hosts=["my.example"])

    assert client.get("/settings", headers=headers).status_code == status

    token_of(client, expires_at=sample.NOW + timedelta(hours=1))
    assert client.get("/settings", headers=headers).status_code == 303


@pytest.mark.parametrize(("version", "status"), [("1.0", 303), ("1.1", 200), ("2", 200)])
def test_old_http_comes_from_a_proxy(
    door: Callable[..., TestClient], version: str, status: int
) -> None:
    """
    What nginx passes on as it comes out of the box looks like this machine but for this.
    """
    client = door(anonymous=ADMIN)
    console: Any = client.app

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        await console({**scope, "http_version": version}, receive, send)

    with TestClient(
        proxied, base_url="http://127.0.0.1:8700", client=("127.0.0.1", 1), follow_redirects=False
    ) as through:
        assert through.get("/settings").status_code == status


def test_only_revoking_opens_the_door_again(door: Callable[..., TestClient]) -> None:
    """
    What expires lets nobody in by itself; once all tokens are revoked, this machine's user
    does again come in without one.
    """
    now = [sample.NOW]
    client = door(anonymous=ADMIN, clock=lambda: now[0])
    text = token_of(client, expires_at=sample.NOW + timedelta(hours=1))
    assert client.get("/settings").status_code == 303

    now[0] += timedelta(hours=1)

    assert client.get("/settings").status_code == 303
    assert client.get("/settings", headers=bearer(text)).status_code == 401

    console: Any = client.app
    console.state.house.tokens.revoke(1, by="ann")

    assert client.get("/settings").status_code == 200


def test_health_says_nothing_else(door: Callable[..., TestClient]) -> None:
    """
    Whether it runs is told anybody, under any name; about what it has, nothing.
    """
    answer = door("10.0.0.7", "http://10.0.0.9:8700").get("/healthz")

    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize("path", ["/settings", "/api/v1/settings", "/static/favicon.svg"])
def test_head_is_get_without_a_body(visitor: Visitor, path: str) -> None:
    """
    HEAD tells what GET would, the API included.
    """
    client = visitor()

    head, get = client.head(path), client.get(path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == str(len(get.content))


def test_mounted_below_a_path(ledger: Ledger) -> None:
    """
    Inside another program, whose routes have the same names, all addresses are the console's.
    """
    console = create_app(ledger, anonymous=ADMIN)
    inner = Starlette(routes=[Mount("/ai-ledger", console, name="settings")])
    with TestClient(
        Starlette(routes=[Mount("/outer", inner, name="overview")]),
        base_url="http://localhost",
        client=("127.0.0.1", 1),
    ) as client:
        page = client.get("/outer/ai-ledger/settings")
        console.state.house.tokens.add("ada", by="ann")
        away = client.get("/outer/ai-ledger/settings", follow_redirects=False)

    assert 'href="/outer/ai-ledger/settings/tokens"' in page.text
    assert 'href="/outer/ai-ledger/static/css/console.css' in page.text
    assert (
        away.headers["location"] == "/outer/ai-ledger/sign-in?next=%2Fouter%2Fai-ledger%2Fsettings"
    )


def test_the_store_is_away(
    door: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While nobody can be known, nobody is let in: 503, and when to try again.
    """
    from ai_ledger.errors import SinkUnavailable

    client = door(anonymous=ADMIN)
    app: Any = client.app

    def away() -> bool:
        raise SinkUnavailable("sqlite: away")

    monkeypatch.setattr(app.state.house.tokens, "any", away)

    page, api = client.get("/settings"), client.get("/api/v1/settings")

    assert (page.status_code, api.status_code) == (503, 503)
    assert api.headers["Retry-After"] == "5"


def test_files_with_their_hash_are_kept(visitor: Visitor) -> None:
    """
    A file whose address changes with it is fetched once; everything else is in no cache.
    """
    client = visitor()

    assert "immutable" in client.get("/static/css/console.css?v=abc").headers["Cache-Control"]
    assert client.get("/static/nothing.css?v=abc").headers["Cache-Control"] == "no-store"
    assert client.get("/api/v1/settings").headers["Cache-Control"] == "no-store"
