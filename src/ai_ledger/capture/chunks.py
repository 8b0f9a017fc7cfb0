"""Chunks: what the pieces of a streamed answer add up to. Texts are kept, chunks never."""

from __future__ import annotations

from typing import Any, Final, Protocol

from ai_ledger.answers import Answer, joined, labelled, read_answer
from ai_ledger.usage import NOTHING, Reported, as_mapping, read_usage

MAX_CHARS: Final = 4 * 1024 * 1024
"""Text beyond this is let go by; the counts of a stream that long come from its provider."""


class Assembly(Protocol):
    """Takes the chunks of one stream, in order, and says what they added up to."""

    complete: bool
    """Whether the model had finished, whatever happens to the stream after that."""
    failure: str | None
    """What the provider said went wrong, inside a stream that ends in good order."""

    def see(self, chunk: Any) -> bool:
        """
        Take in *chunk*; whether it carried content.

        Args:
            chunk: An SDK's model or a `View` of the same JSON.
        """
        ...

    def answer(self) -> Answer:
        """The answer as far as it was seen."""
        ...


def fields_of(chunk: Any) -> dict[str, Any]:
    """The fields of a chunk: an SDK's model, or the JSON object that it is made from."""
    return chunk if type(chunk) is dict else chunk.__dict__  # pyright: ignore[reportUnknownVariableType]


def extra_of(chunk: Any) -> dict[str, Any] | None:
    """The fields that the SDK does not know."""
    return chunk if type(chunk) is dict else chunk.__pydantic_extra__  # pyright: ignore[reportUnknownVariableType]


class ChatAssembly:
    """Chunks of chat completions and of the older text completions."""

    def __init__(self) -> None:
        self.complete = False
        self.failure: str | None = None
        self._texts: dict[int, list[str]] = {}
        self._tools: dict[tuple[int, int], dict[str, str]] = {}
        # How tools were called before there were tools; some servers still do.
        self._function: dict[str, str] | None = None
        self._reasoning: list[str] = []
        self._chars = 0
        self._answer: Answer | None = None
        self._finish_reason: str | None = None
        self._service_tier: str | None = None
        self._reported: Reported = NOTHING

    def see(self, chunk: Any) -> bool:
        """Take in one chunk; whether it carried content."""
        # The caller waits here for each of thousands of chunks: plain dictionaries
        # only, and nothing is looked at that is not there.
        fields = fields_of(chunk)
        if self._answer is None and fields.get("id"):
            # Azure says what it filtered first, in a chunk without id and model.
            self._answer = Answer(
                expects_usage=True,
                response_id=fields.get("id"),
                response_model=fields.get("model"),
            )
        content = False
        for choice in fields.get("choices") or ():
            view = fields_of(choice)
            delta = view.get("delta")
            if delta is None:
                # Text completions have the text on the choice itself.
                text = view.get("text")
            else:
                parts = fields_of(delta)
                text = parts.get("content")
                extra = extra_of(delta)
                more = parts.get("tool_calls") or parts.get("refusal") or parts.get("function_call")
                if more or extra:
                    content = self._see_more(view.get("index") or 0, parts, extra)
            if text:
                content = True
                self._keep(view.get("index") or 0, text)
            if view.get("finish_reason"):
                self._finish_reason = view["finish_reason"]
                self.complete = True
        if fields.get("usage") is not None:
            self._reported = read_usage(fields["usage"])
        if fields.get("service_tier"):
            self._service_tier = fields["service_tier"]
        extra = extra_of(chunk)
        if extra and extra.get("x_groq"):
            # Groq reports beside the standard place: https://console.groq.com/docs/api-reference
            groq = as_mapping(extra["x_groq"])
            if groq.get("usage"):
                self._reported = read_usage(groq["usage"])
        return content

    def _keep(self, index: int, text: str) -> None:
        if self._chars < MAX_CHARS:
            self._chars += len(text)
            texts = self._texts.get(index)
            if texts is None:
                texts = self._texts[index] = []
            texts.append(text)

    def _see_more(self, index: int, delta: dict[str, Any], extra: dict[str, Any] | None) -> bool:
        """Tool calls, refusals and reasoning: what else a delta may hold."""
        content = False
        for call in delta.get("tool_calls") or ():
            content = True
            view = fields_of(call)
            self._keep_tool((index, view.get("index") or 0), view.get("function"))
        if delta.get("function_call"):
            content = True
            self._function = self._function or {"name": "", "arguments": ""}
            self._keep_function(self._function, delta["function_call"])
        if delta.get("refusal"):
            content = True
            self._keep(index, delta["refusal"])
        if extra:
            # DeepSeek, DashScope and others stream their reasoning under these names.
            reasoning = extra.get("reasoning_content") or extra.get("reasoning")
            if isinstance(reasoning, str) and self._chars < MAX_CHARS:
                content = True
                self._chars += len(reasoning)
                self._reasoning.append(reasoning)
        return content

    def _keep_tool(self, key: tuple[int, int], function: Any) -> None:
        self._keep_function(self._tools.setdefault(key, {"name": "", "arguments": ""}), function)

    def _keep_function(self, kept: dict[str, str], function: Any) -> None:
        if function is not None and self._chars < MAX_CHARS:
            view = fields_of(function)
            kept["name"] += view.get("name") or ""
            kept["arguments"] += view.get("arguments") or ""
            self._chars += len(view.get("arguments") or "")

    def answer(self) -> Answer:
        """The answer as far as it was seen."""
        answer = self._answer or Answer(expects_usage=True)
        answer.finish_reason = self._finish_reason
        answer.service_tier = self._service_tier
        texts: list[Any] = ["".join(self._texts[index]) for index in sorted(self._texts)]
        if self._tools or self._reasoning or self._function:
            more: dict[str, Any] = {"content": texts[0] if len(texts) == 1 else texts or None}
            if self._reasoning:
                more["reasoning_content"] = "".join(self._reasoning)
            if self._function:
                more["function_call"] = self._function
            if self._tools:
                more["tool_calls"] = [{"function": self._tools[key]} for key in sorted(self._tools)]
            texts = [more]
        answer.content = joined(texts)
        answer.reported = self._reported
        return labelled(answer)


