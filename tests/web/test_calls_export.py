"""Files of calls: all of them, exactly, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8
from decimal import Decimal
from typing import Any

import pytest
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.errors import SinkUnavailable
from ai_ledger.query import Query
from ai_ledger.records import CallRecord
from ai_ledger.sinks.sql.reader import Reader
from ai_ledger.web.calls import export

PATH = "/api/v1/calls/export"


def bare(call: CallRecord) -> CallRecord:
    return call.replace(request_content=None, response_content=None)


@pytest.mark.parametrize("batch", [1, 7, 120, 1_000])
def test_jsonl_is_faithful(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """
    Each call of the store is one line, whatever the size of the batches; with a count ahead.
    """
    monkeypatch.setattr(export, "BATCH", batch)

    answer = visitor().get(PATH, params={"format": "jsonl"})

    stored = filled.store.calls(Query.build(scope=None), limit=1_000)
    assert [CallRecord.from_json(line) for line in answer.content.splitlines()] == [
        bare(call) for call in stored
    ]
    assert answer.headers["X-Total-Count"] == str(len(stored))
    assert answer.headers["Content-Disposition"] == (
        'attachment; filename="calls-2026-05-20.jsonl"'
    )


def test_csv_equals_the_store(filled: Ledger, visitor: Visitor) -> None:
    """
    A file of CSV holds the same calls, numbers as numbers, and only those that are filtered.
    """
    answer = visitor().get(PATH, params={"status": "failed", "user_id": "user-4"})

    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    stored = filled.store.calls(
        Query.build(scope=None, where={"status": "failed", "user_id": "user-4"}), limit=1_000
    )
    assert [
        (row["id"], row["cost"], row["duration_ms"], row["total_tokens"], row["tags"])
        for row in rows
    ] == [
        (
            call.id,
            "" if call.cost is None else f"{call.cost:f}",
            str(call.duration_ms),
            str(call.total_tokens),
            f'{{"team":"{call.tags["team"]}"}}',
        )
        for call in stored
    ]
    assert 0 < len(rows) < 120


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\x00", " =", '"=', "\uff1d"])
def test_no_cell_is_a_formula(ledger: Ledger, visitor: Visitor, start: str) -> None:
    """
    A text that a spreadsheet would run gets a ' in front, in every column of texts.
    """
    evil = f"{start}HYPERLINK(1)"
    ledger.store.write(
        [
            sample.call(
                1,
                **dict.fromkeys(
                    ("user_id", "function", "request_model", "error_message", "request_content"),
                    evil,
                ),
            )
        ]
    )

    text = visitor().get(PATH, params={"content": "true"}).content.decode("utf-8-sig")

    row = next(csv.DictReader(io.StringIO(text, newline="")))
    shown = f"'{evil}" if start != "\x00" else evil.replace("\x00", "\ufffd")
    for column in ("user_id", "function", "request_model", "error_message", "request_content"):
        assert row[column] == shown, column
    assert row["cost"] == "0.002"


def test_prompts_only_for_who_may_see_and_asks(filled: Ledger, visitor: Visitor) -> None:
    """
    Prompts and answers are in a file when they are asked for by somebody who may see them.
    """
    for form in ("csv", "jsonl"):
        asked = {"format": form, "content": "true"}
        assert "prompt 17" in visitor().get(PATH, params=asked).text
        assert "prompt 17" not in visitor().get(PATH, params={"format": form}).text
        refused = visitor(prompts=False).get(PATH, params=asked)
        assert (refused.status_code, "prompt 17" in refused.text) == (403, False)


def test_only_the_own_organisation(filled: Ledger, visitor: Visitor) -> None:
    """
    A file holds the calls of the reader's organisation, whatever is asked for.
    """
    client = visitor(org_id="acme")

    own = client.get(PATH, params={"format": "jsonl"}).content.splitlines()
    wider = client.get(PATH, params={"format": "jsonl", "org_id": ["acme", "globex"]})
    other = client.get(PATH, params={"format": "jsonl", "org_id": "globex"})

    assert {CallRecord.from_json(line).org_id for line in own} == {"acme"}
    assert wider.content.splitlines() == own
    assert (other.content, other.headers["X-Total-Count"]) == (b"", "0")


def test_csv_begins_as_spreadsheets_need_it(filled: Ledger, visitor: Visitor) -> None:
    """
    A byte order mark is the first of a CSV file, once; lines of JSON have none.
    """
    table = visitor().get(PATH).content
    lines = visitor().get(PATH, params={"format": "jsonl"}).content

    assert (table[:5], table.count(BOM_UTF8)) == (BOM_UTF8 + b"id", 1)
    assert BOM_UTF8 not in lines


def test_files_with_long_texts_are_read_a_few_calls_at_a_time(
    ledger: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With prompts, batches are small, and smaller where texts are long; nothing is left out.
    """
    monkeypatch.setattr(export, "BATCH_CHARS", 1_000)
    # Newest first: 100 calls with short texts, then 30 with long ones.
    calls = [
        sample.call(n, request_content="x" * (10 if n < 100 else 300), response_content=None)
        for n in range(130)
    ]
    ledger.store.write(calls)
    read, asked = Reader.calls, []

    def noted(self: Reader, *args: Any, **options: Any) -> list[CallRecord]:
        asked.append(options["limit"] - 1)  # one more tells whether there are others
        return read(self, *args, **options)

    monkeypatch.setattr(Reader, "calls", noted)
    answer = visitor().get(PATH, params={"format": "jsonl", "content": "true"})

    # The first batch, while it is not known how long they are; those of ten characters;
    # then one that runs into the long ones, and three of them at a time would be enough.
    assert asked == [10, 50, 50, 10, 10]
    assert [CallRecord.from_json(line).id for line in answer.content.splitlines()] == [
        call.id for call in ledger.store.calls(Query.build(scope=None), limit=1_000)
    ]


