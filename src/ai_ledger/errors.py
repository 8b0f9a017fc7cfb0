"""
What ai-ledger raises, and when.

::

    AILedgerError
    ├── ConfigurationError      an option, a URL or a file that cannot work (also a ValueError)
    │   ├── MissingExtra        an optional package is not installed (also an ImportError)
    │   └── PriceError          a price or a price file that contradicts itself
    ├── InvalidValue            a value that a person typed and that no record can hold (ValueError)
    ├── SinkError               a sink could not take, or answer, what it was given
    │   ├── SinkUnavailable     nothing is wrong with the records: try again later
    │   └── RecordRefused       these records will be refused again: do not try them again
    ├── SchemaError             the database's tables are older or newer than this version
    └── CallRefused             a policy refused the call; nothing was sent
        └── ContextMissing      a required context field was not set

Only `CallRefused` and its children can reach code that makes a tracked call,
and only before anything is sent. The rest belongs to set-up, to reports, and to
the background thread, which counts and logs it instead of raising it.
"""

from __future__ import annotations


class AILedgerError(Exception):
    """The root of everything that this package raises on purpose."""


class ConfigurationError(AILedgerError, ValueError):
    """An option, a URL or a file that cannot work. Raised at set-up, never during a call."""


class MissingExtra(ConfigurationError, ImportError):
    """
    A feature was asked for whose optional package is not installed.

    Args:
        feature: What was asked for, as the user would call it.
        extra: The extra of ai-ledger that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f"{feature} needs an extra: pip install 'ai-ledger[{extra}]'")


class PriceError(ConfigurationError):
    """A price, or a file of prices, that contradicts itself. Names the entry."""


class InvalidValue(AILedgerError, ValueError):
    """
    A value typed by a person that no record can hold.

    Args:
        field: The name of the field or option.
        value: What was given; shown shortened.
        expected: What would have been accepted, in words.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.expected = expected
        try:
            shown = repr(value)
        except ValueError:  # an integer of more than 4,300 digits is not written
            shown = f"<{type(value).__name__} too long to show>"
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{field}={shown}: expected {expected}")


class SinkError(AILedgerError):
    """A sink could not take, or could not answer, what it was given."""


class SinkUnavailable(SinkError):
    """The sink is away. The records are fine and are sent again later."""


class RecordRefused(SinkError):
    """The sink will refuse these records however often they are sent."""


class SchemaError(AILedgerError):
    """The database's tables are not those of this version. Says which command mends it."""


class CallRefused(AILedgerError):
    """
    A policy refused the call. Nothing was sent and nothing was spent.

    Policies raise a subclass named for what was refused.
    """

    status = "blocked"
    """The status that the record of the refused call gets."""


class ContextMissing(CallRefused):
    """A field named in ``Ledger(require=…, on_missing="raise")`` was not set."""
