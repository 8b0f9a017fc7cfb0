"""Records: frozen values that survive their JSON, and say what is wrong with any other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger import CallRecord, InvalidValue
from ai_ledger.records import (
    ALIASES,
    CONTEXT_FIELDS,
    MAX_COUNT,
    STATUSES,
    TOKEN_FIELDS,
    USAGE_SOURCES,
    new_id,
    utc_now,
)

MOMENT = datetime(2026, 1, 5, 12, tzinfo=UTC)
_TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_COUNTS = st.none() | st.integers(0, MAX_COUNT)
_RECORDS = st.builds(
    CallRecord,
    id=st.uuids().map(str),
    started_at=st.datetimes(
        datetime(1970, 1, 2),
        datetime(2200, 1, 1),
        timezones=st.sampled_from((UTC, timezone(timedelta(hours=5, minutes=45)))),
    ),
    status=st.sampled_from(STATUSES),
    duration_ms=st.none() | st.floats(0, 1e9).map(lambda value: round(value, 3)),
    error_message=_TEXTS,
    streamed=st.booleans(),
    retries=st.integers(0, 9),
    usage_source=st.sampled_from(USAGE_SOURCES),
    cost=st.none() | st.decimals(0, 10**9, places=9),
    tags=st.dictionaries(st.text("ab", max_size=3), st.text("ab\n\x00é", max_size=5)),
    request_content=_TEXTS,
    **dict.fromkeys(TOKEN_FIELDS, _COUNTS),
    **dict.fromkeys(CONTEXT_FIELDS, _TEXTS),
)


@given(_RECORDS)
def test_a_record_survives_its_json(record: CallRecord) -> None:
    """
    One line of UTF-8, which gives an equal record again, costs to the last digit.
    """
    line = record.to_json()

    assert b"\n" not in line
    assert CallRecord.from_json(line) == record
    assert CallRecord.from_json(line.decode()) == record


def test_unknown_keys_are_let_go() -> None:
    """
    A line that a newer version wrote can be read.
    """
    line = b'{"id":"x","started_at":"2026-01-05T12:00:00Z","colour":"red"}'

    assert CallRecord.from_json(line) == CallRecord(id="x", started_at=MOMENT)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"{", "", id="cut short"),
        pytest.param(b"[]", "", id="a list"),
        pytest.param(b"\xff\xfe", "", id="no UTF-8"),
        pytest.param(b'{"id":"x"}', "started_at", id="a field is missing"),
        pytest.param(
            b'{"id":"x","started_at":"2026-01-05T12:00:00"}', "started_at", id="a naive time"
        ),
        pytest.param(
            b'{"id":"x","started_at":"2026-01-05T12:00:00Z","input_tokens":-1}',
            "input_tokens",
            id="a negative count",
        ),
        pytest.param(
            b'{"id":"x","started_at":"2026-01-05T12:00:00Z","status":"fine"}',
            "status",
            id="an unknown status",
        ),
        pytest.param(
            b'{"id":"x","started_at":"2026-01-05T12:00:00Z","tags":{"a":1}}', "tags", id="a tag"
        ),
    ],
)
def test_lines_that_are_no_record(line: bytes, names: str) -> None:
    """
    The error says what was expected, and where.
    """
    with pytest.raises(InvalidValue, match="a call record as JSON") as caught:
        CallRecord.from_json(line)

    assert names in str(caught.value)


def test_a_record_is_a_value() -> None:
    """
    It never changes; a copy with changes is another.
    """
    record = CallRecord(id="x", started_at=MOMENT, cost=Decimal("1.5"))
    with pytest.raises(AttributeError):
        record.cost = None  # type: ignore[misc]

    changed = record.replace(cost=Decimal(2), user_id="u")

    assert (record.cost, changed.cost, changed.user_id) == (Decimal("1.5"), Decimal(2), "u")
    assert msgspec.structs.replace(changed, cost=Decimal("1.5"), user_id=None) == record


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "total"),
    [(None, None, None), (3, None, 3), (None, 4, 4), (0, 0, 0), (3, 4, 7)],
)
def test_total_tokens(
    input_tokens: int | None, output_tokens: int | None, total: int | None
) -> None:
    """
    Input and output add up and nothing else does; unknown is not zero.
    """
    record = CallRecord(
        id="x",
        started_at=MOMENT,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=1,
        reasoning_tokens=1,
        audio_input_tokens=1,
    )

    assert record.total_tokens == total
    assert record.usage.input_tokens == input_tokens


def test_ids_are_ordered_by_time_and_never_the_same() -> None:
    """
    UUIDv7: what is made later sorts later.
    """
    ids = [new_id() for _ in range(10_000)]

    assert len(set(ids)) == len(ids)
    assert sorted(ids) == ids
    assert {value[14] for value in ids} == {"7"}
    assert utc_now().tzinfo is UTC


def test_aliases_name_fields() -> None:
    """
    Every word of another system stands for a field of ours, and is none itself.
    """
    fields = set(CallRecord.__struct_fields__)

    assert set(ALIASES.values()) <= fields
    assert not set(ALIASES) & fields
