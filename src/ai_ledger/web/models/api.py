"""The API of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from ai_ledger.catalog.checks import MAX_MODEL_NAME, MAX_PROVIDER_NAME
from ai_ledger.catalog.entries import EntryStatus, Kind
from ai_ledger.web.edits import Edit, HowMany
from ai_ledger.web.house import Desk
from ai_ledger.web.models import edits, shelf, trials
from ai_ledger.web.models.edits import Action
from ai_ledger.web.models.shapes import (
    CatalogImport,
    CatalogText,
    ConnectionTests,
    ModelEdit,
    Models,
    ModelView,
    NewModel,
    NewPrice,
    NewProvider,
    Prices,
    ProviderEdit,
    Providers,
    ProviderView,
    Switch,
)
from ai_ledger.web.models.trials import Operation
from ai_ledger.web.parameters import MAX_VERSION
from ai_ledger.web.periods import checked_moment
from ai_ledger.web.visit import DeskOf

router = APIRouter(tags=["models"])

# Names have slashes and colons in them (openai/gpt-4o, ft:gpt-4o:acme), so they take the
# whole rest of a path; what follows a name in a path is declared before the name alone.
Name = Annotated[str, Path(description="Slashes and colons stand as they are.")]

TOML = "application/toml"


# Providers


@router.get("/providers", operation_id="list_providers", summary="The providers in their order.")
def list_providers(
    desk: DeskOf,
    deleted: Annotated[bool, Query(description="Those that were removed, too.")] = False,
) -> Providers:
    """With their calls of the last 7 days, as far as the reader may see them."""
    return Providers(providers=shelf.providers(desk, deleted=deleted))


@router.post("/providers", status_code=201, operation_id="add_provider", summary="Add a provider.")
def add_provider(desk: DeskOf, body: NewProvider) -> ProviderView:
    """One that was removed comes back with these fields."""
    edits.add(desk, "provider", body.name, body.model_dump(exclude={"name"}))
    return shelf.provider(desk, body.name)


@router.post(
    "/providers/{name:path}/test",
    operation_id="test_provider",
    summary="Make one small real call to each enabled model of a provider.",
)
def try_provider(desk: DeskOf, name: Name) -> ConnectionTests:
    """It costs a few tokens a model, takes 45 seconds at most, and is on the books."""
    return ConnectionTests(results=trials.try_provider(desk, name))


@router.patch(
    "/providers/{name:path}", operation_id="edit_provider", summary="Change fields of a provider."
)
def edit_provider(desk: DeskOf, name: Name, body: ProviderEdit) -> ProviderView:
    """409 when somebody else has changed it since."""
    edits.edit(desk, "provider", name, body.version, _said(body))
    return shelf.provider(desk, name)


# Models


@router.get("/models", operation_id="list_models", summary="Models by provider and name.")
def list_models(
    desk: DeskOf,
    name: Annotated[str | None, Query(max_length=MAX_MODEL_NAME)] = None,
    provider: Annotated[str | None, Query(max_length=MAX_PROVIDER_NAME)] = None,
    text: Annotated[
        str | None, Query(max_length=200, description="What the name has in it.")
    ] = None,
    status: EntryStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Models:
    """With their price of now, and their calls of the last 30 days that the reader may see."""
    found = shelf.models(desk, provider=provider, text=text or name, status=status)
    if name is not None:
        found = [each for each in found if each.name == name]
    return Models(
        models=found[offset : offset + limit], total=len(found), unlisted=shelf.strangers(desk)
    )


@router.post("/models", status_code=201, operation_id="add_model", summary="Add a model.")
def add_model(desk: DeskOf, body: NewModel) -> ModelView:
    """One that was removed comes back with these fields."""
    edits.add(desk, "model", body.name, body.model_dump(exclude={"name"}))
    return shelf.model(desk, body.name)


@router.post(
    "/models/{name:path}/test",
    operation_id="test_model",
    summary="Make one small real call to a model.",
)
def try_model(desk: DeskOf, name: Name, operation: Operation = "chat") -> ConnectionTests:
    """It costs a few tokens, takes 45 seconds at most, and is on the books."""
    return ConnectionTests(results=[trials.try_model(desk, name, operation)])


@router.post(
    "/models/{name:path}/prices",
    status_code=201,
    operation_id="add_price",
    summary="Add a price to a model; those that are there stay.",
)
def add_price(desk: DeskOf, name: Name, body: NewPrice) -> ModelView:
    """Calls that were priced before keep their cost until they are priced again."""
    values = body.model_dump(exclude={"version"}, exclude_none=True)
    edits.add_price(desk, name, body.version, values)
    return shelf.model(desk, name)


@router.patch("/models/{name:path}", operation_id="edit_model", summary="Change fields of a model.")
def edit_model(desk: DeskOf, name: Name, body: ModelEdit) -> ModelView:
    """409 when somebody else has changed it since."""
    edits.edit(desk, "model", name, body.version, _said(body))
    return shelf.model(desk, name)


# Both


def _alike(
    kind: Kind,
    view: type[ProviderView] | type[ModelView],
    read: Callable[[Desk, str], ProviderView | ModelView],
    *,
    reading: str,
    removing: str,
) -> None:
    """The routes that are the same for providers and for models; *read* tells one as a *view*."""
    one = f"/{kind}s/{{name:path}}"

    @router.get(
        f"{one}/history",
        operation_id=f"get_{kind}_history",
        summary=f"Who changed a {kind}, the newest edit first.",
    )
    def history(desk: DeskOf, name: Name, limit: HowMany = 100) -> list[Edit]:
        """Not for readers who are confined to an organisation."""
        return shelf.history(desk, kind, name, limit)

    def add_switch(action: Action, summary: str) -> None:
        @router.post(
            f"{one}/{action}",
            operation_id=f"{action}_{kind}",
            summary=summary,
            response_model=view,
        )
        def switch(desk: DeskOf, name: Name, body: Switch | None = None) -> Any:
            edits.switch(desk, kind, name, action, body.version if body else None)
            return read(desk, name)

    add_switch("enable", f"Let calls to a {kind} through, also after it was removed.")
    add_switch("disable", f"Refuse calls to a {kind} from now on.")

    @router.get(
        one,
        operation_id=f"get_{kind}",
        summary=f"One {kind}.",
        description=reading,
        response_model=view,
    )
    def get(desk: DeskOf, name: Name) -> Any:
        return read(desk, name)

    @router.delete(
        one,
        operation_id=f"remove_{kind}",
        summary=f"Remove a {kind}.",
        description=removing,
        response_model=view,
    )
    def remove(
        desk: DeskOf,
        name: Name,
        version: Annotated[int | None, Query(ge=1, le=MAX_VERSION)] = None,
    ) -> Any:
        edits.switch(desk, kind, name, "remove", version)
        return read(desk, name)


_alike(
    "provider",
    ProviderView,
    shelf.provider,
    reading="Also one that was removed.",
    removing="A mark: calls to it are refused, and enabling it brings it back.",
)
_alike(
    "model",
    ModelView,
    shelf.model,
    reading="Also one that was removed. One whose name ends in /history: /models?name=…",
    removing="A mark: calls are refused, its prices are out of use, and enabling it "
    "brings it back.",
)


# Prices and files


@router.get("/prices", operation_id="list_prices", summary="Prices, and the one that holds.")
def list_prices(
    desk: DeskOf,
    model: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
    provider: Annotated[str | None, Query(min_length=1, max_length=MAX_PROVIDER_NAME)] = None,
    at: Annotated[
        AwareDatetime | None, Query(description="When a call starts; now, if left out.")
    ] = None,
) -> Prices:
    """List prices of genai-prices are too many to be listed, but are found for a model."""
    moment = checked_moment("at", at) or desk.house.clock()
    current = None if model is None else shelf.price_at(desk, model, provider, moment)
    found = shelf.prices(desk, model=model, provider=provider)
    return Prices(at=moment, current=current, prices=found)


@router.get(
    "/catalog.toml",
    operation_id="export_catalog",
    summary="The catalogue as TOML.",
    response_class=Response,
    responses={200: {"content": {TOML: {"schema": {"type": "string"}}}}},
)
def export_catalog(desk: DeskOf) -> Response:
    """Without what was removed. Not for readers who are confined to an organisation."""
    return Response(edits.export_text(desk), media_type=TOML)


@router.post(
    "/catalog/import",
    operation_id="import_catalog",
    summary="Make providers and models what a TOML text says, all or none.",
)
def import_catalog(desk: DeskOf, body: CatalogText) -> CatalogImport:
    """What is not in it stays. Without dry_run=false it only says what would change."""
    return edits.import_text(desk, body.text, dry_run=body.dry_run)


def _said(body: ProviderEdit | ModelEdit) -> dict[str, Any]:
    return body.model_dump(exclude={"version"}, exclude_unset=True)
