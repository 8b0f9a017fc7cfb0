"""Every page of the console in a real browser: both languages, both themes, all widths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from starlette.routing import Match, Route
from tests.browser.console import Console

from ai_ledger.web.app import ROOMS

pytestmark = pytest.mark.timeout(300)

ROUTES: dict[str, list[Route]] = {
    room.__name__.rpartition(".")[2]: [
        route
        for route in room.routes
        if isinstance(route, Route) and "GET" in (route.methods or ())
    ]
    for room in ROOMS
}
PAGED = [room for room in ROUTES if room != "metrics"]
"""Rooms that people look at: what scrapes metrics reads no pages."""
A_ROUTE = 2
"""So many addresses of each route are looked at: a list and its second page, two details."""
WIDTHS = (1280, 768, 390)
TAGS = {"en": "en", "zh": "zh-Hans"}


class Links(HTMLParser):
    """The links of a page, and whether it is a whole one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.whole = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.whole |= tag == "html"
        if tag == "a" and names.get("href") and "download" not in names:
            self.found.append(names["href"] or "")


def route_of(path: str) -> str | None:
    """The name of the route that answers *path*, if it is a page's."""
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    for routes in ROUTES.values():
        for route in routes:
            if route.matches(scope)[0] is Match.FULL:
                return route.name
    return None


@pytest.fixture(scope="module")
def addresses(console: Console) -> dict[str, list[str]]:
    """Route → addresses of its pages, found by following every link from the overview on."""
    found: dict[str, list[str]] = {}
    waiting = ["/"]
    seen: set[str] = set()
    with httpx.Client(base_url=console.base, timeout=60, headers={"Accept": "text/html"}) as client:
        while waiting:
            address = waiting.pop(0)
            parts = urlsplit(urljoin(console.base + "/", address))
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            name = route_of(parts.path)
            if path in seen or name is None or len(found.get(name, [])) >= A_ROUTE:
                continue
            seen.add(path)
            with client.stream("GET", path) as answer:
                assert answer.status_code < 400, f"{path}: {answer.status_code}"
                if not answer.headers["content-type"].startswith("text/html"):
                    continue
                text = answer.read().decode()
            links = Links(text)
            if links.whole:
                found.setdefault(name, []).append(path)
                waiting += [urljoin(path, link) for link in links.found]
    return found


def pages_of(addresses: dict[str, list[str]], room: str) -> Iterator[str]:
    for route in ROUTES[room]:
        yield from addresses.get(route.name, [])


def overflow(page: Any) -> int:
    """By how many pixels the page is wider than the window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def too_wide(page: Any, width: int) -> str | None:
    """By how much the page is wider than a window of *width*, once it has settled in it."""
    from playwright.sync_api import TimeoutError as NeverSo

    page.set_viewport_size({"width": width, "height": 900})
    try:
        # Charts follow a moment after the window; a page that fits is not waited for.
        page.wait_for_function(
            "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth",
            timeout=2000,
        )
    except NeverSo:
        return f"{overflow(page)} px too wide at {width}"
    return None


def looked_at(page: Any, path: str, language: str) -> list[str]:
    """What is wrong with a page, whatever its colours are."""
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(path)
    wrong: list[str] = []
    if page.locator("html").get_attribute("lang") != TAGS[language]:
        wrong.append("lang")
    if not re.fullmatch(r".+ · ai-ledger", page.title(), re.DOTALL):
        wrong.append(f"title {page.title()!r}")
    if page.locator("h1").count() != 1:
        wrong.append(f"{page.locator('h1').count()} headings of the first level")
    # A heading may be a name or an id; then something beside it says what it is.
    if language == "zh" and not re.search(r"[\u4e00-\u9fff]", page.locator("main").inner_text()):
        wrong.append("no Chinese")
    wrong += [found for width in WIDTHS if (found := too_wide(page, width))]
    return wrong


def serious(page: Any, **options: Any) -> list[str]:
    """What axe finds serious or critical: rule, element, and what is wrong with it."""
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(page, options={"resultTypes": ["violations"], **options}).response
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:240]}"
        for each in report["violations"]
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"][:3]
    ]


@pytest.mark.parametrize("room", PAGED)
@pytest.mark.parametrize("language", TAGS)
def test_a_page_holds_in_the_browser(
    console: Console,
    addresses: dict[str, list[str]],
    open_page: Callable[..., Any],
    room: str,
    language: str,
) -> None:
    """
    No request elsewhere, no error, no dialog, nothing too wide, and nothing that axe finds serious.

    A theme changes nothing but colours: English pages are looked at in both, one after the
    other, and Chinese ones in the dark.
    """
    theme = "light" if language == "en" else "dark"
    page = open_page(console, "/favicon-of-nobody", language=language, theme=theme)
    page.watched.faults.clear()  # the browser says itself that there is no such page
    found: dict[str, list[str]] = {}
    shapes: set[str | None] = set()
    for path in pages_of(addresses, room):
        wrong = looked_at(page, path, language)
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        # The second page of a route has other texts, and the same elements.
        is_first = route_of(urlsplit(path).path) not in shapes
        shapes.add(route_of(urlsplit(path).path))
        if language == "en" or is_first:
            wrong += serious(page)
        if language == "en" and is_first:
            page.emulate_media(color_scheme="dark")
            wrong += [f"dark: {each}" for each in serious(page, runOnly=["color-contrast"])]
            page.emulate_media(color_scheme="light")
        wrong += page.watched.faults
        page.watched.faults.clear()
        if wrong:
            found[path] = wrong
    assert found == {}
    assert shapes


@pytest.mark.parametrize("language", TAGS)
def test_a_fresh_ledger_teaches(
    fresh: Console, open_page: Callable[..., Any], language: str
) -> None:
    """
    Where nothing was recorded every page stands, fits a phone, and the overview shows the
    lines that record the first call.
    """
    page = open_page(fresh, "/", language=language, width=390)
    assert "TrackedClient(OpenAI()" in page.locator("main").inner_text()
    paths = page.locator("#places a").evaluate_all("links => links.map(a => a.pathname)")
    assert len(paths) == len(set(paths)) > 1
    wrong: dict[str, list[str]] = {}
    for path in paths:
        page.goto(path)
        found = [*filter(None, [too_wide(page, 390)]), *serious(page)]
        if found:
            wrong[path] = found
    assert wrong == {}


def test_every_page_is_reached_by_links(addresses: dict[str, list[str]]) -> None:
    """
    Whoever follows links from the overview finds each room.
    """
    found = {room for room in PAGED if any(pages_of(addresses, room))}

    assert found == set(PAGED)


def test_stored_texts_are_shown_as_texts(
    console: Console, addresses: dict[str, list[str]], open_page: Callable[..., Any]
) -> None:
    """
    What looks like markup is there to be read: on the list of calls and in a detail.
    """
    page = open_page(console, "/calls?days=1")
    assert "<script>alert('x')</script>" in page.locator("main").inner_text()
    assert page.locator("main img, main iframe, main a[href^='javascript:']").count() == 0
    assert page.locator("main script").count() == 0
