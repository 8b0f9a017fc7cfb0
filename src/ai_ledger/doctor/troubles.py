"""The forms of call that go wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ai_ledger.doctor.form import GUESSED, MESSAGES, MODEL, Expected, Form, Kit
from ai_ledger.testing import MISSING

_SPENT: Final = Expected(tokens="some", sources=GUESSED)


def _chat(*, stream: bool = False, **fields: Any) -> Callable[[Kit], Awaitable[object]]:
    """A chat, without retries, with a provider that behaves as *fields* say."""

    async def run(kit: Kit) -> object:
        kit.provider.next(**fields)
        answer = await kit.chat(kit.once, stream=stream)
        if not stream:
            return answer.choices[0].message.content
        return [chunk.choices[0].delta.content async for chunk in kit.each(answer)]

    return run


async def _retried(kit: Kit) -> object:
    kit.provider.next(status=429, times=2)
    return (await kit.chat()).choices[0].message.content


async def _exhausted(kit: Kit) -> object:
    kit.provider.next(status=500, times=3)
    return await kit.chat()


async def _timed_out(kit: Kit) -> object:
    kit.provider.next(delay=20)
    return await kit.chat(kit.once.with_options(timeout=0.1))


async def _stalled(kit: Kit) -> object:
    kit.provider.next(stall_after=3, stall=20)
    stream = await kit.chat(kit.once.with_options(timeout=0.2), stream=True)
    return [chunk async for chunk in kit.each(stream)]


async def _raw_error(kit: Kit) -> object:
    kit.provider.next(status=404)
    completions = kit.once.chat.completions.with_raw_response
    return await kit.settled(completions.create(model="none", messages=list(MESSAGES)))


async def _responses_failed(kit: Kit) -> object:
    kit.provider.next(error_after=4)
    stream = await kit.settled(
        kit.once.responses.create(model=MODEL, input="Say hello.", stream=True)
    )
    return [event.type async for event in kit.each(stream)]


def _status(status: int) -> Form:
    expected = Expected(status="failed", tokens="any", http_status=status)
    return Form(name=f"error {status}", run=_chat(status=status), expected=expected)


TROUBLES: Final = (
    *map(_status, (400, 401, 404, 409, 422, 429, 500, 503)),
    Form(
        name="error 404, raw",
        run=_raw_error,
        expected=Expected(status="failed", tokens="any", http_status=404, model="none"),
    ),
    Form(name="retried twice", run=_retried, expected=Expected(retries=2)),
    Form(
        name="retried in vain",
        run=_exhausted,
        expected=Expected(status="failed", tokens="any", retries=2, http_status=500),
    ),
    Form(name="time-out", run=_timed_out, expected=Expected(status="timeout", tokens="any")),
    Form(
        name="connection refused to answer",
        run=_chat(hang_up=True),
        expected=Expected(status="failed", tokens="any"),
    ),
    Form(
        name="connection lost in the answer",
        run=_chat(drop_after=0),
        expected=Expected(status="failed", tokens="any"),
    ),
    Form(
        name="answer that is no JSON",
        run=_chat(body=b'{"id": "chatcmpl'),
        expected=Expected(status="failed", tokens="any"),
    ),
    Form(
        name="stream: connection lost",
        run=_chat(stream=True, drop_after=4),
        expected=Expected(streamed=True, status="failed", tokens="some", sources=GUESSED),
    ),
    Form(
        name="stream: stalled",
        run=_stalled,
        expected=Expected(streamed=True, status="timeout", tokens="some", sources=GUESSED),
    ),
    Form(
        name="stream: error event",
        run=_chat(stream=True, error_after=4),
        expected=Expected(streamed=True, status="failed", tokens="some", sources=GUESSED),
    ),
    Form(
        name="stream: chunk that is no JSON",
        run=_chat(stream=True, garbage_after=4),
        expected=Expected(streamed=True, status="failed", tokens="some", sources=GUESSED),
    ),
    Form(
        name="responses stream: error event",
        run=_responses_failed,
        needs="responses",
        expected=Expected(
            operation="responses", streamed=True, status="failed", tokens="some", sources=GUESSED
        ),
    ),
    Form(name="usage missing", run=_chat(usage=MISSING), expected=_SPENT),
    Form(name="usage null", run=_chat(usage=None), expected=_SPENT),
    Form(
        name="usage partial",
        run=_chat(usage={"prompt_tokens": 3}),
        expected=Expected(tokens="some", sources=("reported", *GUESSED)),
    ),
    Form(
        name="usage negative",
        run=_chat(usage={"prompt_tokens": -3, "completion_tokens": -8}),
        expected=_SPENT,
    ),
    Form(
        name="usage nonsense",
        run=_chat(usage={"prompt_tokens": "many", "completion_tokens": []}),
        expected=_SPENT,
    ),
    Form(
        name="usage zero",
        run=_chat(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        expected=Expected(tokens=(0, 0)),
    ),
)
"""All of them, in the order in which they are made."""
