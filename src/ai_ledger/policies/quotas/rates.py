"""Rate windows, counted by ``limits``: so many calls in any minute, in any day."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from ai_ledger.errors import ConfigurationError, InvalidValue, MissingExtra, SinkUnavailable
from ai_ledger.secrets import scrub

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

MEMORY: Final = "memory://"
_EXPECTED: Final = "windows such as '60/minute; 1000 per day'"


@lru_cache(maxsize=1024)
def rates_of(text: str) -> tuple[RateLimitItem, ...]:
    """
    The windows that *text* names, the shortest first.

    Raises:
        InvalidValue: It cannot be read, or allows nothing at all.
        MissingExtra: ``limits`` is not installed.
    """
    try:
        from limits import parse_many
    except ImportError:
        raise MissingExtra("a rate window", "quotas") from None
    try:
        found = parse_many(text)
    except ValueError:
        raise InvalidValue("rates", text, _EXPECTED) from None
    if not all(each.amount > 0 and each.multiples > 0 for each in found):
        raise InvalidValue("rates", text, "windows of at least one call; disable it to allow none")
    return tuple(sorted(found, key=lambda each: each.get_expiry()))


class Rates:
    """
    Counts calls in moving windows. Threads may share one instance.

    Args:
        storage: Where the counts are: ``memory://``, each process for itself, or
            what ``limits`` calls a storage string, such as ``redis://localhost:6379``.

    Raises:
        ConfigurationError: No such storage, or its driver is not installed.
    """

    def __init__(self, storage: str = MEMORY) -> None:
        self.is_local: Final = storage == MEMORY
        self._storage = storage
        self._lock = threading.Lock()
        self._limiter: MovingWindowRateLimiter | None = None
        if not self.is_local:
            self._opened()

    def after_fork_in_child(self) -> None:
        """Count anew: the parent's locks may be held by threads that are not here."""
        self._lock = threading.Lock()
        if self.is_local:
            self._limiter = None

    def seconds_left(self, text: str, key: tuple[str, str]) -> float:
        """
        In how many seconds the next call may be made; 0 for now. Counts nothing.

        Args:
            text: The windows.
            key: Whose.

        Raises:
            SinkUnavailable: The storage is away.
        """
        return self._asked(text, key, count=False)

    def count(self, text: str, key: tuple[str, str]) -> float:
        """As `seconds_left`, and count this call when the answer is 0."""
        return self._asked(text, key, count=True)

    def _asked(self, text: str, key: tuple[str, str], *, count: bool) -> float:
        windows = rates_of(text)
        # A hash, since "/" in a name would make one key of two.
        name = hashlib.sha256(msgspec.json.encode(key)).hexdigest()
        limiter = self._opened()
        try:
            # In memory the lock makes all windows one; elsewhere a call that another
            # process has overtaken may be counted in the shorter windows for nothing.
            with self._lock if self.is_local else nullcontext():
                left = max(_seconds_left(limiter, window, name) for window in windows)
                if left or not count:
                    return left
                for window in windows:
                    if not limiter.hit(window, "ai_ledger", name):
                        return _seconds_left(limiter, window, name) or 0.001
                return 0.0
        except _storage_error() as error:
            raise SinkUnavailable(scrub(f"the storage of rate windows: {error}")) from error

    def _opened(self) -> MovingWindowRateLimiter:
        limiter = self._limiter
        if limiter is not None:
            return limiter
        try:
            from limits.errors import ConfigurationError as LimitsError
            from limits.storage import storage_from_string
            from limits.strategies import MovingWindowRateLimiter
        except ImportError:
            raise MissingExtra("a rate window", "quotas") from None
        try:
            storage = cast(
                "Any", storage_from_string(self._storage, wrap_exceptions=not self.is_local)
            )
            limiter = MovingWindowRateLimiter(storage)
        except (LimitsError, NotImplementedError, ImportError, ValueError) as error:
            raise ConfigurationError(scrub(f"storage={self._storage!r}: {error}")) from None
        with self._lock:
            self._limiter = self._limiter or limiter
            return self._limiter


def _seconds_left(limiter: MovingWindowRateLimiter, window: RateLimitItem, name: str) -> float:
    if limiter.test(window, "ai_ledger", name):
        return 0.0
    reset, _ = limiter.get_window_stats(window, "ai_ledger", name)
    return max(0.001, reset - time.time())


def _storage_error() -> type[Exception]:
    from limits.errors import StorageError

    return StorageError