class EventAssembly:
    """Events of the responses API, and of Anthropic's messages: each says its type."""

    def __init__(self) -> None:
        self.complete = False
        self.failure: str | None = None
        self._texts: list[str] = []
        self._chars = 0
        self._answer = Answer(expects_usage=True)
        self._usage: dict[str, Any] = {}
        self._final: Answer | None = None

    def see(self, chunk: Any) -> bool:
        """Take in one event; whether it carried content."""
        event = fields_of(chunk)
        kind = event.get("type")
        if not isinstance(kind, str):
            return False
        if kind.endswith(".delta") or kind == "content_block_delta":
            return self._see_delta(event.get("delta"))
        if kind in _FINAL:
            self._final = read_answer(event.get("response"))
            self._final.expects_usage = True
            self.complete = True
            if kind == "response.failed":
                error = as_mapping(as_mapping(event.get("response")).get("error"))
                self.failure = str(error.get("message") or error.get("code") or kind)
        elif kind == "error":
            self.failure = str(event.get("message"))
        elif kind in ("response.created", "message_start"):
            started = as_mapping(event.get("response" if kind == "response.created" else "message"))
            self._answer.response_id = started.get("id")
            self._answer.response_model = started.get("model")
            self._usage.update(_given(started.get("usage")))
        elif kind == "message_delta":
            self._usage.update(_given(event.get("usage")))
            self._answer.finish_reason = as_mapping(event.get("delta")).get("stop_reason")
            self.complete = True
        return False

    def _see_delta(self, delta: Any) -> bool:
        text = delta
        if not isinstance(delta, str):
            fields = as_mapping(delta)
            text = fields.get("text") or fields.get("partial_json") or fields.get("thinking")
        if not isinstance(text, str) or not text:
            return False
        if self._chars < MAX_CHARS:
            self._chars += len(text)
            self._texts.append(text)
        return True

    def answer(self) -> Answer:
        """The answer as far as it was seen; as the provider summed it up, if it did."""
        if self._final is not None:
            return self._final
        self._answer.content = "".join(self._texts) or None
        if self.complete:
            self._answer.reported = read_usage(self._usage)
        elif self._usage:
            # Anthropic says the input at the start; the output so far is a placeholder.
            self._answer.reported = read_usage({**self._usage, "output_tokens": None})
        return labelled(self._answer)


_FINAL: Final = ("response.completed", "response.incomplete", "response.failed")


def _given(usage: object) -> dict[str, Any]:
    return {name: value for name, value in as_mapping(usage).items() if value is not None}


class OtherAssembly:
    """Streams of endpoints whose chunks are events with a usage, if anything: audio, images."""

    def __init__(self) -> None:
        self.complete = False
        self.failure: str | None = None
        self._texts: list[str] = []
        self._reported: Reported = NOTHING

    def see(self, chunk: Any) -> bool:
        """Take in one event; whether it carried content."""
        fields = as_mapping(chunk)
        if fields.get("usage"):
            self._reported = read_usage(fields["usage"])
        kind = fields.get("type")
        if isinstance(kind, str) and kind.endswith((".done", ".completed")):
            self.complete = True
        delta = fields.get("delta")
        if isinstance(delta, str) and delta and isinstance(kind, str) and "text" in kind:
            self._texts.append(delta)
        return bool(fields)

    def answer(self) -> Answer:
        """The answer as far as it was seen."""
        return Answer(content="".join(self._texts) or None, reported=self._reported)


def assembly_for(operation: str, path: str) -> Assembly:
    """What takes in the chunks of a stream of this endpoint."""
    if path in ("/chat/completions", "/completions"):
        return ChatAssembly()
    if path == "/messages" or operation == "responses":
        return EventAssembly()
    return OtherAssembly()
