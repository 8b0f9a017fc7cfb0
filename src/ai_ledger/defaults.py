"""The process's own ledgers: opened once, and used where none is named."""

from __future__ import annotations

import threading
from typing import Any

from ai_ledger.forks import after_fork_in_child
from ai_ledger.ledger import Ledger
from ai_ledger.locations import ledger_urls
from ai_ledger.options import wrong_option
from ai_ledger.secrets import scrub

_lock = threading.Lock()
_opened: dict[tuple[str, ...], Ledger] = {}
_default: Ledger | None = None


def open_ledger(url: str | None = None, **options: Any) -> Ledger:
    """
    This process's ledger for *url*, opened once; the same object ever after.

    Args:
        url: As for `Ledger`.
        options: As for `Ledger`; only those of the first opening count.
    """
    key = ledger_urls(url)
    with _lock:
        if key not in _opened:
            _opened[key] = Ledger(url, **options)
        return _opened[key]


def default_ledger() -> Ledger:
    """The ledger that is used where none is given: `use_ledger`'s, else ``open_ledger()``."""
    return _default if _default is not None else open_ledger()


def use_ledger(ledger: Ledger | None) -> None:
    """
    Make *ledger* the default of this process; ``None`` goes back to ``open_ledger()``.

    Raises:
        ConfigurationError: It is no `Ledger`; a URL is opened by `open_ledger`.
    """
    global _default
    _default = given_ledger(ledger)


def record_ai_usage(
    model: str | None = None, *, ledger: Ledger | None = None, **fields: Any
) -> str:
    """
    Put a call that is already over on the books, by hand.

    Args:
        model: The model asked for.
        ledger: The default ledger otherwise.
        fields: Any field of `CallRecord` or an alias: ``function``,
            ``input_tokens``, ``output_tokens``, ``duration_ms``, ``success``,
            ``user_id``, ``session_id``, …; ``started_at`` must be aware. Unknown
            keywords become tags (``anchor_id=7``). What the surrounding
            `call_context` says and the keywords do not is added. ``total_tokens``
            gives the count that is not said: beside ``input_tokens`` the output,
            beside ``output_tokens`` the input; alone it is all input, as it is
            for embeddings.

    Returns:
        The record's id.

    Raises:
        InvalidValue: A value that no record can hold, or two words for one thing
            that say different things; names the field.
        ConfigurationError: *ledger* is no `Ledger`.
    """
    return (given_ledger(ledger) or default_ledger()).record(model, **fields).id


def given_ledger(ledger: object) -> Ledger | None:
    """
    *ledger* as it was given, which may be not at all.

    Raises:
        ConfigurationError: It is no `Ledger`, but perhaps a URL.
    """
    if ledger is None or isinstance(ledger, Ledger):
        return ledger
    # A URL may have a password.
    shown = scrub(ledger) if isinstance(ledger, str) else ledger
    raise wrong_option("ledger", shown, "a Ledger, such as open_ledger(url) gives")


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


after_fork_in_child(_after_fork_in_child)
