"""Metrics: what calls come to, for Prometheus, with bounded labels and nobody's name in them."""

from __future__ import annotations

import urllib.request

from _provider import use_provider
from openai import InternalServerError, OpenAI
from prometheus_client import start_http_server

from ai_ledger import Ledger, TrackedClient, call_context
from ai_ledger.sinks.prometheus import PrometheusSink

provider = use_provider()

SHOWN = ("calls_total", "tokens_total", "cost_total", "call_duration_seconds_count")


def main() -> None:
    """Some calls of two functions, one of which fails, and what Prometheus would read."""
    metrics = PrometheusSink(labels=["function"])
    with Ledger("sqlite:///ai_ledger.db", sinks=[metrics]) as ledger:
        server, _ = start_http_server(0, addr="127.0.0.1", registry=metrics.registry)
        client = TrackedClient(OpenAI(max_retries=0), ledger=ledger)
        for number in range(5):
            with call_context(function="summarize" if number % 2 else "chat", user_id=number):
                client.chat.completions.create(
                    model="qwen-plus", messages=[{"role": "user", "content": "Hello!"}]
                )
        if provider is not None:
            provider.next(status=500)
            try:
                client.with_context(function="chat").chat.completions.create(
                    model="qwen-plus", messages=[{"role": "user", "content": "Hello?"}]
                )
            except InternalServerError as error:
                print(f"the program still sees its own error: {type(error).__name__}")
        ledger.flush()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        for name in SHOWN:
            print(*(line for line in lines if line.startswith(f"ai_ledger_{name}{{")), sep="\n")
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
