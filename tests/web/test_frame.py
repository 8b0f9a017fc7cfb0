"""What is around every page."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.web import create_app


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        pytest.param("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans", id="chinese first"),
        pytest.param("fr, en;q=0.5, zh;q=0.4", "en", id="the first that is known"),
        pytest.param("*;q=x", "en", id="nonsense is English"),
    ],
)
def test_the_browser_chooses_the_language(visitor: Visitor, accepted: str, tag: str) -> None:
    """
    A page is in the language that the browser asks for.
    """
    page = visitor().get("/settings", headers={"Accept-Language": accepted})

    assert f'<html lang="{tag}"' in page.text


def test_a_chosen_language_stays(visitor: Visitor) -> None:
    """
    What the reader chose counts more than what the browser asks for.
    """
    client = visitor()

    client.post("/preferences", data={"language": "zh"})

    assert '<html lang="zh-Hans"' in client.get("/settings").text


def test_a_preference_leads_to_no_other_site(visitor: Visitor) -> None:
    """
    The way back is a path of the console, whatever the referrer says.
    """
    answer = visitor().post(
        "/preferences",
        data={"theme": "dark"},
        headers={"Referer": "https://evil.example//evil.example/x"},
        follow_redirects=False,
    )

    assert answer.headers["location"] == "/"


def test_what_nobody_foresaw_is_told_without_details_and_logged(
    ledger: Ledger,
) -> None:
    """
    The page of an unforeseen error shows nothing of it, and the server gets the error itself.
    """

    def broken(request: Request) -> Response:
        raise RuntimeError("a secret detail")

    app = create_app(ledger, auth=lambda request: Access(name="tester"))
    app.routes.append(Route("/broken", broken))

    page = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False).get(
        "/broken"
    )

    assert page.status_code == 500
    assert "secret" not in page.text
    assert "something broke" in page.text
    with pytest.raises(RuntimeError, match="a secret detail"):
        TestClient(app, base_url="http://127.0.0.1").get("/broken")


def test_an_id_keeps_all_its_characters_in_a_path(ledger: Ledger) -> None:
    """
    Whatever an id has in it, its path leads to it, in every room.
    """
    from ai_ledger.web.rendering import path_of

    paths: list[str] = []

    def show(request: Request) -> Response:
        paths.append(path_of(request, "shown", name="a?b#c d/%41é"))
        return Response("")

    app = create_app(ledger, auth=lambda request: Access(name="a", role="viewer"))
    app.router.routes.insert(0, Route("/shown/{name:path}", show, name="shown"))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.get("/shown/x")

    assert paths == ["/shown/a%3Fb%23c%20d/%2541%C3%A9"]
