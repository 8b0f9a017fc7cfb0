"""`Answer`: what goes out, with the headers that all answers have."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Message, Send

from ai_ledger.errors import SinkUnavailable
from ai_ledger.web.guard.headers import protect

RECHECK_S: Final = 5.0
"""How long what is sent in pieces may go on for somebody whose access has ended."""

_END: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}


class Answer:
    """
    What is sent to one request.

    Args:
        send: Of the request.
        head: Only the headers are wanted.
        forever: It may be kept: see `protect`.
        still: Whether whoever gets it may still have it, which is asked while it streams;
            raises `SinkUnavailable` when that cannot be found out.
    """

    def __init__(
        self, send: Send, *, head: bool, forever: bool, still: Callable[[], Awaitable[bool]]
    ) -> None:
        self._send: Final = send
        self._head: Final = head
        self._forever: Final = forever
        self._still: Final = still
        self._events = False
        self._streams = False
        self._checked = time.monotonic()
        self.started = False
        self.on_start: Callable[[], None] | None = None
        """Called once, when the answer begins or there will be none."""
        self.over = False
        """All of it was sent, though there may be more to say."""

    async def __call__(self, message: Message) -> None:
        """
        Send a message of the application.

        Raises:
            OSError: Nothing more is taken, as from somebody who has hung up.
        """
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message.get("headers", ()))}
            protect(message, forever=self._forever and message["status"] in (200, 304))
            kind = Headers(raw=message["headers"]).get("content-type", "")
            self._events = kind.startswith("text/event-stream")
            self.started = True
            self.begun()
        elif message["type"] == "http.response.body":
            if self.over:
                raise OSError("the answer is over")
            self._streams = self._streams or message.get("more_body", False)
            cut = not self._head and await self._is_cut()
            if self._head or cut:
                self.over = True
                if not cut or self._events:
                    await self._send(_END)
                # Of a file the end is left out, so that half of it is not taken for all.
                if message.get("more_body", False) or cut:
                    raise OSError("the answer is over")
                return
        await self._send(message)

    def begun(self) -> None:
        """Whoever waits for the answer to begin need not wait any more."""
        on_start, self.on_start = self.on_start, None
        if on_start is not None:
            on_start()

    async def _is_cut(self) -> bool:
        now = time.monotonic()
        if not self._streams or now - self._checked < RECHECK_S:
            return False
        self._checked = now
        try:
            return not await self._still()
        except SinkUnavailable:
            # Nobody knows now; what needs the store itself says that it is away.
            return False
