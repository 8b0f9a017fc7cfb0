"""`Visit`: who is asking, in which language, zone and theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast

from fastapi import Depends, Query
from starlette.requests import HTTPConnection, Request

from ai_ledger.access import Access
from ai_ledger.stats.calendar import time_zone
from ai_ledger.web.house import Desk, House
from ai_ledger.web.language import Language, language_of

LANGUAGE_COOKIE = "ai_ledger_language"
THEME_COOKIE = "ai_ledger_theme"


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is known, as pages see it."""

    desk: Desk
    language: Language
    theme: Literal["light", "dark"] | None
    """``None``: as the browser's system has it."""

    @property
    def access(self) -> Access:
        """Who is asking."""
        return self.desk.access


def house_of(request: HTTPConnection) -> House:
    """What stands behind the application that *request* came to."""
    return cast("House", request.state.house)


def visit_of(request: HTTPConnection) -> Visit:
    """The visit that *request* belongs to; the guard has seen to it that somebody is known."""
    theme = request.cookies.get(THEME_COOKIE)
    house = house_of(request)
    language = language_of(
        request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"), house.tz
    )
    return Visit(
        desk=Desk(house, cast("Access", request.state.access)),
        language=language,
        theme="light" if theme == "light" else "dark" if theme == "dark" else None,
    )


def _desk(
    request: Request,
    tz: Annotated[
        str | None,
        Query(max_length=64, description="Time zone of days and hours, such as Asia/Shanghai."),
    ] = None,
) -> Desk:
    access = cast("Access", request.state.access)
    return Desk(house_of(request), access, None if tz is None else time_zone(tz))


DeskOf = Annotated[Desk, Depends(_desk)]
"""The desk of whoever asks the API: ``def route(desk: DeskOf) -> …``."""
