"""`Console`: the real console on a port of its own; `Watched`: a page that is watched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SERVER = Path(__file__).with_name("server.py")
PATIENCE_S = 60
KEY_NAME = "LOOPBACK_API_KEY"
"""The variable in which a console has a key for a provider on loopback."""


class Console:
    """A server that can be stopped and started again, at the same address."""

    def __init__(self, url: str, *more: str) -> None:
        self.url = url
        self.more = more
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Console:
        command = [sys.executable, str(SERVER), self.url, str(self.port), *self.more]
        self._process = subprocess.Popen(command, env={**os.environ, KEY_NAME: "not-a-key"})
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(f"{self.base}/static/favicon.svg", timeout=5).close()
            except urllib.error.HTTPError:
                return self
            except OSError:
                assert self._process.poll() is None, "the console ended while it was starting"
                assert time.monotonic() < deadline, "the console does not answer"
                time.sleep(0.05)
            else:
                return self

    def kill(self) -> None:
        """As ``kill -9`` does it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Watched:
    """
    Notes what a page must never do: ask another host, complain in the console, open a dialog.

    Args:
        context: A context of the browser; all of its pages are watched.
        base: The only address that may be asked.
    """

    def __init__(self, context: Any, base: str) -> None:
        self.faults: list[str] = []
        self._base = urlsplit(base).netloc
        context.on("request", self._asked)
        context.on("console", self._said)
        context.on("dialog", self._opened)
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and parts.netloc != self._base:
            self.faults.append(f"request: {request.url}")

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"console: {message.text}")

    def _opened(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.type} {dialog.message}")
        dialog.dismiss()
