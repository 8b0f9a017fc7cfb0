"""Memory as a segment: where records wait that no file could take."""

from __future__ import annotations

import threading
from collections import deque

from ai_ledger.journal.segment import Line


class MemorySegment:
    """
    Lines in memory, bounded in bytes, with the cursors of a file segment.

    Positions are numbers of lines since the start.
    """

    name = "memory"

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.size = 0
        self.positions: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.generation = 0
        self.bad: set[int] = set()
        self._first = 0
        self._lines: deque[bytes] = deque()
        # Re-entrant, because the garbage collector may end a call within an append.
        self._lock = threading.RLock()

    @property
    def records(self) -> int:
        """How many lines there ever were."""
        return self.size

    def append(self, line: bytes) -> bool:
        """Keep *line*; false when there is no room for it."""
        # A line in a deque costs about sixty bytes besides itself.
        with self._lock:
            needed = len(line) + 60
            if self.bytes + needed > self.max_bytes:
                return False
            # No function is called in between, so that no handler of a signal runs.
            self.bytes += needed
            self.size += 1
            self._lines.append(line)
            return True

    def read(self, position: int, max_lines: int, max_bytes: int) -> tuple[list[Line], int]:
        """Lines from *position* on, at least one if there is one, and where the next begins."""
        lines: list[Line] = []
        taken = 0
        with self._lock:
            position = max(position, self._first)
            while position < self.size and len(lines) < max_lines and taken < max_bytes:
                # A deque finds its ends quickly and its middle slowly.
                text = self._lines[position - self._first]
                lines.append(Line(position, text.rstrip(b"\n")))
                taken += len(text)
                position += 1
        return lines, position

    def trim(self, position: int) -> None:
        """Let go of what stands before *position*."""
        with self._lock:
            while self._first < position and self._lines:
                self.bytes -= len(self._lines.popleft()) + 60
                self._first += 1

    def rewrite(self, new: dict[int, bytes]) -> None:
        """Put other lines at some positions."""
        with self._lock:
            for position, line in new.items():
                if position >= self._first:
                    at = position - self._first
                    self.bytes += len(line) - len(self._lines[at])
                    self._lines[at] = line
