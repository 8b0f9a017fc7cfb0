"""A sink of your own: anything with ``write(records)``, beside the store or instead of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from _provider import use_provider
from openai import OpenAI

from ai_ledger import CallRecord, Ledger, SinkUnavailable, TrackedClient

use_provider()


class Invoices:
    """
    Adds up what each customer owes, in a system that is down at first.

    It is called from one thread, in batches. What it cannot take now it is
    given again later, so it goes by the records' ids to count each call once.
    """

    name = "invoices"

    def __init__(self) -> None:
        self.tokens: Counter[str] = Counter()
        self.attempts = 0
        self._seen: set[str] = set()

    def write(self, records: Sequence[CallRecord]) -> None:
        """Take *records*, all of them or none."""
        self.attempts += 1
        if self.attempts == 1:
            raise SinkUnavailable("the invoicing system restarts")
        for record in records:
            if record.status != "unfinished" and record.id not in self._seen:
                self._seen.add(record.id)
                self.tokens[record.org_id or "nobody"] += record.total_tokens or 0


def main() -> None:
    """Five calls of two customers, in the store and on the invoices."""
    invoices = Invoices()
    with Ledger("sqlite:///ai_ledger.db", sinks=[invoices]) as ledger:
        client = TrackedClient(OpenAI(), ledger=ledger)
        for number in range(5):
            customer = client.with_context(org_id="acme" if number % 2 else "globex")
            customer.chat.completions.create(
                model="qwen-plus", messages=[{"role": "user", "content": "Hello!"}]
            )
        everywhere = ledger.flush(timeout=30)
        print(f"delivered everywhere: {everywhere}, after {invoices.attempts} attempts")
        for customer, tokens in sorted(invoices.tokens.items()):
            print(f"{customer}: {tokens} tokens")
        print(ledger.stats.summary(by="org_id"))


if __name__ == "__main__":
    main()
