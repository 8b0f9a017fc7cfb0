"""Rows 12 to 15 and 21 of the threats: other sites, other names, other machines, too much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.cli.app import run
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app

ADMIN = Access(name="ann", role="admin", prompts=True)
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    """A console that takes everybody for an administrator, as a cookie of a program might."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", journal=tmp_path / "journal") as ledger:
        ledger.store.write(sample.calls(12))
        yield create_app(ledger, auth=lambda request: ADMIN, clock=lambda: sample.NOW)
    close_databases()


def client(app: Any, base: str = "http://localhost:8700") -> TestClient:
    return TestClient(app, base_url=base, follow_redirects=False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="a neighbour of the same domain"),
        pytest.param(
            {"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer x", "Content-Type": JSON},
            403,
            id="another site with anything else",
        ),
        pytest.param({"Sec-Fetch-Site": "evil"}, 403, id="nonsense"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="an old browser"),
        pytest.param({"Origin": "null", "Content-Type": JSON}, 403, id="a frame without origin"),
        pytest.param({"Origin": "http://localhost:9999"}, 403, id="another port"),
        pytest.param({"Origin": "http://localhost:8700.evil.example"}, 403, id="a name alike"),
        pytest.param({"Content-Type": "text/plain"}, 403, id="JSON as plain text"),
        pytest.param({"Content-Type": FORM}, 403, id="a form of nobody knows where"),
        pytest.param({}, 403, id="nothing at all"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Content-Type": JSON}, 200, id="a page"),
        pytest.param({"Sec-Fetch-Site": "none", "Content-Type": JSON}, 200, id="a person"),
        pytest.param({"Origin": "http://localhost:8700", "Content-Type": JSON}, 200, id="own"),
        pytest.param({"Origin": "https://localhost:8700", "Content-Type": JSON}, 200, id="TLS"),
        pytest.param({"Content-Type": JSON}, 200, id="a program"),
        pytest.param(
            {"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"}, 415, id="no JSON"
        ),
    ],
)
def test_other_sites_change_nothing(app: Any, headers: dict[str, str], status: int) -> None:
    """
    A request that changes something comes from a page of the console, or from no browser.
    """
    answer = client(app).post("/api/v1/settings/erasure", content=b'{"days": 1}', headers=headers)

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("path", ["/calls", "/api/v1/calls", "/static/favicon.svg", "/sign-in"])
@pytest.mark.parametrize(
    ("site", "mode", "kind", "status"),
    [
        pytest.param("cross-site", "no-cors", "image", 403, id="an image"),
        pytest.param("cross-site", "no-cors", "script", 403, id="a script"),
        pytest.param("cross-site", "cors", "empty", 403, id="a question"),
        pytest.param("cross-site", "navigate", "iframe", 403, id="a frame"),
        pytest.param("cross-site", None, None, 403, id="nobody knows what"),
        pytest.param("same-site", "no-cors", "image", 403, id="an image of another port"),
        pytest.param("cross-site", "navigate", "document", 200, id="a link"),
        pytest.param("same-site", "navigate", None, 200, id="a link of another port"),
        pytest.param("same-origin", "cors", "empty", 200, id="a page of its own"),
        pytest.param("none", "navigate", "document", 200, id="a person"),
        pytest.param(None, None, None, 200, id="a program"),
    ],
)
def test_other_sites_only_link(
    app: Any, path: str, site: str | None, mode: str | None, kind: str | None, status: int
) -> None:
    """
    What another site has a browser load is refused before it takes any work, but for links.
    """
    said = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
    headers = {name: value for name, value in said.items() if value is not None}

    for method in ("GET", "HEAD"):
        answer = client(app).request(method, path, headers=headers)
        # With auth of a program nobody signs in here.
        assert answer.status_code == (404 if status == 200 and path == "/sign-in" else status)


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_what_watches_may_stand_elsewhere(app: Any, path: str) -> None:
    """
    Health and metrics are read by whatever somebody has set up for it.
    """
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}

    assert client(app).get(path, headers=headers).status_code == 200


def test_what_says_twice_where_it_comes_from(app: Any) -> None:
    """
    Two headers of which one is right are wrong.
    """
    both = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]

    answer = client(app).post("/preferences", data={"theme": "dark"}, headers=both)

    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/settings/erasure", "/calls/delete", "/api/v1/calls/delete"])
def test_get_changes_nothing(app: Any, path: str) -> None:
    """
    What changes something is not to be had with an address alone.
    """
    answer = client(app).get(path, params={"days": 1, "confirmed": 1, "id": "call-00001"})

    # 422: there is a page of one call at such an address, which takes none of these.
    assert answer.status_code in (404, 405, 422)
    assert app.state.house.reader.call(None, "call-00001").deleted_at is None


