"""The reference of the HTTP API names the routes that are there: `python -m` this renews it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ai_ledger.web.app import _api
from ai_ledger.web.guard import sizes
from ai_ledger.web.problems import PROBLEMS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"
METHODS = ("get", "post", "put", "patch", "delete")
ASKED_FOR = [
    "/ai_call_records/list",
    "/ai_call_records/detail",
    "/ai_call_records/stats",
    "/ai_call_records/delete",
    "/ai_call_records/batch_delete",
    "/api/ai_usage/stats/current",
    "/api/ai_usage/stats/daily",
    "/api/ai_usage/top_users",
    "/api/ai_usage/cost_trend",
    "/api/ai_usage/export_report",
    "/api/ai_usage/download_report",
    "/api/ai_usage/dashboard",
    "/admin/ai/dashboard",
    "/admin/ai/run-logs",
    "/admin/ai/run-logs/{id}",
    "/admin/ai/budget",
    "/admin/ai/alerts",
    "/admin/ai/alerts/{id}/ack",
    "/admin/ai/alerts/{id}/ignore",
]


def operations() -> dict[str, dict[str, Any]]:
    """``GET /calls`` → its description in the OpenAPI document."""
    return {
        f"{method.upper()} {path}": item[method]
        for path, item in _api().openapi()["paths"].items()
        for method in METHODS
        if method in item
    }


def part(name: str) -> str:
    """What stands between two marks of the page."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


def table() -> str:
    """All routes, by subject."""
    found = operations()
    order = sorted(
        found,
        key=lambda route: (
            found[route]["tags"][0],
            route.partition(" ")[2],
            METHODS.index(route.partition(" ")[0].lower()),
        ),
    )
    lines = ["| route | what it does |", "|---|---|"]
    lines += [f"| `{route}` | {found[route]['summary']} |" for route in order]
    return "\n".join(lines) + "\n"


def test_every_route_is_in_the_reference() -> None:
    """
    With its sentence; `python -m tests.web.test_http_api_reference` writes the table anew.
    """
    assert part("routes") == table()


def test_every_route_that_people_are_led_to_exists() -> None:
    """
    Each endpoint that people have today has its row, and leads to routes of today.
    """
    rows = [re.findall(r"`([^`]*)`", line) for line in part("mapping").splitlines()[2:]]
    routes = operations()

    assert [row[0] for row in rows] == ASKED_FOR
    for row in rows:
        assert row[1] in routes
        for named in row[2:]:
            assert " " not in named or named in routes


@pytest.mark.parametrize("status", sorted(PROBLEMS, key=str))
def test_every_status_is_explained(status: int | str) -> None:
    """
    What any route may answer instead has its line.
    """
    assert f"| {status} |" in PAGE.read_text()


def test_the_bounds_are_those_of_the_guard() -> None:
    """
    What may be sent at most is what the page says.
    """
    megabyte = 1024 * 1024

    bodies = f"{sizes.MAX_BODY_BYTES // megabyte} MB, {sizes.MAX_UPLOAD_BYTES // megabyte} MB for"
    assert bodies in PAGE.read_text()
    assert f"{sizes.MAX_ADDRESS_BYTES // 1024} kB for an address" in PAGE.read_text()


if __name__ == "__main__":
    before, rest = PAGE.read_text().split("<!-- routes -->\n")
    after = rest.partition("<!-- /routes -->")[2]
    PAGE.write_text(f"{before}<!-- routes -->\n{table()}<!-- /routes -->{after}")
