"""Standard output: one line a call, whatever a value holds."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from ai_ledger.errors import SinkUnavailable
from ai_ledger.records import CallRecord
from ai_ledger.sinks import Sink, Store, open_sink
from ai_ledger.sinks.stdout import StdoutSink

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = 'a\nb\rc\u2028d\x1b]0;title\x07e\u202ef\x00g\x7fh\x9bi"j k=l实\ud800'
TEXTS = [
    field.name
    for field in msgspec.structs.fields(CallRecord)
    if field.type in (str, str | None) and field.name != "id"
]


def test_url():
    """
    Two URLs open the two forms; it is a sink that nobody can ask.
    """
    sinks = [open_sink("stdout:"), open_sink("stdout:human")]

    assert [sink._human for sink in sinks] == [False, True]
    assert [(isinstance(sink, Sink), isinstance(sink, Store)) for sink in sinks] == [
        (True, False)
    ] * 2


def test_json_line(capsys):
    """
    A line is the record itself, without prompts and answers.
    """
    record = CallRecord(
        id="call-1",
        started_at=NOON,
        cost=Decimal("0.0000004"),
        currency="CNY",
        user_id="张三",
        request_content="secret question",
        response_content="secret answer",
    )
    StdoutSink().write([record])
    line = capsys.readouterr().out

    assert line.endswith("}\n")
    assert CallRecord.from_json(line) == record.replace(request_content=None, response_content=None)


def test_json_line_with_content(capsys):
    """
    Prompts and answers are printed when they are asked for.
    """
    record = CallRecord(id="call-1", started_at=NOON, request_content="question\n")
    StdoutSink(content=True).write([record])

    assert CallRecord.from_json(capsys.readouterr().out) == record


def test_human_line(capsys):
    """
    A readable line says when, what, who and how much.
    """
    StdoutSink(human=True).write(
        [
            CallRecord(
                id="call-1",
                started_at=NOON,
                request_model="qwen-plus",
                duration_ms=812.4,
                input_tokens=12,
                output_tokens=0,
                usage_source="reported",
                cost=Decimal("0.0000004"),
                currency="CNY",
                user_id="u 42",
                request_content="secret",
            ),
            CallRecord(id="call-2", started_at=NOON, status="failed", error_type="Timeout"),
        ]
    )

    assert capsys.readouterr().out == (
        '2026-03-01T12:00:00.000+00:00 success chat qwen-plus user="u 42" in=12 out=0 ms=812 '
        "cost=0.0000004CNY id=call-1\n"
        "2026-03-01T12:00:00.000+00:00 failed chat unknown-model usage=unknown error=Timeout "
        "cost=unpriced id=call-2\n"
    )


@pytest.mark.parametrize("char", [*map(chr, range(0x20)), "\x7f", "\x9b", "\u2028", "\u202e", "é"])
def test_each_character_alone(capsys, char):
    """
    No character needs another beside it to be escaped.
    """
    StdoutSink(human=True).write([CallRecord(id="call-1", started_at=NOON, user_id=f"a{char}")])

    assert f' user="a{json.dumps(char)[1:-1]}" ' in capsys.readouterr().out


@pytest.mark.parametrize("human", [False, True])
@pytest.mark.parametrize("field", [*TEXTS, "id", "tags"])
def test_hostile_text(capsys, field, human):
    """
    Whatever a text field holds, a record is one line of printable ASCII.
    """
    values = {"id": "call-1", "started_at": NOON, "cost": Decimal(1), "currency": "USD"}
    values[field] = {HOSTILE: HOSTILE} if field == "tags" else HOSTILE
    StdoutSink(human=human, content=True).write([CallRecord(**values)])
    out = capsys.readouterr().out

    assert out[-1] == "\n"
    assert {char for char in out[:-1] if not " " <= char <= "~"} == set()
    if not human:
        assert json.loads(out)[field] == values[field]


def test_closed(monkeypatch):
    """
    A closed standard output is reported as away; a program without one prints nothing.
    """
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(SinkUnavailable):
        StdoutSink().write([CallRecord(id="call-1", started_at=NOON)])

    monkeypatch.setattr(sys, "stdout", None)
    StdoutSink().write([CallRecord(id="call-1", started_at=NOON)])


PROGRAM = """
import os, sys
from datetime import UTC, datetime
from ai_ledger.errors import SinkUnavailable
from ai_ledger.records import CallRecord
from ai_ledger.sinks.stdout import StdoutSink

print("before")
if sys.argv[1] == "close":
    sys.stdout.flush()
    sys.stdin.readline()
try:
    StdoutSink().write([CallRecord(id="call-1", started_at=datetime(2026, 3, 1, tzinfo=UTC))])
except SinkUnavailable:
    sys.exit(7)
print("after")
"""


def test_broken_pipe():
    """
    When nobody reads any more, the program ends as it would have without us.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "close"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    errors = process.stderr.read()
    process.stderr.close()

    assert (process.wait(), errors) == (7, b"")


def test_keeps_its_place_among_prints():
    """
    Lines come where they were written among the program's own output.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "open"], capture_output=True, text=True, check=True
    )

    assert done.stdout == ('before\n{"id":"call-1","started_at":"2026-03-01T00:00:00Z"}\nafter\n')