def test_a_file_has_a_seat_until_all_of_it_was_sent(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    So many files are sent to one reader at a time; one more is refused, until one has ended.
    """
    monkeypatch.setattr(export, "BATCH", 50)
    monkeypatch.setattr(export, "MAX_EXPORTS_EACH", 1)
    read, free = Reader.calls, []

    def noted(self: Reader, *args: Any, **options: Any) -> list[CallRecord]:
        free.append(seats.take("/tester"))
        return read(self, *args, **options)

    monkeypatch.setattr(Reader, "calls", noted)
    client = visitor()
    seats = export.seats_of(client.app.state.house)  # type: ignore[attr-defined]

    assert client.get(PATH).status_code == 200
    assert free == [False, False, False]  # of 120 calls
    assert seats.take("/tester")
    refused = client.get(PATH)
    assert (refused.status_code, refused.json()["detail"].partition(":")[0]) == (
        503,
        "1 files of yours, or 8 of all, are being sent already",
    )
    seats.leave("/tester")
    # What fails before anything is sent gives its seat back, too.
    monkeypatch.setattr(Reader, "calls", lambda *args, **options: 1 / 0)
    assert client.get(PATH).status_code == 500
    assert seats.take("/tester")


def test_an_empty_file(visitor: Visitor) -> None:
    """
    Without calls there are the names of the columns, or nothing.
    """
    assert visitor().get(PATH).content.decode("utf-8-sig").startswith("id,started_at,status,")
    assert visitor().get(PATH, params={"format": "jsonl"}).content == b""


def test_a_store_that_goes_away(
    filled: Ledger, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A file that cannot be finished is cut short for all to see, and not ended as if it were whole.
    """
    monkeypatch.setattr(export, "BATCH", 50)
    read, reads = Reader.calls, []

    def failing(self: Reader, *args: Any, **options: Any) -> list[CallRecord]:
        reads.append(1)
        if len(reads) > 1:
            raise SinkUnavailable("gone")
        return read(self, *args, **options)

    monkeypatch.setattr(Reader, "calls", failing)
    with visitor() as client:
        client._transport.raise_server_exceptions = True  # type: ignore[attr-defined]
        # The server closes the connection before the end of the file.
        with pytest.raises(RuntimeError, match="already started"):
            client.get(PATH)


def test_costs_are_exact(ledger: Ledger, visitor: Visitor) -> None:
    """
    Not a digit of a cost is lost, and none is written with an exponent.
    """
    ledger.store.write([sample.call(1, cost=Decimal("0.000000001"))])

    row = next(csv.DictReader(io.StringIO(visitor().get(PATH).text)))

    assert row["cost"] == "0.000000001"
