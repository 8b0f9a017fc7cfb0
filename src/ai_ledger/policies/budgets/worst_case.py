"""The most that a request can take, told from its body before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, isfinite, isnan
from typing import Any, Final, NamedTuple, cast

from ai_ledger.tokens import count_tokens, encoding_for

OUTPUT_TOKENS: Final = 4_096
"""Assumed for the answer when the request states no limit, unless the budget says otherwise."""
UNSEEN_TOKENS: Final = 16_384
"""Assumed for an image, a file, a stored conversation, unless the budget says otherwise."""

LARGEST: Final = 2**53
"""What larger counts are cut to: more than any limit that a call could be admitted to."""

# What servers put before and around a conversation; gpt-oss has the longest, of about
# 75 tokens.
_FRAME: Final = 128
# Around one object of any kind, and around a message with a role and a text.
_OBJECT: Final = 8
_MESSAGE: Final = 24
# Anthropic's instructions for tools, the longest that are published: 346 to 530 tokens
# (https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview).
_TOOLS: Final = 600

# How deep options are looked for in options.
_DEPTH: Final = 4
_WITHOUT_OUTPUT: Final = frozenset({"embeddings", "moderation", "rerank"})
# What the keys of a request's body mean for its size, besides what is in them.
_MEANINGS: Final = {
    "max_tokens": "limit",
    "max_completion_tokens": "limit",
    "max_output_tokens": "limit",
    "max_new_tokens": "limit",
    "max_tokens_to_sample": "limit",
    "num_predict": "limit",
    "n": "answers",
    "best_of": "answers",
    "prompt": "prompt",
    "tools": "tools",
    "functions": "tools",
    # Input that stays at the provider, or that it fetches itself.
    "previous_response_id": "stored",
    "conversation": "stored",
    "web_search_options": "stored",
    "plugins": "stored",
    # Qwen thinks outside of max_tokens.
    "thinking_budget": "thinking",
    "thinkingBudget": "thinking",
    "maxOutputTokens": "limit",
    "maxTokens": "limit",
    "maxNewTokens": "limit",
    # Anthropic's is within max_tokens, which it has to be below.
    "budget_tokens": "thought",
    # Where servers with other names for them than OpenAI have their options.
    "options": "nested",
    "parameters": "nested",
    "generationConfig": "nested",
    "generation_config": "nested",
    "inferenceConfig": "nested",
    "chat_template_kwargs": "nested",
    "thinking": "nested",
    "reasoning": "nested",
    "thinking_config": "nested",
    "thinkingConfig": "nested",
    "extra_body": "nested",
    "google": "nested",
    # What was foretold wrongly is charged as output.
    "prediction": "foretold",
}
_IMAGES: Final = frozenset({"image", "image_url", "input_image"})
_ATTACHED: Final = _IMAGES | {
    "input_audio",
    "audio",
    "audio_url",
    "file",
    "input_file",
    "document",
    "video",
    "video_url",
}
_OWN_TOOLS: Final = (None, "function", "custom")
# Sounds have at most 32 tokens a second, and at least four kilobytes; files have less.
_BYTES_PER_TOKEN: Final = 100


class Size(NamedTuple):
    """How large a request is, and its answer can become."""

    input_tokens: int
    """At most; without what cannot be seen."""
    unseen: int
    """How many parts of the input the body does not show, such as images."""
    output_tokens: int | None
    """At most, of one answer; ``None`` when the request states no limit."""
    answers: int
    """How many answers are asked for; 0 when none is counted in tokens."""
    extra_output: int
    """Output besides, whatever its limit: what is thought before, and foretold in vain."""

    def worst(self, output_tokens: int, unseen_tokens: int) -> tuple[int, int]:
        """
        The most input and output tokens that the call can take.

        Args:
            output_tokens: Assumed for an answer without a limit.
            unseen_tokens: Assumed for each part that cannot be seen.
        """
        answer = self.output_tokens
        if answer is None:
            answer = output_tokens
        return (
            min(LARGEST, self.input_tokens + self.unseen * unseen_tokens),
            min(LARGEST, (answer + self.extra_output) * self.answers),
        )


UNKNOWN: Final = Size(0, 1, None, 1, 0)
"""Of a call whose request nobody shows: both sides have to be assumed."""


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def size_of(
    request: Mapping[str, Any] | None,
    operation: str,
    weigh: Callable[[str], int] | None = None,
) -> Size:
    """
    How large *request* is at the most.

    A text is taken for as many tokens as it has bytes in UTF-8: the tokenizers of
    all providers work on bytes, so that no text of whatever kind has more. Output
    limits that are no positive number are none.

    Args:
        request: The body to be sent; ``None`` when unknown.
        operation: What kind of call it is, as its record says.
        weigh: How many tokens a text has at the most; as many as bytes, if left out.
    """
    if request is None:
        return UNKNOWN
    stated = _Stated()
    tokens = _FRAME
    waiting: list[Any] = []
    # Called before each call: the usual request takes one step for each message.
    for key, value in request.items():
        if type(value) is str and weigh is None and value.isascii():
            tokens += len(value)
        elif key == "messages" and type(cast("object", value)) is list and weigh is None:
            tokens += _messages(cast("list[Any]", value), waiting)
        elif value is not None:
            waiting.append(value)
        meaning = _MEANINGS.get(key)
        if meaning is not None and value is not None:
            stated.note(meaning, value, operation)
    unseen = stated.unseen
    if waiting:
        more, hidden = _contents(waiting, weigh or _bytes_of)
        tokens += more
        unseen += hidden
    tokens += stated.input_tokens
    if operation in _WITHOUT_OUTPUT:
        return Size(tokens, unseen, 0, 0, 0)
    stated.close()
    answers = min(stated.answers * stated.prompts, LARGEST)
    return Size(tokens, unseen, stated.limit, answers, stated.extra)


class _Stated:
    """What the options of a request say of its size."""

    __slots__ = (
        "answers",
        "extra",
        "foretold",
        "input_tokens",
        "limit",
        "prompts",
        "thought",
        "unseen",
    )

    def __init__(self) -> None:
        self.input_tokens = 0
        self.unseen = 0
        self.limit: int | None = None
        self.answers = 1
        self.prompts = 1
        self.extra = 0
        self.thought = 0
        self.foretold = 0

    def nested(self, options: object, depth: int = 0) -> None:
        """Note the limits that are further inside: the largest counts, whichever is read."""
        if not isinstance(options, Mapping) or depth == _DEPTH:
            return
        for key, value in cast("Mapping[object, Any]", options).items():
            meaning = _MEANINGS.get(key) if isinstance(key, str) else None
            if meaning == "nested":
                self.nested(value, depth + 1)
            elif meaning in ("limit", "thinking", "thought"):
                self.note(meaning, value, "")

    def close(self) -> None:
        """All is noted."""
        self.extra += self.foretold
        if self.limit is None:
            self.extra += self.thought
        else:
            self.limit = max(self.limit, self.thought)

    def note(self, meaning: str, value: Any, operation: str) -> None:
        if meaning == "limit":
            tokens = whole(value)
            if tokens is not None and (self.limit is None or tokens > self.limit):
                self.limit = tokens
        elif meaning == "answers":
            self.answers = max(self.answers, whole(value) or 1)
        elif meaning == "stored":
            self.unseen += 1 if value else 0
        elif meaning == "prompt":
            self.unseen += isinstance(value, Mapping)  # one stored at the provider
            self.prompts = _prompts(value) if operation == "text_completion" else 1
        elif meaning == "tools":
            self.input_tokens += _TOOLS
            self.unseen += _tools_elsewhere(value)
        elif meaning == "thinking":
            self.extra = max(self.extra, whole(value) or 0)
        elif meaning == "thought":
            self.thought = max(self.thought, whole(value) or 0)
        elif meaning == "nested":
            self.nested(value)
        else:
            self.foretold += sum(_contents([value], _bytes_of))


def _messages(messages: list[Any], waiting: list[Any]) -> int:
    """The tokens of plain messages; what is anything else goes to *waiting*."""
    tokens = 0
    for message in messages:
        if type(message) is dict and len(fields := cast("dict[str, Any]", message)) == 2:
            role, content = fields.get("role"), fields.get("content")
            if type(content) is str and type(role) is str:
                tokens += _MESSAGE + len(role)
                tokens += len(content) if content.isascii() else _bytes_of(content)
                continue
        waiting.append(message)
    return tokens


def counter(model: str | None) -> Callable[[str], int] | None:
    """
    What counts the tokens of a text exactly, if *model*'s tokenizer is on this machine.

    The first use loads it, which takes up to a second.
    """
    if encoding_for(model) is None or count_tokens("a", model)[1] != "counted":
        return None
    # Each text on its own: where two meet, there are never more tokens for it.
    return lambda text: min(_bytes_of(text), count_tokens(text, model)[0] + 1)


def whole(value: object) -> int | None:
    """*value* as a positive whole number, at most `LARGEST`; ``None`` for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        # Some servers take a number in quotes.
        try:
            value = float(value[:40])
        except ValueError:
            return None
    if isinstance(value, float):
        if isnan(value):
            return None
        value = ceil(value) if isfinite(value) else (LARGEST if value > 0 else 0)
    if not isinstance(value, int) or value <= 0:
        return None
    return min(value, LARGEST)


