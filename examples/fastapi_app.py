"""
A FastAPI app that says once for each request who is calling.

``python examples/fastapi_app.py`` sends it a few requests and prints the report;
``uvicorn --app-dir examples fastapi_app:app`` serves it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from _provider import use_provider
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

from ai_ledger import TrackedClient, call_context, default_ledger


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """One client for the app's life; what is still to be delivered goes at the end."""
    use_provider()
    async with TrackedClient(AsyncOpenAI(), app="support-desk") as client:
        app.state.client = client
        yield
    await default_ledger().aflush(timeout=5)


# An async dependency runs in the request's own task, so that what it sets holds
# in the endpoint, also in one that is not async. One with a plain `def` would
# run in a thread, and its context would end there.
async def on_the_books(
    request: Request,
    x_customer: Annotated[str | None, Header()] = None,
    x_user: Annotated[str | None, Header()] = None,
) -> AsyncGenerator[None]:
    """Who is calling: the customer pays, the user asked. In real life, from the login."""
    with call_context(org_id=x_customer, user_id=x_user, route=request.url.path):
        yield


app = FastAPI(lifespan=lifespan, dependencies=[Depends(on_the_books)])


@app.get("/answer")
async def answer(request: Request, question: str) -> dict[str, str | None]:
    """The whole answer at once."""
    completion = await request.app.state.client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": question}]
    )
    return {"answer": completion.choices[0].message.content}


@app.get("/stream")
async def stream(request: Request, question: str) -> StreamingResponse:
    """The answer as it comes; it keeps the context that it was begun in."""
    chunks = await request.app.state.client.chat.completions.create(
        model="deepseek-chat", messages=[{"role": "user", "content": question}], stream=True
    )
    return StreamingResponse(_texts(chunks), media_type="text/plain")


async def _texts(chunks: Any) -> AsyncIterator[str]:
    async with chunks:  # a reader who goes away ends the call, and its cost
        async for chunk in chunks:
            yield chunk.choices[0].delta.content or ""


def main() -> None:
    """Three customers ask; the report says who pays for what."""
    from fastapi.testclient import TestClient

    with TestClient(app) as browser:
        for customer, user in (("acme", "u-1"), ("acme", "u-2"), ("globex", "u-3")):
            headers = {"x-customer": customer, "x-user": user}
            browser.get("/answer", params={"question": "Where is it?"}, headers=headers)
            browser.get("/stream", params={"question": "And why?"}, headers=headers)
        browser.get("/answer", params={"question": "Who am I?"})
    print(default_ledger().stats.summary(by=("org_id", "user_id", "tags.route")))


if __name__ == "__main__":
    main()
