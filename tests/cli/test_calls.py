"""``calls``, ``show`` and ``tail``: single calls."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from tests.cli.conftest import CALLS, call, fill

from ai_ledger.cli.calls import follow
from ai_ledger.query import Query
from ai_ledger.sinks.memory import MemorySink


def ids(result) -> list[int]:
    return [int(each["id"][-12:]) for each in json.loads(result.out)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param([], [5, 4, 3, 2, 1], id="newest first"),
        pytest.param(["user_id=u-2"], [2], id="equal"),
        pytest.param(["user_id="], [4], id="not set"),
        pytest.param(["user_id=u-2", "user_id="], [4, 2], id="either"),
        pytest.param(["model=gpt-4o"], [3], id="an alias"),
        pytest.param(["request_model~wen"], [5, 2, 1], id="contains"),
        pytest.param(["duration_ms>=102", "duration_ms<104"], [3, 2], id="a range"),
        pytest.param(["cost>=0.01"], [3], id="a cost"),
        pytest.param(["tags.plan=pro"], [2], id="a tag"),
        pytest.param(["business_type=聊天"], [2], id="Chinese"),
        pytest.param(["streamed=true"], [], id="a truth"),
        pytest.param(["status=failed", "org_id=acme"], [5], id="both"),
    ],
)
def test_conditions(command, url, conditions, expected):
    """
    --where means what it says, over every store.
    """
    options = [part for condition in conditions for part in ("--where", condition)]

    result = command("calls", "--url", url, *options, "--json")

    assert ids(result) == expected
    assert result.code == (0 if expected else 1)


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("nonsense=1", "nonsense"),
        ("user_id", "FIELD=VALUE"),
        ("duration_ms>=much", "no number"),
        ("user_id>=3", "no number"),
        ("cost~1", "no text"),
        ("cost=NaN", "no number"),
        ("streamed=perhaps", "true or false"),
    ],
)
def test_bad_conditions(command, url, condition, hint):
    """
    One line that names what is wrong, and exit code 2.
    """
    result = command("calls", "--url", url, "--where", condition)

    assert (result.code, result.out) == (2, "")
    assert hint in result.err
    assert result.err.startswith("ai-ledger: ")
    assert result.err.count("\n") == 1


def test_pages_and_order(command, url):
    """
    Pages follow each other; the largest come first.
    """
    second = command("calls", "--url", url, "--limit", "2", "--page", "2", "--json")
    slowest = command("calls", "--url", url, "--sort", "duration_ms", "--limit", "1", "--json")

    assert ids(second) == [3, 2]
    assert ids(slowest) == [5]


def test_calls_for_people(command, url):
    """
    One line a call, aligned by the columns of a terminal.
    """
    out = command("calls", "--url", url).out.splitlines()

    assert out[0].split()[:4] == ["started", "status", "model", "user"]
    assert len(out) == 6
    at = out[0].index("status")
    assert {line[at:].split()[0] for line in out[1:]} == {"success", "failed"}


def test_show(command, url):
    """
    Every field that is set, and the last letters of the id are enough.
    """
    whole = command("show", CALLS[1].id, "--url", url, "--json")
    part = command("show", CALLS[1].id[-6:], "--url", url)

    assert json.loads(whole.out)["call"]["tags"] == {"plan": "pro"}
    assert "tags.plan" in part.out
    assert "聊天" in part.out
    assert "0.0006 CNY" in part.out


def test_show_within_one_organisation(command, url):
    """
    Another organisation's call is not there, whole id or part.
    """
    for call_id in (CALLS[0].id, CALLS[0].id[-6:], "none"):
        result = command("show", call_id, "--url", url, "--org", "globex")
        assert (result.code, result.out) == (1, "")


def test_tail_stops_when_told(command, url):
    """
    The newest ones, oldest first, one line each.
    """
    lines = command("tail", "--url", url, "-n", "3", "--no-follow", "--json").out.splitlines()
    text = command("tail", "--url", url, "-n", "1", "--no-follow").out

    assert [int(json.loads(line)["id"][-12:]) for line in lines] == [3, 4, 5]
    assert "error=RateLimitError" in text


def test_following_shows_each_call_once():
    """
    Calls that arrive are shown once, also those that began before others shown
    already; an unfinished one is shown again when it has ended.
    """
    store = MemorySink()
    store.write([call(1), call(3, status="unfinished")])
    arriving = [[call(2)], [call(3), call(4)], []]
    shown: list[tuple[int, str]] = []

    def wait() -> bool:
        if not arriving:
            return False
        store.write(arriving.pop(0))
        return True

    follow(
        store,
        Query.build(scope=None),
        lines=1,
        show=lambda record: shown.append((int(record.id[-12:]), record.status)),
        wait=wait,
        now=lambda: datetime.now(UTC),
    )

    assert shown == [(3, "unfinished"), (2, "success"), (3, "success"), (4, "success")]


def test_contents_are_shown_as_they_are(command):
    """
    Prompts keep their lines; what commands a terminal is made visible.
    """
    fill("jsonl:///c", [call(1, request_content="two\nlines\x1b[2J")])

    out = command("show", call(1).id, "--url", "jsonl:///c").out

    assert "two\nlines\\x1b[2J\n" in out