def _prompts(prompt: object) -> int:
    if not isinstance(prompt, (list, tuple)):
        return 1
    listed = cast("list[object]", prompt)
    return max(1, len(listed)) if not listed or type(listed[0]) is not int else 1


def _tools_elsewhere(tools: object) -> int:
    """How many of *tools* run at the provider, which puts what they find into the input."""
    if not isinstance(tools, (list, tuple)):
        return 0
    listed = cast("list[object]", tools)
    return sum(
        cast("Mapping[str, object]", tool).get("type") not in _OWN_TOOLS
        for tool in listed
        if isinstance(tool, Mapping)
    )


def _contents(waiting: list[Any], weigh: Callable[[str], int]) -> tuple[int, int]:
    """The tokens of all that is in *waiting*, and how many of its parts cannot be seen."""
    tokens, unseen = 0, 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            tokens += weigh(value)
        elif isinstance(value, Mapping):
            mapping = cast("Mapping[str, Any]", value)
            tokens += _OBJECT
            kind = mapping.get("type")
            # In a JSON schema it may be a list.
            if isinstance(kind, str) and kind in _ATTACHED:
                unseen += 1
                tokens += _attachment(mapping, waiting)
                continue
            for key, each in mapping.items():
                tokens += len(key) if type(key) is str else _OBJECT
                if type(each) is str:
                    tokens += weigh(each)
                elif each is not None:
                    waiting.append(each)
        elif isinstance(value, (list, tuple)):
            listed = cast("list[Any]", value)
            tokens += 1
            if listed and type(listed[0]) is int:
                # Tokens already, as embeddings and completions take them.
                tokens += len(listed)
                listed = [each for each in listed if type(each) is not int]
            waiting += listed
        elif isinstance(value, (int, float)):
            tokens += _digits(value)
        else:
            # A file to be sent, or something of the SDK's own.
            unseen += 1
            tokens += len(value) // _BYTES_PER_TOKEN if isinstance(value, (bytes, bytearray)) else 0
    return tokens, unseen


def _digits(number: float) -> int:
    return _OBJECT if -1e7 < number < 1e8 else max(_OBJECT, _bits(number) // 3 + 2)


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 72


def _attachment(part: Mapping[str, Any], shown: list[Any]) -> int:
    """
    At most how many tokens the encoded contents of an attachment are, besides the usual.

    What else is in it is added to *shown*.
    """
    hidden = 0
    waiting: list[Mapping[str, Any]] = [part]
    while waiting:
        mapping = waiting.pop()
        for key, value in mapping.items():
            if isinstance(value, Mapping):
                waiting.append(cast("Mapping[str, Any]", value))
            elif isinstance(value, str) and _is_encoded(mapping, key, value):
                hidden += len(value)
            elif isinstance(value, (str, list, tuple)):
                shown.append(value)
    # The size of a picture's file says nothing: it is cut into tiles, which are counted.
    return 0 if part.get("type") in _IMAGES else hidden // _BYTES_PER_TOKEN


def _is_encoded(mapping: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether *value* is a picture, a sound or a file in letters, and no text for the model."""
    if key in ("url", "image_url", "file_url", "file_data"):
        return True
    return key == "data" and (mapping.get("type") == "base64" or "format" in mapping)
