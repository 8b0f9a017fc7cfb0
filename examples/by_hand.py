"""By hand: calls that no tracked client makes, while they run or when they are over."""

from __future__ import annotations

import time

from ai_ledger import Ledger, PriceTable, call_context, record_ai_usage, use_ledger

prices = PriceTable.default()
prices.add("house-7b", input="0.2", output="0.4", currency="CNY")  # per million tokens


def ask_the_house_model(question: str) -> dict[str, int]:
    """Stands for anything that answers: a socket, a binary, a model in this process."""
    if not question:
        raise ValueError("nothing was asked")
    time.sleep(0.01)
    return {"read": len(question.split()), "written": 12}


def main() -> None:
    """Three ways to put a call on the books."""
    with Ledger(prices=prices) as ledger:
        use_ledger(ledger)  # so that record_ai_usage() finds it

        # While it runs: the block is timed, and an exception marks the call as failed.
        with ledger.call(model="house-7b", user_id=42, function="ask") as call:
            counts = ask_the_house_model("What does the house say?")
            call.set_usage(input_tokens=counts["read"], output_tokens=counts["written"])

        try:
            with ledger.call(model="house-7b", user_id=42, function="ask"):
                ask_the_house_model("")
        except ValueError as error:
            print(f"the program still sees its own error: {error}")

        # When it is over: unknown keywords are kept as tags.
        with call_context(org_id="acme"):
            record_ai_usage(
                model="qwen-plus",
                function="live_answer",
                input_tokens=1_200,
                output_tokens=350,
                duration_ms=840,
                success=True,
                user_id=7,
                session_id="s-31",
                anchor_id=9001,
            )

        ledger.flush()
        print(ledger.stats.summary(by=("request_model", "function")))
        print(ledger.stats.summary(where={"tags.anchor_id": "9001"}))
        use_ledger(None)


if __name__ == "__main__":
    main()
