"""``serve``, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_ledger.access import AccessTokens
from ai_ledger.web.serve import run

COMMAND = [sys.executable, "-c", "from ai_ledger.cli import main; main()", "serve", "--port", "0"]


@pytest.fixture
def ledger(command):
    """An empty ledger in the present folder."""
    assert command("init").code == 0


class Served:
    """A console that runs, and what it said."""

    def __init__(self, *arguments: str) -> None:
        # "-u": the line is read while it runs.
        self.process = subprocess.Popen(
            [*COMMAND[:1], "-u", *COMMAND[1:], *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        self.lines: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"is at (http://\S+)", line):
                self.base = found[1]
                return
        raise AssertionError(self.lines)

    def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        request = urllib.request.Request(self.base + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), dict(error.headers)

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code after a signal, and what else it said."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=60)
        return self.process.returncode, rest


@pytest.fixture
def served(ledger) -> Iterator[Served]:
    """A console on loopback."""
    found = Served()
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.communicate()


def test_a_console_from_first_to_last(served):
    """
    It says where it is in one line, answers there, logs no address, and ends with SIGTERM.
    """
    status, page, headers = served.get("calls?user_id=who-is-looked-for")
    misdirected = served.get("settings", Host="evil.example")

    assert (status, "<h1>Calls</h1>" in page) == (200, True)
    assert "server" not in {name.lower() for name in headers}
    assert misdirected[0] == 421
    said = [line for line in served.lines if "console" in line]
    assert len(said) == 1
    assert "open to this machine's user" in said[0]
    code, rest = served.end(signal.SIGTERM)
    assert (code, "Traceback" in rest, "who-is-looked-for" in rest) == (0, False, False)


def test_ctrl_c_ends_it(served):
    """
    Ctrl-C ends it with the code for that, and without a traceback.
    """
    code, rest = served.end(signal.SIGINT)
    assert (code, rest.strip()) == (130, "")


@pytest.mark.parametrize(
    ("number", "ending"),
    [
        (signal.SIGINT, pytest.raises(KeyboardInterrupt)),
        (signal.SIGTERM, contextlib.nullcontext()),
    ],
)
def test_a_signal_before_the_server_runs(ledger, number, ending):
    """
    Whoever stops it as soon as it is told where it is, ends it with grace too.
    """
    before = signal.getsignal(number)
    said = []

    def told(line):
        said.append(line)
        signal.raise_signal(number)

    with ending:
        run("sqlite:///ai_ledger.db", port=0, say=told)

    assert len(said) == 1
    assert signal.getsignal(number) is before


def test_the_first_token_closes_the_door(served):
    """
    A token that is made while it runs is needed from then on.
    """
    text, _ = AccessTokens("sqlite:///ai_ledger.db").add("ada", role="admin", by="ann")

    assert served.get("api/v1/settings")[0] == 401
    assert served.get("api/v1/settings", Authorization=f"Bearer {text}")[0] == 200
    code, rest = served.end(signal.SIGTERM)
    assert (code, text in rest) == (0, False)


def test_a_port_that_is_taken(command, ledger):
    """
    A port on which something listens is one clear line, and exit code 2.
    """
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = command("serve", "--port", str(other.getsockname()[1]))

    assert result.code == 2
    assert "something else listens there" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        pytest.param(["--url", "sqlite:///none.db"], 3, "no ledger at none.db", id="no ledger"),
        pytest.param(["--host", "0.0.0.0"], 2, "ai-ledger tokens add", id="open to all"),
        pytest.param(["--host", "192.0.2.1"], 2, "ai-ledger tokens add", id="another address"),
        pytest.param(["--allow-host", "a.example"], 2, "ai-ledger tokens add", id="a proxy"),
        pytest.param(["--root-path", "/x"], 2, "ai-ledger tokens add", id="a path of a proxy"),
        pytest.param(["--allow-host", "http://x/"], 2, "without a scheme", id="no host"),
        pytest.param(["--root-path", "x"], 2, "begin with /", id="no path"),
        pytest.param(["--url", "jsonl:///calls"], 2, "sqlite:", id="no database"),
    ],
)
def test_consoles_that_cannot_be(command, ledger, arguments, code, hint):
    """
    What cannot be says why, and makes nothing.
    """
    result = command("serve", *arguments)

    assert (result.code, hint in result.err) == (code, True), result
    assert not Path("none.db").exists()
