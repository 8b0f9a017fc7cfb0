"""`patient`: says what to do about a question that took too long."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from ai_ledger.errors import SinkUnavailable
from ai_ledger.web.house import READ_TIMEOUT_S

_CANCELLED: Final = "57014"
"""PostgreSQL's state of a statement that was stopped."""
_TOO_LONG: Final = frozenset({1969, 3024})
"""What MariaDB and MySQL call it."""


@contextmanager
def patient() -> Generator[None]:
    """
    Let questions within take as long as the store allows.

    Raises:
        SinkUnavailable: One was stopped: says so, and how to ask for less.
    """
    try:
        yield
    except SinkUnavailable as error:
        if not was_stopped(error):
            raise
        raise SinkUnavailable(
            f"this takes longer than {READ_TIMEOUT_S:.0f} seconds: narrow the filter, "
            "for example to fewer days"
        ) from error


def was_stopped(error: SinkUnavailable) -> bool:
    """Whether the store is there, but was not given enough time."""
    driver: Any = getattr(error.__cause__, "orig", None)
    if getattr(driver, "sqlstate", None) == _CANCELLED:
        return True
    arguments = getattr(driver, "args", None) or (None,)
    return arguments[0] == "interrupted" or arguments[0] in _TOO_LONG
