"""Channels: whoever is told of alerts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast, runtime_checkable

from ai_ledger.alerts.alert import Alert
from ai_ledger.bounds import label
from ai_ledger.errors import AILedgerError, ConfigurationError

log: Final = logging.getLogger("ai_ledger.alerts")

_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}


class NotSent(AILedgerError):
    """A channel could not tell; it is tried again later."""


@runtime_checkable
class Channel(Protocol):
    """
    Anything with ``send(alert)``.

    It is told of each alert once, whichever process does it, by its ``name``: that
    attribute, or else the name of its class. Give two of one class names that differ.
    """

    def send(self, alert: Alert) -> None:
        """
        Tell somebody. Whatever is raised means: not told, try again later.

        Should not take longer than a minute; after five another process may try.
        """
        ...


class Callback:
    """
    A function as a channel.

    Args:
        function: Called with each `Alert`.
        name: By which it is remembered who was told; the function's, if left out.
    """

    def __init__(self, function: Callable[[Alert], Any], *, name: str | None = None) -> None:
        self._function = function
        self.name = name or getattr(function, "__qualname__", type(function).__name__)

    def send(self, alert: Alert) -> None:
        """Call the function."""
        self._function(alert)

    def __repr__(self) -> str:
        return f"Callback({self.name!r})"


class Log:
    """
    Lines of the logger ``ai_ledger.alerts``, at the level of the severity.

    Args:
        name: By which it is remembered who was told.
    """

    def __init__(self, *, name: str = "log") -> None:
        self.name = name

    def send(self, alert: Alert) -> None:
        """Write one line."""
        log.log(
            _LEVELS[alert.severity], "alert %d %s: %s", alert.id, alert.kind, one_line(alert.text)
        )

    def __repr__(self) -> str:
        return "Log()"


def one_line(text: str) -> str:
    """*text* with everything that a terminal or a log could take for more than letters escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def name_of(channel: object) -> str:
    """By which name it is remembered that *channel* was told."""
    return label(str(getattr(channel, "name", None) or type(channel).__name__))


def channels_of(given: Iterable[Any]) -> tuple[Channel, ...]:
    """
    Channels from what a user hands in; functions become a `Callback`.

    Raises:
        ConfigurationError: Something that cannot be told, or two of one name.
    """
    found: list[Channel] = []
    for each in given:
        if isinstance(each, Channel) and not isinstance(each, type):
            found.append(each)
        elif callable(each) and not isinstance(each, type):
            found.append(Callback(cast("Callable[[Alert], Any]", each)))
        else:
            raise ConfigurationError(
                f"channels: {type(each).__name__} is neither a function nor has it send(alert)"
            )
    names = [name_of(each) for each in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"channels: {twice[0]!r} twice; give each a name of its own")
    return tuple(found)
