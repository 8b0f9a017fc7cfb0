"""A ledger that lives in memory, for the tests of programs that use ai-ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger


def memory_ledger(**options: Any) -> Ledger:
    """
    A ledger that keeps its calls in this process's memory.

    Close it, or use it as a context manager. Ask it like any other, after
    ``ledger.flush()``::

        with memory_ledger() as ledger:
            client = TrackedClient(OpenAI(...), ledger=ledger)
            ...
            ledger.flush()
            assert ledger.stats.summary().calls == 1

    Args:
        **options: What `ai_ledger.Ledger` takes, the URL excepted.
    """
    # Imported here: the provider is also used on its own, before there is a ledger.
    from ai_ledger.ledger import Ledger

    return Ledger("memory:", **options)
