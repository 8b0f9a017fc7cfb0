"""
A job-search assistant with its books in order: résumés, matches, chats, interviews, moods.

Each feature is one function that says what it is for and about which object.
The bookkeeping (timing, token counts, prices, errors, user ids) is nowhere in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _provider import use_provider
from openai import OpenAI, OpenAIError

from ai_ledger import (
    ContextThreadPoolExecutor,
    Ledger,
    TrackedClient,
    call_context,
    track_ai_usage,
)

AT_ONCE = 3


@dataclass(frozen=True)
class Resume:
    """What an applicant handed in."""

    id: str
    text: str


@dataclass(frozen=True)
class Job:
    """What a company looks for."""

    id: str
    text: str


class JobAssistant:
    """
    The features. Give a user where there is one; everything works without.

    Args:
        client: An OpenAI client, tracked or not.
        ledger: Where the calls go.
    """

    def __init__(self, client: OpenAI, ledger: Ledger) -> None:
        self._client = TrackedClient(client, ledger=ledger, app="job-assistant")

    @track_ai_usage("analyze_resume", business_type="resume_analysis", user_id="user_id")
    def analyze_resume(self, resume: Resume, user_id: int | None = None) -> str:
        """What the résumé says, in short."""
        with call_context(reference_id=resume.id):
            return self._ask("qwen-plus", "Sum up this résumé.", resume.text)

    @track_ai_usage("match_job", business_type="job_matching", user_id="user_id")
    def match_job(self, resume: Resume, job: Job, user_id: int | None = None) -> str:
        """How well the résumé fits the job."""
        with call_context(reference_id=job.id, resume_id=resume.id):
            return self._ask("qwen-max", "Does the résumé fit the job?", resume.text, job.text)

    def batch_match_jobs(
        self, resume: Resume, jobs: Sequence[Job], user_id: int | None = None
    ) -> Mapping[str, str | None]:
        """Match many jobs, three at a time; ``None`` for those that failed."""

        def match(job: Job) -> str | None:
            try:
                return self.match_job(resume, job, user_id)
            except OpenAIError:
                return None  # on the books already, with the reason

        with call_context(batch=resume.id), ContextThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip([job.id for job in jobs], pool.map(match, jobs), strict=True))

    @track_ai_usage("generate_chat", business_type="chat", user_id="user_id", session_id="session")
    def generate_chat(
        self, text: str, session: str | None = None, user_id: int | None = None
    ) -> Iterator[str]:
        """An answer, word by word."""
        stream = self._client.chat.completions.create(
            model="deepseek-chat", messages=[{"role": "user", "content": text}], stream=True
        )
        for chunk in stream:
            yield chunk.choices[0].delta.content or ""

    @track_ai_usage("detect_interview", business_type="interview_detection", user_id="user_id")
    def detect_interview(self, message_id: str, text: str, user_id: int | None = None) -> bool:
        """Whether a message invites to an interview."""
        with call_context(reference_id=message_id):
            said = self._ask("qwen-turbo", 'Answer {"interview": true} or false.', text)
        try:
            return bool(json.loads(said)["interview"])
        except (ValueError, KeyError, TypeError):
            return False

    @track_ai_usage("analyze_sentiment", business_type="sentiment", user_id="user_id")
    def analyze_sentiment(self, message_id: str, text: str, user_id: int | None = None) -> str:
        """The mood of a message."""
        with call_context(reference_id=message_id):
            return self._ask("qwen-turbo", "What mood is this written in?", text)

    def _ask(self, model: str, task: str, *texts: str) -> str:
        messages: list[Any] = [{"role": "system", "content": task}]
        messages += [{"role": "user", "content": text} for text in texts]
        completion = self._client.chat.completions.create(model=model, messages=messages)
        return completion.choices[0].message.content or ""


def main() -> None:
    """A day of the assistant, and its report."""
    provider = use_provider()
    resume = Resume("resume-17", "Ten years of Python, two of Rust; led a team of five. " * 20)
    jobs = [Job(f"job-{number}", f"Engineer wanted, grade {number}. " * 30) for number in range(7)]

    with Ledger() as ledger:
        assistant = JobAssistant(OpenAI(max_retries=0), ledger)
        if provider is not None:
            provider.next(path="/chat/completions", for_model="qwen-turbo", text='{"interview": 1}')
        invited = assistant.detect_interview("mail-3", "Could you come by on Monday?", user_id=42)
        if provider is not None:
            provider.next(for_model="qwen-max", status=500)  # one of the matches will fail

        assistant.analyze_resume(resume, user_id=42)
        matches = assistant.batch_match_jobs(resume, jobs, user_id=42)
        answer = "".join(assistant.generate_chat("How do I prepare?", session="s-1", user_id=42))
        mood = assistant.analyze_sentiment("mail-4", "We regret to inform you …")

        failed = [job for job, verdict in matches.items() if verdict is None]
        print(f"invited: {invited}; chat: {len(answer)} characters; mood: {mood[:20]!r}")
        print(f"{len(matches)} matches, {len(failed)} of them failed\n")

        ledger.flush()
        print(ledger.stats.summary(by=("function", "business_type")))
        for call in ledger.stats.calls(where={"status": "failed"}).calls:
            print(f"\nfailed: {call.function} of {call.reference_id}: {call.error_type}")


if __name__ == "__main__":
    main()
