"""
Every refusal once: who says no, why, and that nothing was sent.

A refused call raises a child of `CallRefused` before anything leaves the program. It is on
the books, costs nothing, and the other calls go on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openai import OpenAI, OpenAIError

from ai_ledger import CallRefused, Ledger, TrackedClient
from ai_ledger.catalog import Catalog
from ai_ledger.policies import Breaker, Budget, Quotas
from ai_ledger.policies.words import Words
from ai_ledger.testing import Provider


def ask(client: OpenAI, model: str = "qwen-plus", text: str = "Hello!", **more: Any) -> None:
    """One ordinary call."""
    client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], **more
    )


class Program:
    """
    A program with every policy there is.

    Args:
        sdk: The SDK's client, without policies.
        ledger: Where its calls go.
        provider: Who answers, and can say how often it was asked.
    """

    def __init__(self, sdk: OpenAI, ledger: Ledger, provider: Provider) -> None:
        self.sdk = sdk
        self.ledger = ledger
        self.provider = provider

    def client(self, *policies: Any, **context: Any) -> OpenAI:
        """A client whose calls these policies are asked about."""
        return TrackedClient(self.sdk, ledger=self.ledger, policies=policies, **context)

    def shown(self, who: str, call: Callable[[], object]) -> None:
        """Make a call that is to be refused, and print a line about it."""
        before = len(self.provider.requests)
        try:
            call()
        except CallRefused as refusal:
            sent = len(self.provider.requests) - before or "nothing"
            print(f"{type(refusal).__name__:15} by {who}: {refusal}; {sent} sent")
        else:
            raise SystemExit(f"{who} should have refused")

    def budget(self) -> None:
        """A user may spend so much a month; what a call can cost is known before it is made."""
        client = self.client(Budget("0.01 CNY", per="month", each="user_id"), user_id="u-42")
        ask(client, max_tokens=500)

        self.shown("a budget", lambda: ask(client, max_tokens=8_000))

    def catalogue(self) -> None:
        """A model that is switched off."""
        catalogue = Catalog(self.ledger)
        catalogue.add_provider("dashscope", site=self.provider.base_url)
        catalogue.add_model("qwen-long", provider="dashscope")
        client = self.client(catalogue)
        ask(client, "qwen-long")
        catalogue.disable_model("qwen-long")

        self.shown("the catalogue", lambda: ask(client, "qwen-long"))

    def quotas(self) -> None:
        """
        Which organisation may use which model, how much, and how often.

        Input is set aside as one token a byte, so a small quota refuses early.
        """
        quotas = Quotas(self.ledger)
        quotas.set("acme", "qwen-max", enabled=False)
        quotas.set("acme", "qwen-plus", tokens=50)
        quotas.set("acme", "qwen-turbo", min_interval_s=60)
        acme = self.client(quotas, org_id="acme")

        self.shown("a quota", lambda: ask(acme, "qwen-max"))
        self.shown("a quota", lambda: ask(acme, "qwen-plus", max_tokens=500))
        ask(acme, "qwen-turbo")
        self.shown("a quota", lambda: ask(acme, "qwen-turbo"))
        quotas.close()

    def words(self) -> None:
        """A word that must not leave the house, however it is written."""
        words = Words(self.ledger)
        words.rows.add("Project Nightingale")
        client = self.client(words)

        text = "Sum up the papers of PROJECT NIGHTIN\u200bGALE."  # with an invisible space
        self.shown("a word", lambda: ask(client, text=text))

    def breaker(self) -> None:
        """A provider that fails is left alone."""
        client = self.client(Breaker(min_calls=3), provider="deepseek")
        self.provider.next(status=503, times=3)
        for _ in range(3):
            with suppress(OpenAIError):
                ask(client, "deepseek-chat")

        self.shown("a breaker", lambda: ask(client, "deepseek-chat"))


def main() -> None:
    """One line for each refusal, and what the books say."""
    with (
        TemporaryDirectory() as folder,
        Provider() as provider,
        OpenAI(base_url=provider.base_url, api_key="sk-example", max_retries=0) as sdk,
        Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}") as ledger,
    ):
        program = Program(sdk, ledger, provider)
        program.budget()
        program.catalogue()
        program.quotas()
        program.words()
        program.breaker()
        ledger.flush()
        print(ledger.stats.summary(by=("status", "error_type")))


if __name__ == "__main__":
    main()
