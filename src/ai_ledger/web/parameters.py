"""What an address may ask: parameters of many routes; names that a route lacks are refused."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any, Final, TypeAlias

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ai_ledger.errors import InvalidValue

MAX_VERSION: Final = 2**31 - 1
"""What the narrowest column of versions holds."""

Version: TypeAlias = Annotated[
    int | None,
    Query(ge=0, le=MAX_VERSION, description="Only if it is still at this version."),
]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=200)]

_SHOWN_CHARS = 80


async def known_parameters(request: Request) -> None:
    """
    Refuse parameters that the API's route does not have: a dependency of all of them.

    A filter that was mistyped would be no filter, and the question one about everything.

    Raises:
        RequestValidationError: Names each of them, with those that there are.
    """
    if not request.query_params:
        return
    api: FastAPI = request.app
    names = getattr(api.state, "parameters", None)
    if names is None:
        names = api.state.parameters = _parameters(api)
    known = names[request.scope["route"].operation_id]
    odd = [name for name in request.query_params if name not in known]
    if odd:
        said = f"there is no such parameter here: {_listed(known)}"
        raise RequestValidationError(
            [
                {"type": "extra_forbidden", "loc": ("query", name[:_SHOWN_CHARS]), "msg": said}
                for name in dict.fromkeys(odd)
            ]
        )


class Page(Route):
    """
    The route of a page, or of a part of one.

    Whoever opens it with a parameter that it does not take is refused before anything is read.

    Args:
        path: As `Route` takes it.
        endpoint: Answers.
        name: For `path_of`.
        takes: The parameters that its address may have.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Response],
        *,
        name: str,
        takes: Collection[str] = (),
    ) -> None:
        super().__init__(path, endpoint, name=name)
        self.takes: Final = frozenset(takes)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, if the address has no other parameters."""
        only(QueryParams(scope["query_string"]), self.takes)
        await super().handle(scope, receive, send)


def only(parameters: QueryParams, known: Collection[str]) -> None:
    """
    Refuse an address with a parameter that is none of *known*, unless it says nothing.

    Raises:
        InvalidValue: Names the first.
    """
    for name, value in parameters.multi_items():
        # A field that a form left empty was not filled in, whatever it is called.
        if name not in known and value != "":
            raise InvalidValue("parameter", name[:_SHOWN_CHARS], _listed(known))


def _listed(known: Collection[str]) -> str:
    return f"one of {', '.join(sorted(known))}" if known else "none is taken"


def _parameters(api: FastAPI) -> dict[str, frozenset[str]]:
    """The parameters in the address of each operation, as the OpenAPI document has them."""
    operations: list[dict[str, Any]] = [
        operation
        for item in api.openapi()["paths"].values()
        for operation in item.values()
        if "operationId" in operation
    ]
    return {
        operation["operationId"]: frozenset(
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"
        )
        for operation in operations
    }
