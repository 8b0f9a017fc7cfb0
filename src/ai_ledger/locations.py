"""Where a ledger lives: which URLs are meant, and which folder holds its journal."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, cast

from ai_ledger.errors import ConfigurationError
from ai_ledger.sinks import Sink

DEFAULT_URL: Final = "sqlite:///ai_ledger.db"


def ledger_urls(url: str | Sequence[str] | None, *, others: bool = False) -> tuple[str, ...]:
    """
    The URLs meant by *url*: those given, else ``AI_LEDGER_URL``'s, else the default.

    Args:
        url: One, several, or none.
        others: Whether there are sinks beside them, so that none may be meant.

    Raises:
        ConfigurationError: *url* is neither a text nor several.
    """
    if url is None:
        if others:
            return ()
        return tuple(os.environ.get("AI_LEDGER_URL", "").split()) or (DEFAULT_URL,)
    if isinstance(url, str):
        return (url,)
    several = cast("object", url)
    if isinstance(several, Iterable):
        urls = tuple(cast("Iterable[object]", several))
        if all(isinstance(each, str) for each in urls):
            return cast("tuple[str, ...]", urls)
    raise ConfigurationError(f"url={url!r}: expected a URL such as {DEFAULT_URL!r}, or several")


def journal_folder(
    given: Path | str | Literal[False] | None, urls: tuple[str, ...], sinks: tuple[Sink, ...]
) -> Path | None:
    """
    The folder that all processes with the same sinks share, so that they adopt from each other.

    Beside a single SQLite file or inside a single JSON Lines folder, where an
    operator will find it; else in the user's state folder, never in /tmp.
    ``None`` when nothing durable is to be delivered to.
    """
    if given is False:
        return None
    if given is not None:
        return Path(given).absolute()
    durable = [sink for sink in sinks if getattr(sink, "durable", True)]
    if not durable:
        return None
    if len(durable) == 1 and len(urls) == 1:
        scheme, _, rest = urls[0].partition(":")
        path = rest.removeprefix("//").removeprefix("/").partition("?")[0]
        if scheme.partition("+")[0] == "sqlite" and path and path != ":memory:":
            return Path(path).absolute().with_suffix(".journal")
        if scheme == "jsonl":
            return Path(path).absolute() / ".journal"
    names = " ".join(sorted(map(sink_name, durable)))
    digest = hashlib.sha256(names.encode()).hexdigest()[:16]
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "ai-ledger" / digest


def sink_name(sink: Sink) -> str:
    """What health, logs and the journal's folder call *sink*; without a password."""
    return str(getattr(sink, "name", type(sink).__qualname__))
