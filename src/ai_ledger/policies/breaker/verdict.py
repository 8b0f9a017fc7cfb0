"""What the end of a call says about who answers."""

from __future__ import annotations

from typing import Final

from ai_ledger.records import CallRecord

_REQUEST_TIMEOUT: Final = 408
_TOO_MANY_REQUESTS: Final = 429

# Raised by the program, or about an answer that arrived whole. By name, because a
# record has no more. OSError and its children are not among them: they are the network's.
_NOT_THE_PROVIDERS: Final = frozenset(
    {
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "IndexError",
        "KeyError",
        "LookupError",
        "NameError",
        "NotImplementedError",
        "RecursionError",
        "TypeError",
        "UnicodeDecodeError",
        "UnicodeEncodeError",
        "ValueError",
        "ZeroDivisionError",
        # Of the SDK, and of pydantic, where a whole answer does not have the form asked for.
        "ContentFilterFinishReasonError",
        "LengthFinishReasonError",
        "ValidationError",
    }
)


def verdict_of(record: CallRecord, *, rate_limits: bool = False) -> bool | None:
    """
    True: who answers has failed. False: it is well. ``None``: the call says neither.

    Args:
        record: The finished call.
        rate_limits: Whether 429 is a failure.
    """
    if record.status == "success":
        return False
    if record.status == "timeout":
        return True
    if record.status != "failed":
        return None  # cancelled, blocked, refused: nobody answered, and nobody was let to
    code = record.http_status
    if code is None or code < 400:
        # No answer at all, or one that broke off.
        return None if record.error_type in _NOT_THE_PROVIDERS else True
    if code == _TOO_MANY_REQUESTS:
        return True if rate_limits else None
    return True if code >= 500 or code == _REQUEST_TIMEOUT else None