@pytest.mark.parametrize("path", ["/", "/api/v1/settings", "/static/favicon.svg", "/sign-in"])
@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([b"evil.example"], id="DNS rebinding"),
        pytest.param([b"evil.example:8700"], id="with our port"),
        pytest.param([], id="none"),
        pytest.param([b"localhost", b"evil.example"], id="two"),
        pytest.param([b"localhost\x00.evil.example"], id="an odd one"),
        pytest.param([b"[::1].evil.example"], id="half an address"),
        pytest.param([b""], id="an empty one"),
    ],
)
def test_other_names_are_refused(app: Any, path: str, hosts: list[bytes]) -> None:
    """
    Under a name that nobody allowed there is nothing but 421, which says what to set.
    """
    status, _, body = asyncio.run(_asked(app, path, [(b"host", each) for each in hosts]))

    assert status == 421
    assert b"--allow-host" in body


def test_no_other_site_reads(app: Any) -> None:
    """
    A preflight is not answered with leave, and no answer has any.
    """
    browser = client(app)
    evil = {"Origin": "https://evil.example"}

    preflight = browser.options(
        "/api/v1/calls", headers={**evil, "Access-Control-Request-Method": "GET"}
    )
    read = browser.get("/api/v1/calls", headers=evil)

    for answer in (preflight, read):
        assert [name for name in answer.headers if name.startswith("access-control")] == []
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert preflight.status_code == 405


def test_too_much_is_refused(app: Any) -> None:
    """
    Bodies and addresses have an end, whether their length is announced or not.
    """
    browser = client(app)
    own = {"Sec-Fetch-Site": "same-origin", "Content-Type": JSON}
    large = b'{"days": 1, "confirmed": "' + b"x" * 3_000_000 + b'"}'

    announced = browser.post("/api/v1/settings/erasure", content=large, headers=own)
    chunked = browser.post(
        "/api/v1/settings/erasure",
        content=iter([large[:1_500_000], large[1_500_000:]]),
        headers=own,
    )
    form = browser.post(
        "/settings/erasure",
        content=iter([b"days=1&confirmed=", b"x" * 3_000_000]),
        headers={**own, "Content-Type": FORM},
    )
    address = browser.get("/api/v1/calls?user_id=" + "x" * 20_000)

    assert (announced.status_code, chunked.status_code, form.status_code) == (413, 413, 413)
    assert address.status_code == 414


@pytest.mark.parametrize(
    "text",
    ["", "ail_", "ail_" + "A" * 43, "' OR 1=1 --", "ail_\x00", "ail_" + "x" * 100_000, "ail_é"],
)
def test_forged_tokens(app: Any, text: str) -> None:
    """
    No other text than that of a token lets anybody in.
    """
    console = create_app(app.state.house.ledger)
    real, made = console.state.house.tokens.add("ada", by="ann")
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + text.encode())]

    for hostile in (headers, [*headers, (b"authorization", f"Bearer {real}".encode())]):
        status, _, body = asyncio.run(_asked(console, "/api/v1/settings", hostile))
        assert status in (401, 414)
        assert real.encode() not in body
    for part in (made.hint, real[:-1], real.upper(), f" {real} x"):
        answer = client(console).get(
            "/api/v1/settings", headers={"Authorization": f"Bearer {part}"}
        )
        assert answer.status_code == 401
    in_address = client(console).get("/api/v1/settings", params={"token": real})
    assert in_address.status_code == 401


def test_nothing_is_injected_into_headers(app: Any) -> None:
    """
    Line breaks in what is asked for begin no header, and lead nowhere else.
    """
    console = create_app(app.state.house.ledger)
    browser = client(console)
    for path in ("/x%0d%0aSet-Cookie:%20a=b", "//evil.example/x", "/settings?next=%0d%0aX:%20y"):
        answer = browser.get(path)
        assert "set-cookie" not in answer.headers
        assert "x" not in answer.headers
        assert answer.headers.get("location", "/").startswith("/sign-in")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])
def test_open_only_with_a_token(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Where other machines come in, there is a token first, or the console does not start.
    """
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    assert run(["init", "--url", url, "--prices", str(tmp_path / "prices.toml")]) == 0
    capsys.readouterr()

    assert run(["serve", "--url", url, "--host", host]) == 2
    assert "ai-ledger tokens add" in capsys.readouterr().err


async def _asked(
    app: Any, path: str, headers: list[tuple[bytes, bytes]]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """What *app* answers to headers that no client would send."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 1), "server": ("x", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], sent[0]["headers"], body
