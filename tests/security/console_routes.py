"""Every route of the console, filled with somebody else's ids: made from the application itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount, Route

SAFE = ("GET", "HEAD")
API = "/api/v1"
# Told in the README of the test: they have nobody's data, or never end.
NO_DATA = ("/static", "/healthz", "/sign-in", "/sign-out", "/preferences", f"{API}/openapi.json")
ENDLESS = ("/calls/live", f"{API}/calls/live")


@dataclass(frozen=True)
class Way:
    """One method of one route."""

    method: str
    path: str
    operation: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    takes: frozenset[str] = field(default=frozenset(), compare=False)
    """The names that the address may have behind its path; others are refused unread."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)(?::\w+)?}", self.path)

    def filled(self, ids: dict[str, Any]) -> str:
        """The path with *ids*; KeyError for a parameter that nobody has thought of."""
        room = self.path.removeprefix(API).split("/")[1]
        found = self.path
        for name in self.parameters:
            key = f"{room}.{name}" if name == "name" else name
            found = re.sub(rf"{{{name}(?::\w+)?}}", str(ids[key]), found)
        return found


def ways(app: Any) -> list[Way]:
    """All ways into *app*: its pages, and its API by its own description."""
    found: list[Way] = []
    for route in app.routes:
        if route.path.startswith(NO_DATA):
            continue
        if isinstance(route, Route):
            methods = sorted(set(route.methods or ()) - {"HEAD"})
            assert methods, f"{route.path}: which methods does it take?"
            takes: frozenset[str] = getattr(route, "takes", frozenset())
            found += [Way(method, route.path, takes=takes) for method in methods]
        else:
            assert isinstance(route, Mount), f"a route of a kind that is not looked into: {route!r}"
            assert isinstance(route.app, FastAPI), f"an application not looked into: {route.path}"
            found += _api(route.path, route.app)
    return found


def _api(prefix: str, api: FastAPI) -> Iterator[Way]:
    document = api.openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            takes = frozenset(each["name"] for each in operation.get("parameters", ()))
            yield Way(method.upper(), prefix + path, {**operation, "_document": document}, takes)


def body_of(way: Way, known: dict[str, Any]) -> Any:
    """A body that the route takes: of *known* values where a name is known; ``None`` for none."""
    content = way.operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    return _value(content["application/json"]["schema"], way.operation["_document"], known, "")


def _value(schema: dict[str, Any], document: Any, known: dict[str, Any], name: str) -> Any:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for options in (schema.get("anyOf"), schema.get("oneOf")):
        if options:
            schema = next(each for each in options if each.get("type") != "null")
            return _value(schema, document, known, name)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        required = schema.get("required", ())
        return {
            each: _value(inner, document, known, each)
            for each, inner in schema.get("properties", {}).items()
            if each in required or each in known
        }
    if kind == "array":
        return [_value(schema.get("items", {}), document, known, name)]
    if kind == "string":
        if name in known and isinstance(known[name], str):
            return known[name]
        formats = {"date-time": "2026-05-20T00:00:00Z", "date": "2026-05-20"}
        return formats.get(schema.get("format", ""), "1")
    if kind in ("integer", "number"):
        if name in known and isinstance(known[name], int):
            return known[name]
        return max(1, schema.get("minimum", 1))
    return kind == "boolean"
