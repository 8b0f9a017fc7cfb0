"""Real SDK calls of an imaginary company, put on the books."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ai_ledger.context import ContextThreadPoolExecutor, call_context
from ai_ledger.testing import Provider

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger

USERS: Final = ("u-chen", "u-garcia", "u-ivanova", "u-okafor", "u-smith")
_TIMED_OUT_AFTER: Final = 0.08


@dataclass(frozen=True)
class DemoRun:
    """What the demonstration did."""

    calls: int
    """Calls that it made through tracked clients."""
    seconds: float
    delivered: bool
    """Whether all of them reached the store in time."""
    refusals: tuple[str, ...]
    """What a budget said of those that it refused. They are on the books, and were never sent."""


def run_demo(ledger: Ledger) -> DemoRun:
    """
    Make about eighty calls to a provider on loopback and put them on *ledger*.

    Several users, models and business types take part; one model has no price,
    some calls fail, one stream is abandoned, and a budget is used up. Takes a few seconds.

    Args:
        ledger: With an SQL store, where the budget is kept.
    """
    began = time.monotonic()
    with Provider() as provider:
        company = _Company(provider, ledger)
        try:
            company.analyze_resumes()
            company.match_jobs()
            company.chat()
            asyncio.run(company.detect_interviews())
            company.analyze_sentiment()
            company.search()
            company.classify_in_house()
            company.translate_on_a_budget()
            company.have_a_bad_day()
        finally:
            company.close()
    delivered = ledger.flush(10)
    seconds = time.monotonic() - began
    return DemoRun(company.calls, seconds, delivered, tuple(company.refusals))


class _Company:
    """A recruiting service: its parts, each with the client and the model that it uses."""

    def __init__(self, provider: Provider, ledger: Ledger) -> None:
        from openai import AsyncOpenAI, OpenAI

        from ai_ledger import TrackedClient

        self.calls = 0
        self.refusals: list[str] = []
        self._provider = provider
        self._ledger = ledger
        # The same numbers on every run, so that the report can be compared.
        self._random = random.Random(42)  # noqa: S311
        options: Any = {"base_url": provider.base_url, "api_key": "sk-demo"}
        # Behind loopback nobody can tell who answers, so each client names its provider.
        self.qwen = TrackedClient(OpenAI(**options), ledger=ledger, provider="dashscope")
        self.deepseek = TrackedClient(OpenAI(**options), ledger=ledger, provider="deepseek")
        self.openai = TrackedClient(OpenAI(**options), ledger=ledger, provider="openai")
        self.house = TrackedClient(OpenAI(**options), ledger=ledger, provider="in-house")
        self._async_client = lambda: TrackedClient(
            AsyncOpenAI(**options), ledger=ledger, provider="openai"
        )

    def close(self) -> None:
        for client in (self.qwen, self.deepseek, self.openai, self.house):
            client.close()

    def _user(self, number: int) -> str:
        return USERS[number % len(USERS)]

    def _expect(
        self, model: str, input_tokens: tuple[int, int], output_tokens: tuple[int, int], **more: Any
    ) -> None:
        """Let the next answer of *model* have sizes and a duration like a real one's."""
        self.calls += 1
        fields: dict[str, Any] = {
            "input_tokens": self._random.randint(*input_tokens),
            "output_tokens": self._random.randint(*output_tokens),
            "delay": self._random.uniform(0.004, 0.03),
        }
        self._provider.next(for_model=model, **{**fields, **more})

    def analyze_resumes(self) -> None:
        """One call for each resume, the plainest way."""
        for number in range(14):
            self._expect("qwen-plus", (900, 2600), (300, 700), dialect="dashscope")
            with call_context(
                user_id=self._user(number),
                org_id="acme",
                function="analyze_resume",
                business_type="resume_analysis",
                reference_id=f"resume-{number + 1}",
            ):
                self.qwen.chat.completions.create(
                    model="qwen-plus", messages=_said("Summarise this resume: …")
                )

    def match_jobs(self) -> None:
        """Three at a time, in threads that keep the context."""

        def match(number: int) -> None:
            with call_context(reference_id=f"job-{number + 1}"):
                self.qwen.chat.completions.create(
                    model="qwen-max", messages=_said("Does it fit? …")
                )

        for _ in range(12):
            self._expect("qwen-max", (1800, 4200), (150, 400), dialect="dashscope")
        context = call_context(
            user_id="u-garcia", org_id="acme", function="match_job", business_type="job_matching"
        )
        with context, ContextThreadPoolExecutor(3) as pool:
            list(pool.map(match, range(12)))

    def chat(self) -> None:
        """Streams, in conversations; the last one is given up by its reader."""
        for number in range(16):
            self._expect(
                "deepseek-chat", (400, 1500), (60, 260),
                dialect="deepseek", cached_tokens=256, pace=0.001,
            )  # fmt: skip
            with call_context(
                user_id=self._user(number),
                org_id="acme",
                session_id=f"s-{number // 4 + 1}",
                function="generate_chat",
                business_type="chat",
            ):
                stream = self.deepseek.chat.completions.create(
                    model="deepseek-chat", messages=_said("And then? …"), stream=True
                )
                with stream:
                    for read, _ in enumerate(stream):
                        if number == 15 and read == 3:
                            break

    async def detect_interviews(self) -> None:
        """Coroutines, side by side, each with a user of its own."""

        async def detect(client: Any, number: int) -> None:
            with call_context(
                user_id=self._user(number),
                org_id="globex",
                function="detect_interview",
                business_type="interview",
            ):
                model = "gpt-4o" if number % 3 == 0 else "gpt-4o-mini"
                stream = await client.chat.completions.create(
                    model=model, messages=_said("Is this an invitation? …"), stream=True
                )
                async for _ in stream:
                    pass

        for number in range(12):
            self._expect("gpt-4o" if number % 3 == 0 else "gpt-4o-mini", (300, 900), (20, 80))
        async with self._async_client() as client:
            await asyncio.gather(*(detect(client, number) for number in range(12)))

    def analyze_sentiment(self) -> None:
        """A decorated function: the calls inside carry its name and its caller's user."""
        from ai_ledger import track_ai_usage

        @track_ai_usage(
            "analyze_sentiment", ledger=self._ledger, business_type="sentiment", user_id="user"
        )
        def sentiment_of(text: str, user: str) -> str:
            answer = self.openai.responses.create(model="gpt-4o-mini", input=f"Mood? {text}")
            return answer.output_text

        for number in range(10):
            self._expect("gpt-4o-mini", (80, 200), (5, 20))
            sentiment_of("What a day …", user=self._user(number * 2))

    def search(self) -> None:
        """Embeddings: tokens in, none out."""
        with call_context(user_id="u-smith", org_id="globex", function="search"):
            for number in range(4):
                self._expect("text-embedding-3-small", (2000, 6000), (0, 0))
                self.openai.embeddings.create(
                    model="text-embedding-3-small", input=[f"document {number}"]
                )

    def classify_in_house(self) -> None:
        """A model of our own that has no price, and no user in two calls of three."""
        for number in range(6):
            self._expect("house-7b", (200, 600), (10, 40))
            with call_context(user_id="u-okafor" if number % 3 == 0 else None, function="classify"):
                self.house.chat.completions.create(model="house-7b", messages=_said("Sort this …"))

    def translate_on_a_budget(self) -> None:
        """Five letters, and money for three: what would not fit is never sent."""
        from datetime import timedelta

        from ai_ledger import TrackedClient
        from ai_ledger.errors import BudgetExceeded
        from ai_ledger.policies import Budget
        from ai_ledger.records import utc_now

        now = utc_now()
        # From now on, so that each run of the demonstration has the whole of it.
        budget = Budget(
            "0.006 CNY",
            per=(now, now + timedelta(days=1)),
            where={"function": "translate_letter"},
            name="translations",
            warn_at=(),
        )
        client = TrackedClient(self.deepseek, policies=[budget])
        letter = _said("Translate this letter: " + "Dear Sir or Madam, … " * 100)
        for number in range(5):
            self.calls += 1
            self._provider.next(
                for_model="deepseek-chat", input_tokens=700 + 20 * number, output_tokens=600,
                delay=0.01,
            )  # fmt: skip
            with call_context(
                user_id="u-garcia",
                org_id="acme",
                function="translate_letter",
                business_type="translation",
            ):
                try:
                    client.chat.completions.create(
                        model="deepseek-chat", messages=letter, max_tokens=800
                    )
                except BudgetExceeded as refusal:
                    self.refusals.append(str(refusal))

    def have_a_bad_day(self) -> None:
        """Everything that goes wrong sooner or later; the program goes on."""
        once = self.openai.with_options(max_retries=0)
        hasty = self.openai.with_options(max_retries=0, timeout=_TIMED_OUT_AFTER)
        self.calls += 6
        next_ = self._provider.next
        with call_context(user_id="u-ivanova", org_id="globex", function="draft_letter"):
            # The SDK tries again twice by itself and succeeds: one call, two retries.
            next_(status=429, times=2, for_model="gpt-4o")
            self._write(self.openai)
            for status in (429, 500, 401):
                next_(status=status, for_model="gpt-4o")
                self._write(once)
            next_(for_model="gpt-4o", delay=5.0)
            self._write(hasty)
            next_(for_model="gpt-4o", drop_after=4)
            self._write(once, stream=True)

    def _write(self, client: Any, *, stream: bool = False) -> None:
        with _failing():
            answer = client.chat.completions.create(
                model="gpt-4o", messages=_said("Dear …"), stream=stream
            )
            for _ in answer if stream else ():
                pass


@contextmanager
def _failing() -> Generator[None]:
    """What a program does about a failed call: here, nothing."""
    from openai import OpenAIError

    try:
        yield
    except OpenAIError:
        return
    except Exception as error:
        # In mid-stream, older SDKs let the errors of their HTTP library through.
        if not type(error).__module__.startswith(("httpx", "httpcore")):
            raise


def _said(text: str) -> Any:
    return [{"role": "user", "content": text}]
