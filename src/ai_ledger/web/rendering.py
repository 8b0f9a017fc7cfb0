"""Pages from templates: each room has a folder of them, which is the first part of their name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup, escape
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ai_ledger._version import __version__
from ai_ledger.database.address import without_password
from ai_ledger.web.language import LANGUAGES, Details, Labels, Language
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.access import Access
    from ai_ledger.web.house import Desk

_Page: TypeAlias = Callable[[Request], Response]

_ROOMS: Final = Path(__file__).parent
STATIC: Final = _ROOMS / "static"
# Of the header; the undo of much names one thing that was stored, and not all that it holds.
_MAX_SAID: Final = 1_000


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """
    A page or a part of one.

    Templates know ``visit``, ``language``, ``access``, ``request``, ``path(name, …)``,
    ``static(path)``, ``labels`` and ``address``, that of the ledger, besides *values*;
    everything in them is escaped.

    Args:
        request: What is answered.
        template: ``room/name.html``.
        status: Of the answer.
        values: For the template.
    """
    text = text_of(request, template, status=status, **values)
    # JSON that somebody else made may have half of a character in it, which no page can have.
    page = text.encode(errors="replace")
    return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})


def text_of(request: Request, template: str, **values: Any) -> str:
    """The text of a part of a page, for what is sent piece by piece; see `render`."""
    visit = visit_of(request)
    environment = _environment(visit.language.code, str(visit.language.tz))
    return environment.get_template(template).render(
        visit=visit,
        language=visit.language,
        access=visit.access,
        request=request,
        path=_Paths(request),
        static=_Static(request),
        version=__version__,
        address=_address(visit.desk),
        languages=LANGUAGES,
        **values,
    )


def _address(desk: Desk) -> str:
    """Where the ledger is, for lines to be copied: for those who may see all of it."""
    # Nobody in particular sees the page to sign in.
    known = cast("Access | None", desk.access)
    if known is None or known.org_id is not None:
        return "…"
    return without_password(desk.house.url)


def done(
    request: Request,
    message: str,
    *,
    back: str,
    undo: str | None = None,
    fields: Mapping[str, str | list[str]] | None = None,
) -> Response:
    """
    The answer to a form that changed something.

    The page says *message*, offers to undo it, and renews its parts that say
    ``hx-trigger="changed from:body"``. Without a script it goes *back*.

    Args:
        request: That of the form.
        message: What was done, in the reader's language.
        back: Path of the page to show where there is no script.
        undo: Path that takes it back, by POST.
        fields: The form that is sent there.
    """
    if not is_partial(request):
        return RedirectResponse(back, 303)
    detail: dict[str, Any] = {"message": message}
    if undo is not None:
        detail["undo"] = {"path": undo, "fields": dict(fields or {})}
    # A header takes ASCII alone, which is how this is encoded.
    said = json.dumps({"done": detail, "changed": {}})
    if len(said) > _MAX_SAID and detail.pop("undo", None) is not None:
        # Proxies refuse long headers: what was done has to arrive, the way back need not.
        said = json.dumps({"done": detail, "changed": {}})
    return Response(status_code=204, headers={"HX-Trigger": said})


def moved(request: Request, to: str) -> Response:
    """The answer that shows the page at *to*, also where a script of the page asked."""
    if is_partial(request):
        return Response(status_code=204, headers={"HX-Redirect": to})
    return RedirectResponse(to, 303)


def attachment(name: str) -> dict[str, str]:
    """The headers of an answer that a browser saves under *name*, which is of our own making."""
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


def is_partial(request: HTTPConnection) -> bool:
    """Whether a script of the page asks, and not the browser itself."""
    return request.headers.get("hx-request") == "true"


def part_of(page: str) -> Callable[[_Page], _Page]:
    """
    A decorator for what answers with a part of a page: who opens its address gets the page.

    Args:
        page: The page's name; it takes the same parameters in its path and address.
    """

    def whole(work: _Page) -> _Page:
        @wraps(work)
        def endpoint(request: Request) -> Response:
            if is_partial(request):
                return work(request)
            address = path_of(request, page, **request.path_params)
            query = request.url.query
            return RedirectResponse(f"{address}?{query}" if query else address, 303)

        return endpoint

    return whole


def path_of(request: HTTPConnection, name: str, /, **parameters: Any) -> str:
    """The path of a route, where the application is mounted; without a host."""
    # A route sets texts in as they are, and an id may have a "?" or a "#" in it.
    quoted = {
        key: quote(each, safe="/") if isinstance(each, str) else each
        for key, each in parameters.items()
    }
    return request.url_for(name, **quoted).path


class _Paths:
    """``path("calls", query={…})`` in templates."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __call__(
        self, name: str, /, *, query: Mapping[str, Any] | None = None, **parameters: Any
    ) -> str:
        found = path_of(self._request, name, **parameters)
        pairs = {key: value for key, value in (query or {}).items() if value not in (None, "", [])}
        return f"{found}?{urlencode(pairs, doseq=True)}" if pairs else found


class _Static:
    """``static("css/console.css")`` in templates: with the file's hash, so it can be kept."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __call__(self, name: str) -> str:
        return f"{path_of(self._request, 'static', path=name)}?v={_hash(name)}"


@cache
def _hash(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


@cache
def _environment(code: str, zone: str) -> jinja2.Environment:
    from ai_ledger.stats.calendar import time_zone

    environment = jinja2.Environment(
        loader=jinja2.PrefixLoader(
            {
                folder.parent.name: jinja2.FileSystemLoader(folder)
                for folder in sorted(_ROOMS.glob("*/templates"))
            }
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    language = Language(code, time_zone(zone))
    install: Any = environment
    install.install_gettext_callables(language.gettext, language.ngettext, newstyle=True)
    for name in ("number", "compact", "percent", "change", "amount", "money", "duration"):
        environment.filters[name] = getattr(language, name)
    for name in ("moment", "day", "ago", "seconds", "span"):
        environment.filters[name] = getattr(language, name)
    environment.filters["chart_data"] = _chart_data
    environment.filters["breakable"] = breakable
    environment.filters["told"] = Details(language)
    known: Any = environment.globals
    known["labels"] = Labels(language)
    return environment


def _chart_data(value: Any) -> Markup:
    """*value* as JSON inside an attribute in double quotes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return Markup(escape(text))  # noqa: S704  # escaped right here


_PIECES: Final = re.compile(r"[^_\-/.:@]{1,20}[_\-/.:@]*|[_\-/.:@]{1,20}")


def breakable(text: str) -> Markup:
    """*text*, a name or an id, with places where a line may end: behind signs, not in words."""
    # Also in what has no sign for long, so that no table is as wide as its longest id.
    # The texts that it joins are escaped by the Markup.
    return Markup("<wbr>").join(_PIECES.findall(text))
