"""A batch in threads: each call keeps the context that it was submitted from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from _provider import use_provider
from openai import OpenAI

from ai_ledger import ContextThreadPoolExecutor, TrackedClient, bind, call_context, default_ledger

use_provider()

client = TrackedClient(OpenAI())  # one client for all threads
REVIEWS = [f"Review {number}: arrived on day {number}." for number in range(1, 21)]


def summarise(review: str) -> str:
    """One call; whose it is, is none of this function's business."""
    completion = client.chat.completions.create(
        model="qwen-turbo", messages=[{"role": "user", "content": f"In one line: {review}"}]
    )
    return completion.choices[0].message.content or ""


def main() -> None:
    """Twenty calls, four at a time, for two customers."""
    with ContextThreadPoolExecutor(max_workers=4) as pool:
        with call_context(org_id="acme", function="summarise", batch_id="b-1"):
            acme = [pool.submit(summarise, review) for review in REVIEWS[:12]]
        with call_context(org_id="globex", function="summarise", batch_id="b-2"):
            globex = [pool.submit(summarise, review) for review in REVIEWS[12:]]
        lines = [future.result() for future in (*acme, *globex)]

    # In a pool of your own, bind() takes the context along.
    with ThreadPoolExecutor() as pool, call_context(org_id="globex", function="retry"):
        lines.append(pool.submit(bind(summarise), REVIEWS[0]).result())

    ledger = default_ledger()
    ledger.flush()
    print(f"{len(lines)} summaries")
    print(ledger.stats.summary(by=("org_id", "tags.batch_id")))
    print(ledger.stats.scoped("acme").top("function", by="calls"))


if __name__ == "__main__":
    main()
