"""Signing in and out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.web import create_app
from ai_ledger.web.sign_in import pages
from ai_ledger.web.sign_in.failures import Failures

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A browser that nobody has signed in with."""
    monkeypatch.setattr(pages, "_failures", Failures(lambda: 0.0))
    with TestClient(
        create_app(ledger, clock=lambda: sample.NOW),
        base_url="http://localhost",
        headers=OWN,
        follow_redirects=False,
    ) as client:
        yield client


def token_of(browser: TestClient, **fields: Any) -> str:
    app: Any = browser.app
    return app.state.house.tokens.add("ada", by="ann", **{"role": "admin", **fields})[0]


def test_in_and_out(browser: TestClient) -> None:
    """
    A token opens a session, whose cookie scripts and other sites never get; out ends it.
    """
    text = token_of(browser)

    answer = browser.post("/sign-in", data={"token": f" {text}\n", "next": "/settings/tokens?x=1"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/settings/tokens?x=1")
    cookie = answer.headers["set-cookie"]
    value, *flags = cookie.split("; ")
    assert sorted(flags) == ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=strict"]
    assert text not in cookie
    page = browser.get("/settings")
    assert page.status_code == 200
    assert 'action="/sign-out"' in page.text
    assert browser.get("/sign-in?next=/settings").headers["location"] == "/settings"

    out = browser.post("/sign-out")
    name, _, session = value.partition("=")
    browser.cookies.set(name, session)
    assert out.headers["location"] == "/sign-in"
    assert browser.get("/settings").status_code == 303
    assert browser.get("/api/v1/settings").status_code == 401


def test_signing_in_again_ends_the_session_before(browser: TestClient) -> None:
    """
    Nobody goes on with a cookie that its browser has forgotten.
    """
    text = token_of(browser)
    first = browser.post("/sign-in", data={"token": text}).headers["set-cookie"].split(";")[0]

    browser.post("/sign-in", data={"token": text})
    now = browser.get("/settings").status_code
    browser.cookies.clear()
    before = browser.get("/settings", headers={"Cookie": first}).status_code

    assert (now, before) == (200, 303)


def test_two_ledgers_on_one_machine(browser: TestClient, tmp_path: Path) -> None:
    """
    Who signs in to the console of another ledger, at another port, stays in this one.
    """
    with (
        Ledger(f"sqlite:///{tmp_path / 'other.db'}", journal=tmp_path / "other") as other,
        TestClient(
            create_app(other, clock=lambda: sample.NOW),
            base_url="http://localhost:8700",
            headers=OWN,
            cookies=browser.cookies,
            follow_redirects=False,
        ) as elsewhere,
    ):
        browser.post("/sign-in", data={"token": token_of(browser)})
        # As browsers do it, for all ports of a host.
        elsewhere.cookies.update(browser.cookies)
        elsewhere.post("/sign-in", data={"token": token_of(elsewhere)})
        browser.cookies.update(elsewhere.cookies)

        assert elsewhere.get("/settings").status_code == 200
        assert browser.get("/settings").status_code == 200


def test_a_session_ends_with_its_token(browser: TestClient) -> None:
    """
    Whoever's token is revoked is out with the next request.
    """
    browser.post("/sign-in", data={"token": token_of(browser)})
    assert browser.get("/settings").status_code == 200
    app: Any = browser.app

    app.state.house.tokens.revoke(1, by="ann")

    assert browser.get("/settings").headers["location"] == "/sign-in?next=%2Fsettings"


@pytest.mark.parametrize(
    ("base", "headers", "secure"),
    [
        pytest.param("https://localhost", OWN, True, id="TLS"),
        pytest.param(
            "http://localhost", {"Origin": "https://localhost"}, True, id="a proxy that ends TLS"
        ),
        pytest.param("http://localhost", {"Origin": "http://localhost"}, False, id="plain"),
    ],
)
def test_the_cookie_is_secure_over_tls(
    ledger: Ledger, base: str, headers: dict[str, str], secure: bool
) -> None:
    """
    Over TLS the cookie never travels without it, also where a proxy ends TLS.
    """
    with TestClient(create_app(ledger), base_url=base, follow_redirects=False) as client:
        answer = client.post("/sign-in", data={"token": token_of(client)}, headers=headers)

    assert ("; Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize("text", ["", "ail_wrong", "x" * 5_000, "ail_\x00é"])
def test_a_wrong_token(browser: TestClient, text: str) -> None:
    """
    A wrong token is the same page again, which says how one is made, and no cookie.
    """
    answer = browser.post("/sign-in", data={"token": text})

    assert answer.status_code == 401
    assert "ai-ledger tokens add" in answer.text
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers
    assert not text or text not in answer.text


def test_too_many_wrong_tokens(browser: TestClient) -> None:
    """
    After ten within a minute comes 429, and when to try again; a right token is let in.
    """
    statuses = [browser.post("/sign-in", data={"token": "x"}).status_code for _ in range(11)]
    refused = browser.post("/sign-in", data={"token": "x"})
    right = browser.post("/sign-in", data={"token": token_of(browser)})

    assert statuses == [401] * 10 + [429]
    assert refused.headers["Retry-After"] == "60"
    assert right.status_code == 303


def test_failures_are_forgotten() -> None:
    """
    A minute later all is well again; each peer counts alone, and few are remembered.
    """
    now = [0.0]
    failures = Failures(lambda: now[0])
    assert [failures.note("a") for _ in range(11)] == [None] * 10 + [60.0]
    assert failures.note("b") is None
    now[0] = 60.0
    assert failures.note("a") is None
    for number in range(5_000):
        failures.note(str(number))
    assert len(failures._seen) == 1_000


@pytest.mark.parametrize(
    "there",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "/\t/evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/x\r\nSet-Cookie: a=b",
        "http:/evil.example",
        "/sign-in?next=/",
        "",
    ],
)
def test_the_way_on_is_ours(browser: TestClient, there: str) -> None:
    """
    After signing in one is on a page of the console, whatever the address said.
    """
    answer = browser.post("/sign-in", data={"token": token_of(browser), "next": there})

    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "there",
    [
        "/calls/a%3Fb%23c?days=3&user_id=%E6%97%A5",
        "/calls/%E6%97%A5%E6%9C%AC",
        "/calls/a%2Fb%25c",
        "/calls/a+b%20c",
    ],
)
def test_the_way_on_is_what_was_asked_for(browser: TestClient, there: str) -> None:
    """
    Whatever signs are in an address, one gets there after signing in.
    """
    sent = browser.get(there)
    page = browser.get(sent.headers["location"])
    (back,) = re.findall(r'name="next" value="([^"]*)"', page.text)

    answer = browser.post("/sign-in", data={"token": token_of(browser), "next": unescape(back)})

    assert answer.headers["location"] == there


def test_it_speaks_chinese(browser: TestClient) -> None:
    """
    The page is in the reader's language before anybody knows the reader.
    """
    assert "<h1>登录</h1>" in browser.get("/sign-in", headers={"Accept-Language": "zh-CN"}).text


def test_signing_in_from_another_site(browser: TestClient) -> None:
    """
    Nobody else's page signs a browser in, with whatever token.
    """
    answer = browser.post(
        "/sign-in", data={"token": token_of(browser)}, headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
