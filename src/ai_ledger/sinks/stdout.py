"""Standard output: one line a call, safe to show on any terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from ai_ledger.errors import SinkUnavailable
from ai_ledger.money import tidy
from ai_ledger.records import CallRecord


class StdoutSink:
    """
    One JSON object, or one readable line, for each call on standard output.

    A line holds printable ASCII and nothing else: newlines, terminal sequences
    and letters of other scripts are escaped, so no value can pass for a line of
    its own or command the terminal (CWE-117). Nothing is kept: while standard
    output is closed, calls are left out.

    Args:
        human: A readable line in place of JSON.
        content: Write prompts and answers too (JSON only).
    """

    name = "stdout"
    durable = False

    def __init__(self, *, human: bool = False, content: bool = False) -> None:
        self._human = human
        self._content = content

    def write(self, records: Sequence[CallRecord]) -> None:
        """
        Print *records* in the order given.

        Raises:
            SinkUnavailable: Standard output is closed, or nobody reads it any more.
        """
        lines = [
            human_line(record) if self._human else json_line(record, content=self._content)
            for record in records
        ]
        # Looked up now, since programs and tests exchange sys.stdout.
        stream: TextIO | None = sys.stdout
        if stream is None or not lines:  # pyright: ignore[reportUnnecessaryComparison]
            return
        try:
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            raise SinkUnavailable(f"standard output: {error}") from error


def json_line(record: CallRecord, *, content: bool = False) -> str:
    """*record* as one JSON object in printable ASCII, without prompts unless *content*."""
    if not content:
        record = record.replace(request_content=None, response_content=None)
    return json.dumps(msgspec.to_builtins(record), ensure_ascii=True, separators=(",", ":"))


def human_line(record: CallRecord) -> str:
    """*record* as one line for people, in printable ASCII: when, what, who, how much."""
    milliseconds = record.duration_ms
    words = [
        record.started_at.isoformat(timespec="milliseconds"),
        record.status,
        escaped(record.operation),
        escaped(record.response_model or record.request_model or "unknown-model"),
    ]
    for label, value in (
        ("provider", record.provider),
        ("org", record.org_id),
        ("user", record.user_id),
        ("function", record.function),
        ("business", record.business_type),
        ("reference", record.reference_id),
        ("in", record.input_tokens),
        ("out", record.output_tokens),
        ("usage", record.usage_source if record.usage_source != "reported" else None),
        ("ms", None if milliseconds is None else round(milliseconds)),
        ("error", record.error_type),
    ):
        if value is not None:
            words.append(f"{label}={escaped(str(value))}")
    if record.cost is None:
        words.append("cost=unpriced")
    else:
        words.append(f"cost={tidy(record.cost):f}{escaped(record.currency or '')}")
    words.append(f"id={escaped(record.id)}")
    return " ".join(words)


def escaped(text: str) -> str:
    """*text* as one word of printable ASCII: quoted like JSON where it would not be one."""
    if text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return json.dumps(text, ensure_ascii=True)
