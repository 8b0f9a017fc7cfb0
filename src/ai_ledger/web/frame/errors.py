"""What is answered instead, when something goes wrong: a page, or problem details."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from ai_ledger.errors import (
    AccessDenied,
    AlreadyThere,
    ConfigurationError,
    EditConflict,
    InvalidValue,
    MissingExtra,
    NotFound,
    PriceError,
    SchemaError,
    SinkError,
)
from ai_ledger.web.guard.guard import is_api, route_path
from ai_ledger.web.language import Details, Labels
from ai_ledger.web.problems import detail_of, problem_of, status_of
from ai_ledger.web.rendering import is_partial, render
from ai_ledger.web.visit import visit_of

if TYPE_CHECKING:
    from ai_ledger.web.language import Language

_DAYS: Final = ("first", "last", "since", "until", "valid_from", "valid_until", "expires_at")
_PRICES: Final = ("price", "prices", "currency", "per_call", "source", "starts")
_NUMBER: Final = re.compile(r"(a whole|a) number|digits|an amount|a share|minutes|at most \d")
_DAY: Final = re.compile(r"a day|a date|a datetime|a moment|YYYY")
_ONE_PRICE: Final = re.compile(r"\Aprices\[0\](?: \([^()]*\))?: (?=\w+=)")
_ABOUT: Final = re.compile(r"(?s)\A(?P<field>\w+)=(?P<value>.*?): expected (?P<expected>.*)\Z")
_VARIABLE: Final = re.compile(r"environment variable \S+ is not set")


def answer_to(request: Request, error: Exception) -> Response:
    """A page for whoever reads pages, problem details for scripts and programs."""
    if is_api(route_path(request.scope)) or is_partial(request):
        return problem_to(request, error)
    language = visit_of(request).language
    title, detail = title_of(error, language), told(error, language)
    status = status_of(error)
    page = render(request, "frame/error.html", status=status, title=title, error=detail)
    page.headers.update(cast("dict[str, str]", getattr(error, "headers", None) or {}))
    return page


def problem_to(request: Request, error: Exception) -> Response:
    """Problem details: in English for programs, in the reader's language for scripts of pages."""
    # Those ask the API, too, as for an export.
    if not is_partial(request):
        return problem_of(error)
    language = visit_of(request).language
    return problem_of(error, title=title_of(error, language), detail=told(error, language))


def title_of(error: Exception, language: Language) -> str:
    """What went wrong, in short; see `told` for the details."""
    _ = language.gettext
    if isinstance(error, InvalidValue):
        return _of_value(error, language)
    if isinstance(error, ConfigurationError) and _VARIABLE.search(str(error)):
        return _("The environment variable of the key is not set where the console runs")
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (AccessDenied, _("Your role does not allow this")),
        (AlreadyThere, _("There is one of that name already")),
        (EditConflict, _("Somebody else was quicker")),
        (NotFound, _("It does not exist, or no more")),
        (SinkError, _("The store is away")),
        (SchemaError, _("The store is of another version")),
        (PriceError, _("This price cannot be")),
        (MissingExtra, _("A package is not installed")),
        (RequestValidationError, _("That cannot be")),
    )
    for kind, text in kinds:
        if isinstance(error, kind):
            return text
    return {
        401: _("Sign in first"),
        403: _("Not allowed"),
        404: _("Nothing here"),
        409: _("That does not fit what is there"),
        413: _("That is too large"),
        414: _("That is too large"),
        422: _("That cannot be"),
        503: _("The store is away"),
    }.get(int(status_of(error)), _("That did not work"))


def told(error: Exception, language: Language) -> str:
    """What went wrong, in detail: in the reader's language, where the sentence is known."""
    # A form of a price has one, and says so without its number.
    said = _ONE_PRICE.sub("", detail_of(error))
    known = Details(language).known(said)
    if language.code == "en" and isinstance(error, InvalidValue | PriceError):
        return _of_field(said, language)
    if known is None and isinstance(error, SinkError) and language.code != "en":
        # What drivers say has no end, and is what an operator looks for.
        return language.gettext("The store says: %(reason)s") % {"reason": said}
    return said if known is None else known


def _of_field(said: str, language: Language) -> str:
    """*said* with what people call the field that it is about, where that has a name."""
    about = _ABOUT.match(said)
    shown = Labels(language).typed(about["field"]) if about else None
    if about is None or shown is None:
        return said
    typed = "" if about["value"] in ("None", "''") else f" {about['value']}"
    return f"{shown}{typed}: expected {about['expected']}"


def _of_value(error: InvalidValue, language: Language) -> str:
    _ = language.gettext
    name = error.field.rpartition(".")[2]
    if name in _PRICES or name.endswith(("_per_mtok", "_price")):
        return _("This price cannot be")
    # A name of the library's says little to people.
    shown = Labels(language).typed(name) or ""
    if name in _DAYS or _DAY.match(error.expected):
        text, named = _("A day or time is expected"), _("%(field)s: a day or time is expected")
    elif _NUMBER.match(error.expected):
        text, named = _("Another number is expected"), _("%(field)s: another number is expected")
    else:
        text, named = _("That cannot be"), _("%(field)s: that cannot be")
    return named % {"field": shown} if shown else text
