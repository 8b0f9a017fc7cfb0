"""Parents: the span in which a call was made, carried by its record as W3C writes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ai_ledger.policy import MARK_PREFIX

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from ai_ledger.records import CallRecord

PARENT_TAG: Final = f"{MARK_PREFIX}traceparent"
"""The tag of calls that were made inside a span: https://www.w3.org/TR/trace-context/."""

_FORM: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = 1


class Parent(NamedTuple):
    """A span of somebody else's."""

    trace_id: int
    span_id: int
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether its trace is kept."""
        return bool(self.flags & _SAMPLED)


def written(context: SpanContext) -> str:
    """*context* as the value of `PARENT_TAG`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parent_of(record: CallRecord) -> Parent | None:
    """The span that *record* was made in; ``None`` for one that was made in none."""
    found = _FORM.fullmatch(record.tags.get(PARENT_TAG, ""))
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    # All zeros is how a span says that there is none.
    return Parent(trace_id, span_id, flags) if trace_id and span_id else None
