"""The calls of one day of the imaginary company: who asks what, how much, and what fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ai_ledger.demo.company import USERS

if TYPE_CHECKING:
    import random

DAYS: Final = 30
"""How many days there are, the present one included."""
_BAD_DAY: Final = 9
"""So many days ago a provider was away."""
_HOURS: Final = (1, 2, 3, 6, 7, 7, 8, 8, 9, 9, 13)
"""UTC; most of the company works in China, some in Europe."""


@dataclass(frozen=True)
class _Work:
    """What one part of the company does."""

    function: str
    business_type: str
    org_id: str | None
    model: str
    provider: str
    a_day: int
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    seconds: tuple[float, float]
    prompt: str
    answer: str
    operation: str = "chat"
    streamed: bool = False


# ruff: noqa: RUF001  # Chinese prompts have Chinese punctuation
_WORKS: Final = (
    _Work("analyze_resume", "resume_analysis", "acme", "qwen-plus", "dashscope", 11,
          (1800, 5200), (400, 1100), (2.1, 6.5), "请总结这份简历，并列出三项优势。",
          "候选人有八年后端经验，熟悉分布式系统；英文流利；带过五人团队。"),
    _Work("match_job", "job_matching", "acme", "qwen-max", "dashscope", 8,
          (2500, 7000), (200, 650), (3.0, 9.0), "这份简历适合高级数据工程师岗位吗？",
          "适合。需要确认到岗时间，以及流式处理方面的经验。"),
    _Work("generate_chat", "chat", "acme", "deepseek-chat", "deepseek", 13,
          (500, 2600), (80, 420), (0.9, 4.0), "And what should I wear to the interview?",
          "Plain and tidy is enough. Ask for a glass of water if you need a moment.",
          streamed=True),
    _Work("detect_interview", "interview", "globex", "gpt-4o-mini", "openai", 9,
          (300, 1100), (10, 60), (0.4, 1.6), "Is this an invitation to an interview? …",
          '{"invitation": true, "date": "2026-03-02"}'),
    _Work("draft_letter", "letters", "globex", "gpt-4o", "openai", 4,
          (700, 2400), (300, 900), (2.5, 8.0), "Draft a friendly refusal for this candidate.",
          "Dear Ms Ito, thank you for the conversation last week. …"),
    _Work("search", "search", "globex", "text-embedding-3-small", "openai", 4,
          (2000, 9000), (0, 0), (0.15, 0.5), "", "", operation="embeddings"),
    _Work("classify", "support", None, "house-7b", "in-house", 3,
          (200, 700), (8, 40), (0.2, 0.9), "Which team is this mail for?", "billing"),
)  # fmt: skip

_ERRORS: Final = (
    ("failed", "RateLimitError", 429, "Too many requests: 60 a minute are allowed."),
    ("failed", "InternalServerError", 500, "The server had an error while answering."),
    ("failed", "APIConnectionError", None, "Connection error: the peer has hung up."),
    ("timeout", "APITimeoutError", None, "Request timed out."),
)


def calls_of_day(chance: random.Random, now: datetime, ago: int) -> Iterator[dict[str, Any]]:
    """
    What is recorded of the day that was *ago* days before *now*; nothing later than *now*.

    Weekends are quiet, business grows by a tenth a week, and on one day a provider is away.
    """
    day = (now - timedelta(days=ago)).replace(hour=0, minute=0, second=0, microsecond=0)
    busy = (0.35 if day.weekday() >= 5 else 1.0) * (1.1 ** ((DAYS - ago) / 7))
    for work in _WORKS:
        for number in range(round(work.a_day * busy * chance.uniform(0.8, 1.2))):
            hour = chance.choice(_HOURS)
            at = day + timedelta(hours=hour, seconds=chance.randrange(3600))
            fields = _call(chance, work, at, number)
            if ago == _BAD_DAY and work.provider == "deepseek" and hour >= 8:
                fields |= _broken(chance, away=True)
            elif chance.random() < 0.025:
                fields |= _broken(chance)
            if at < now - timedelta(minutes=20):
                yield fields


def trouble_now(chance: random.Random, now: datetime) -> Iterator[dict[str, Any]]:
    """The last minutes, in which a provider answers late or never: something to be told of."""
    work = next(each for each in _WORKS if each.provider == "deepseek")
    for number in range(24):
        fields = _call(chance, work, now - timedelta(seconds=30 * number + 20), number)
        yield fields | (_broken(chance, away=True) if number % 3 == 0 else {})


def _call(chance: random.Random, work: _Work, started_at: datetime, number: int) -> dict[str, Any]:
    seconds = chance.uniform(*work.seconds)
    tokens = chance.randint(*work.input_tokens)
    user = USERS[(number + chance.randrange(2)) % len(USERS)]
    return {
        "model": work.model,
        "provider": work.provider,
        "operation": work.operation,
        "function": work.function,
        "business_type": work.business_type,
        "org_id": work.org_id,
        "user_id": user if work.org_id else None,
        "device_id": f"d-{chance.randrange(6) + 1}",
        "session_id": f"s-{started_at:%m%d}-{number // 4}" if work.streamed else None,
        "reference_id": f"{work.business_type}-{started_at:%m%d}-{number + 1}",
        "started_at": started_at,
        "status": "success",
        "duration_ms": seconds * 1000,
        "time_to_first_token_ms": seconds * 180 if work.streamed else None,
        "streamed": work.streamed,
        "finish_reason": "stop",
        "input_tokens": tokens,
        "cache_read_tokens": tokens // 4 if work.streamed else 0,
        "output_tokens": chance.randint(*work.output_tokens),
        "usage_source": "reported",
        "request_content": work.prompt or None,
        "response_content": work.answer or None,
        "tags": {"team": "sales" if work.org_id == "globex" else "talent"},
    }


def _broken(chance: random.Random, *, away: bool = False) -> dict[str, Any]:
    status, kind, http_status, message = _ERRORS[3 if away else chance.randrange(len(_ERRORS))]
    return {
        "status": status,
        "error_type": kind,
        "error_message": message,
        "http_status": http_status,
        "duration_ms": 60_000.0 if status == "timeout" else chance.uniform(80, 900),
        "time_to_first_token_ms": None,
        "finish_reason": None,
        "input_tokens": None,
        "cache_read_tokens": None,
        "output_tokens": None,
        "usage_source": "unknown",
        "response_content": None,
    }
