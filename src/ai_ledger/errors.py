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
    ├── EditError               an edit of the catalogue, a quota, a word or a rule was not made
    │   ├── NotFound            there is nothing of that name (also a LookupError)
    │   ├── AlreadyThere        there is something of that name, or one that overlaps
    │   └── EditConflict        somebody else has changed it meanwhile: read it again
    ├── AccessDenied            somebody who is known may not see or do this
    └── CallRefused             a policy refused the call; nothing was sent
        ├── ContextMissing      a required context field was not set
        ├── BudgetExceeded      a budget has not enough left
        ├── BudgetUnavailable   whether a budget has enough left cannot be told
        ├── ModelNotAllowed     this model is switched off, or not for this organisation
        ├── QuotaExceeded       an organisation has used its share of a model
        ├── TooSoon             the next call may be made in so many seconds
        ├── CircuitOpen         who answers has failed too often of late
        └── ContentBlocked      the prompt has a word that must not be sent
            └── WordsUnavailable    whether it has one cannot be told

Only `CallRefused` and its children can reach code that makes a tracked call,
and only before anything is sent. The rest belongs to set-up, to reports, and to
the background thread, which counts and logs it instead of raising it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal


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


class AccessDenied(AILedgerError):
    """Somebody who is known may not see or do this. Says which role it takes."""


class CallRefused(AILedgerError):
    """
    A policy refused the call. Nothing was sent and nothing was spent.

    Policies raise a subclass named for what was refused.
    """

    status = "blocked"
    """The status that the record of the refused call gets."""


class ContextMissing(CallRefused):
    """A field named in ``Ledger(require=…, on_missing="raise")`` was not set."""


class BudgetExceeded(CallRefused):
    """
    A budget has not enough left for what the call may cost.

    Args:
        budget: The budget's name.
        whose: For whom, where there is one budget each; ``None`` for all together.
        unit: ``tokens``, or the code of a currency.
        limit: How much there is in the period, in units of *unit*.
        used: How much of it is spent.
        reserved: How much is set aside for calls in flight.
        needed: How much this call may cost.
        resets_at: When the next period begins, aware; ``None`` for never.
    """

    def __init__(
        self,
        budget: str,
        *,
        whose: str | None,
        unit: str,
        limit: Decimal,
        used: Decimal,
        reserved: Decimal,
        needed: Decimal,
        resets_at: datetime | None,
    ) -> None:
        self.budget = budget
        self.whose = whose
        self.unit = unit
        self.limit = limit
        self.used = used
        self.reserved = reserved
        self.needed = needed
        self.resets_at = resets_at
        each = f" for {whose!r}" if whose is not None else ""
        until = f"; it resets at {resets_at.isoformat()}" if resets_at is not None else ""
        super().__init__(
            f"budget {budget!r}{each}: this call may take {needed:f} {unit}, and of {limit:f} "
            f"{used:f} are used and {reserved:f} reserved{until}"
        )


class BudgetUnavailable(CallRefused):
    """Whether a budget has enough left cannot be told: says why, and what to do."""


class ModelNotAllowed(CallRefused):
    """This model is switched off, or not for this organisation."""


class QuotaExceeded(CallRefused):
    """
    An organisation's share of a model has not enough left for what the call may take.

    Args:
        quota: Which: organisation and model, as in its row.
        needed: How many tokens this call may take, its input as one token a byte.
        used: How many are used.
        reserved: How many are set aside for calls in flight.
        limit: How many there are.
        until: When the quota ends, aware; ``None`` for never.
    """

    def __init__(
        self,
        quota: str,
        *,
        needed: int,
        used: int,
        reserved: int,
        limit: int,
        until: datetime | None,
    ) -> None:
        self.quota = quota
        self.needed = needed
        self.used = used
        self.reserved = reserved
        self.limit = limit
        self.until = until
        end = f"; it ends at {until.isoformat()}" if until is not None else ""
        super().__init__(
            f"quota {quota}: this call may take {needed:,} tokens, and of {limit:,} "
            f"{used:,} are used and {reserved:,} reserved{end}"
        )


class TooSoon(CallRefused):
    """
    The next call may be made later.

    Args:
        message: What is limited, and for whom.
        retry_after_s: In how many seconds.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{message}; try again in {retry_after_s:.3g} s")


class CircuitOpen(CallRefused):
    """
    Who answers has failed too often of late, and is left alone for a while.

    Args:
        message: Who, and how often it failed.
        retry_after_s: In how many seconds the next attempt is allowed.
    """

    status = "circuit_open"

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{message}; try again in {retry_after_s:.3g} s")


class ContentBlocked(CallRefused):
    """
    The prompt has a word that must not be sent. The text itself is not repeated.

    Args:
        rules: The ids of the words that were found.
    """

    def __init__(self, rules: tuple[int, ...]) -> None:
        self.rules = rules
        listed = ", ".join(map(str, rules[:10]))
        super().__init__(f"blocked by word {listed}{', …' if len(rules) > 10 else ''}")


class WordsUnavailable(ContentBlocked):
    """
    Whether the prompt has a word that must not be sent cannot be told.

    Args:
        message: Why, and what to do. There are no rules.
    """

    def __init__(self, message: str) -> None:
        self.rules = ()
        CallRefused.__init__(self, message)


class EditError(AILedgerError):
    """An edit was not made, and nothing was written."""


class NotFound(EditError, LookupError):
    """There is nothing of that name."""


class AlreadyThere(EditError):
    """There is something of that name already, or one that overlaps."""


class EditConflict(EditError):
    """Somebody else has changed it meanwhile: read it again, and then edit what it is now."""
