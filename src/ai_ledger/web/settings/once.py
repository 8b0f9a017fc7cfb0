"""`Once`: forms that are worked on once, however often a browser sends them."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import Final

_KEPT: Final = 1_000
_CHARS: Final = 22


class Once:
    """
    The names of forms that were sent, the last `_KEPT` of them. Threads share one.

    A page that answers a form is sent the form again when it is loaded again.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._sent: Final[OrderedDict[str, None]] = OrderedDict()

    @staticmethod
    def name() -> str:
        """A name for a form that is shown now."""
        return secrets.token_urlsafe(16)

    def take(self, name: str) -> bool:
        """Whether the form of this name was not sent yet; a program has none."""
        if not name:
            return True
        name = name[:_CHARS]
        with self._lock:
            if name in self._sent:
                return False
            self._sent[name] = None
            if len(self._sent) > _KEPT:
                self._sent.popitem(last=False)
            return True

    def give_back(self, name: str) -> None:
        """It was refused, and may be sent again."""
        with self._lock:
            self._sent.pop(name[:_CHARS], None)
