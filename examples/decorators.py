"""Decorators: functions give their calls a name, and their arguments the context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from _provider import use_provider
from openai import OpenAI

from ai_ledger import TrackedClient, call_context, default_ledger, track_ai_usage

use_provider()

client = TrackedClient(OpenAI())
untracked = OpenAI()


@dataclass
class Visitor:
    """Someone who talks to us."""

    id: int
    plan: str


# The name of a parameter, or a function of all of them, says who is calling.
@track_ai_usage("answer", user_id=lambda call: call.visitor.id, plan=lambda call: call.visitor.plan)
def answer(question: str, visitor: Visitor) -> str:
    """One call of a tracked client: recorded by the client, named by the decorator."""
    completion = client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": question}]
    )
    return completion.choices[0].message.content or ""


# The decorated function may be a generator; the reader's own calls do not get its context.
@track_ai_usage("recite", user_id="reader")
def recite(poem: str, reader: str) -> Iterator[str]:
    """A stream, given on piece by piece."""
    stream = client.chat.completions.create(
        model="deepseek-chat", messages=[{"role": "user", "content": poem}], stream=True
    )
    for chunk in stream:
        yield chunk.choices[0].delta.content or ""


# What no tracked client recorded is recorded from the answer that the function returns.
@track_ai_usage("classify", "qwen-turbo")
def classify(text: str) -> object:
    """A call of a client that somebody else made."""
    return untracked.chat.completions.create(
        model="qwen-turbo", messages=[{"role": "user", "content": text}]
    )


@call_context(business_type="newsletter")
def newsletter() -> None:
    """A context is a decorator too; what is said further inside wins."""
    answer("What is new?", visitor=Visitor(id=7, plan="free"))
    classify("Rain tomorrow.")


def main() -> None:
    """Use all of them and report."""
    answer("Where is my order?", visitor=Visitor(id=42, plan="gold"))
    print("".join(recite("An autumn day", reader="u-9")))
    newsletter()

    ledger = default_ledger()
    ledger.flush()
    print(ledger.stats.summary(by=("function", "user_id", "business_type")))
    print(ledger.stats.summary(where={"tags.plan": "gold"}))


if __name__ == "__main__":
    main()
