"""``alerts``: looking, answering, rules and failed calls, from a terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.cli.conftest import call, fill

from ai_ledger.alerts import verify_signature

URL = "sqlite:///ai_ledger.db"
SECRET = "whsec-0123456789abcdef"
RULE = ("--name", "time-outs", "--kind", "timeouts", "--threshold", "1")


def timed_out(number: int, **fields: Any) -> Any:
    """A call that timed out a minute ago."""
    return call(
        number,
        **{
            "started_at": datetime.now(UTC) - timedelta(minutes=1),
            "status": "timeout",
            "cost": None,
            "currency": None,
            "price_id": None,
            **fields,
        },
    )


@pytest.fixture
def alerts(command) -> Any:
    """The command ``alerts`` over a ledger in which calls timed out."""
    fill(URL, [timed_out(1), timed_out(2, org_id="globex", request_model="m")])
    return lambda *arguments, **options: command("alerts", *arguments, **options)


def test_a_round(alerts) -> None:
    """
    A rule is added, looked at, its alert read and answered; each step says what it did.
    """
    assert alerts("rules", "list").code == 1
    assert alerts("rules", "add", *RULE, "--where", "model=m", "--by", "ada").code == 0
    assert "nothing" not in alerts("evaluate", "--log").out

    [listed] = json.loads(alerts("list", "--json").out)
    number = str(listed["id"])
    assert (listed["whose"], listed["state"], listed["kind"]) == ("m", "open", "timeouts")
    assert "1 of 1 calls timed out" in alerts("list").out
    taken = alerts("ack", number, "--note", "asked them", "--by", "ada", "--version", "1")
    assert (taken.code, "acknowledged, by ada" in taken.out) == (0, True)
    late = alerts("ignore", number, "--version", "1")
    assert (late.code, late.err.count("\n")) == (2, 1)
    shown = alerts("show", number).out
    assert ", once" in shown
    for text in ("asked them", "by ada", "command sent", "01900000-0000-7000-8000-000000000002"):
        assert text in shown
    plain = json.loads(alerts("show", number, "--json").out)
    assert plain["alert"]["calls"]["ids"] == ["01900000-0000-7000-8000-000000000002"]
    assert alerts("resolve", number).code == 0
    assert alerts("list").code == 1
    assert "resolved" in alerts("list", "--state", "all").out
    assert alerts("reopen", number, "--version", "1").code != 0
    assert "is open, by" in alerts("reopen", number, "--by", "ada").out
    assert alerts("evaluate").out == "0 new alerts\n"


def test_told_once(alerts) -> None:
    """
    What the command has told, it does not tell again.
    """
    alerts("rules", "add", *RULE)

    first, second = alerts("evaluate", "--log"), alerts("evaluate", "--log")

    assert (first.out.count("timed out"), second.out) == (2, "0 new alerts\n")


def test_rules(alerts) -> None:
    """
    Default rules once; edits of what is named, at the version that was seen.
    """
    assert alerts("rules", "add", "--defaults").out == "added 10 rules\n"
    assert alerts("rules", "add", "--defaults").out == "added 0 rules\n"
    edit = alerts(
        "rules", "edit", "failures", "--threshold", "0.5", "--quiet", "22:00-08:00",
        "--tz", "Asia/Shanghai", "--version", "1",
    )  # fmt: skip
    assert edit.code == 0
    alerts("rules", "edit", "failures", "--where", "cost>=1", "--each", "")
    rules = {rule["name"]: rule for rule in json.loads(alerts("rules", "list", "--json").out)}
    changed = rules["failures"]
    assert (changed["threshold"], changed["quiet"], changed["tz"]) == (
        0.5, "22:00-08:00", "Asia/Shanghai",
    )  # fmt: skip
    assert (changed["where"], changed["each"]) == ({"cost": {"at_least": "1"}}, "")
    assert alerts("rules", "edit", "failures", "--quiet", "", "--at-least", "x").code == 2
    assert alerts("rules", "disable", str(changed["id"])).code == 0
    assert alerts("rules", "edit", "failures", "--enable", "--quiet", "").code == 0
    assert alerts("rules", "disable", "failures", "--version", "4", "--by", "eve").code == 2
    alerts("rules", "disable", "failures", "--version", "5", "--by", "eve")
    assert alerts("rules", "enable", "failures", "--version", "6", "--by", "eve").code == 0
    history = alerts("rules", "history", "failures").out
    assert "enabled: false -> true" in history
    assert "eve" in history
    assert alerts("rules", "remove", "failures").out == "removed failures\n"
    assert len(json.loads(alerts("rules", "history", "failures", "--json").out)) == 8
    assert alerts("rules", "history", "nothing").code == 1
    assert alerts("rules", "remove", "failures").code == 1
    assert "no price" in alerts("rules", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("rules", "add"), 2, "--name"),
        (("rules", "add", "--defaults", "--name", "x"), 2, "alone"),
        (("rules", "add", "--name", "x", "--kind", "noise"), 2, "timeouts"),
        (("rules", "add", *RULE, "--threshold", "-1"), 2, "threshold"),
        (("rules", "add", *RULE, "--window", "1"), 2, "window_s"),
        (("rules", "add", *RULE, "--tz", "Mars"), 2, "time zone"),
        (("rules", "add", *RULE, "--where", "colour=red"), 2, "field"),
        (("rules", "edit", "x"), 2, "nothing to change"),
        (("rules", "edit", "x", "--enable"), 1, "no rule"),
        (("show", "7"), 1, "no alert"),
        (("ack", "0"), 2, "number of an alert"),
        (("list", "--url", "jsonl:///x"), 2, "sqlite:"),
        (("list", "--url", "sqlite:///none.db"), 3, "no ledger"),
        (("failures", "ack", "none"), 1, "no failed call"),
        (("evaluate", "--webhook", "https://127.0.0.1/", "--secret", "env:HOOK"), 2, "public"),
        (("evaluate", "--webhook", "https://example.com/"), 2, "AI_LEDGER_WEBHOOK_SECRET"),
        (("evaluate", "--webhook", "https://example.com/", "--secret", SECRET), 2, "env:NAME"),
    ],
)  # fmt: skip
def test_bad_input(alerts, monkeypatch, arguments, code, hint) -> None:
    """
    One line on stderr that says what is wrong, the documented code, and nothing written.
    """
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.delenv("AI_LEDGER_WEBHOOK_SECRET", raising=False)

    result = alerts(*arguments)

    assert (result.code, result.out) == (code, "")
    assert hint in result.err
    assert result.err.count("\n") == 1
    assert SECRET not in result.err
    assert alerts("rules", "list").code == 1


def test_failures(alerts) -> None:
    """
    Failed calls are listed until somebody has marked them, all or none.
    """
    first, second = (f"01900000-0000-7000-8000-{number:012d}" for number in (1, 2))
    assert first in alerts("failures", "list").out
    none = alerts("failures", "ack", first, "nonsense")
    assert none.code == 1
    assert alerts("failures", "ack", first, "--note", "seen", "--by", "ada").code == 0
    assert alerts("failures", "ignore", second).out == "marked 1 call\n"
    assert alerts("failures", "list").code == 1
    marked = json.loads(alerts("failures", "list", "--state", "all", "--json").out)
    states = {each["call"]["id"]: (each["state"], each["note"]) for each in marked}
    assert states == {first: ("acknowledged", "seen"), second: ("ignored", None)}


def test_organisations(alerts) -> None:
    """
    With --org there is nothing of another one, and nothing can be done to it.
    """
    alerts("rules", "add", *RULE, "--org", "globex")
    alerts("evaluate")
    [theirs] = json.loads(alerts("list", "--json", "--org", "globex").out)

    assert alerts("list", "--org", "acme").code == 1
    assert alerts("show", str(theirs["id"]), "--org", "acme").code == 1
    assert alerts("ack", str(theirs["id"]), "--org", "acme").code == 1
    assert alerts("rules", "list", "--org", "acme").code == 1
    listed = json.loads(alerts("failures", "list", "--json", "--org", "acme").out)
    assert [each["call"]["org_id"] for each in listed] == ["acme"]


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of a server, and what it was sent."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["AI-Ledger-Signature"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", got
    server.shutdown()
    server.server_close()
    thread.join()


def test_webhooks(alerts, hook, monkeypatch) -> None:
    """
    From cron to a receiver that can check the signature, once.
    """
    url, got = hook
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    alerts("rules", "add", *RULE)
    evaluate = ("evaluate", "--webhook", url, "--secret", "env:HOOK_SECRET", "--allow-private")

    raised = json.loads(alerts(*evaluate, "--json").out)
    alerts(*evaluate)

    assert len(raised) == len(got) == 2
    assert all(verify_signature(body, signature, SECRET) for signature, body in got)


def test_forgetting(alerts) -> None:
    """
    Somebody whom alerts name is erased, after a question that does not trust the name.
    """
    alerts("rules", "add", *RULE, "--each", "request_model")
    assert alerts("evaluate").out.startswith("2 new alerts")

    assert alerts("forget", "model=m", answer="n\n").code != 0
    assert "changed" in alerts("forget", "model=m", "--yes", "--by", "ada").out
    assert [each["whose"] for each in json.loads(alerts("list", "--json").out)] != []
    assert "m" not in [each["whose"] for each in json.loads(alerts("list", "--json").out)]
    for bad in (("forget",), ("forget", "model"), ("forget", "model="), ("forget", "colour=red")):
        assert alerts(*bad, "--yes").code == 2
