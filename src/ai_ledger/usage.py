"""Usage: token counts as the big providers report them, read into one shape."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple, cast

from ai_ledger.records import MAX_COST, MAX_COUNT, Usage


class Reported(NamedTuple):
    """What a provider said about one call's usage."""

    usage: Usage
    """With the source ``reported``, or ``unknown`` when nothing usable was said."""
    cost: Decimal | None = None
    """The cost that the provider stated itself, in USD."""
    problem: str | None = None
    """What was wrong with the counts, in words; those counts are left out."""


NOTHING = Reported(Usage())


def read_usage(reported: object) -> Reported:
    """
    The usage that a provider reported, in any of the big dialects.

    ============================  ================================================
    OpenAI chat, Azure, vLLM …    ``prompt_tokens``, ``completion_tokens`` and
                                  their ``…_details``
    OpenAI responses, DashScope   ``input_tokens``, ``output_tokens`` and details
    DeepSeek                      ``prompt_cache_hit_tokens`` beside the totals
    OpenRouter                    ``cost``, in USD credits
    Anthropic                     input *exclusive* of ``cache_read_input_tokens``
                                  and ``cache_creation_input_tokens``: added here
    OpenAI audio, images          ``input_tokens_details`` with text and audio parts
    Perplexity                    ``cost.total_cost``, in USD
    xAI                           output *exclusive* of reasoning: added here
    ============================  ================================================

    Never raises. Counts that cannot be (negative, not whole, beyond 2**63, a
    part larger than its total) are left out and named in `Reported.problem`.

    Args:
        reported: A mapping, or an SDK's model of one; anything else is nothing.
    """
    fields = as_mapping(reported)
    if not fields:
        return NOTHING
    usual = _usual(fields)
    if usual is not None:
        return usual
    read = _Reader(fields)
    total_input = read.count("prompt_tokens", "input_tokens")
    total_output = read.count("completion_tokens", "output_tokens")
    # Transcriptions say token where all others say tokens.
    inputs = read.details("prompt_tokens_details", "input_tokens_details", "input_token_details")
    outputs = read.details(
        "completion_tokens_details", "output_tokens_details", "output_token_details"
    )

    cache_read = inputs.count("cached_tokens")
    cache_write = inputs.count("cache_creation_tokens", "cache_write_tokens")
    if cache_read is None:
        cache_read = read.count("prompt_cache_hit_tokens", "cached_tokens")
    if "cache_read_input_tokens" in fields or "cache_creation_input_tokens" in fields:
        # Anthropic counts the cached tokens beside the input, not inside it:
        # https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
        cache_read = read.count("cache_read_input_tokens")
        cache_write = read.count("cache_creation_input_tokens")
        if total_input is not None and "prompt_tokens" not in fields:
            total_input += (cache_read or 0) + (cache_write or 0)
            total_input = read.checked("input_tokens", total_input)
    reasoning = outputs.count("reasoning_tokens")
    if reasoning is None:
        reasoning = read.count("reasoning_tokens")

    total = read.count("total_tokens")
    if (
        total is not None
        and total_input is not None
        and total_output is not None
        and reasoning
        and total == total_input + total_output + reasoning
    ):
        # xAI counts the reasoning beside the completion: https://docs.x.ai/docs/guides/reasoning
        total_output = read.checked("completion_tokens", total_output + reasoning)
    if total_input is None and total_output is None and not read.problems:
        # Embeddings and reranking on some servers report nothing but a total.
        total_input = total
    if cache_read is not None and cache_write is not None and total_input is not None:
        cache_write = read.part("cache_write_tokens", cache_write, total_input - cache_read)
    usage = Usage(
        input_tokens=total_input,
        cache_read_tokens=read.part("cache_read_tokens", cache_read, total_input),
        cache_write_tokens=read.part("cache_write_tokens", cache_write, total_input),
        output_tokens=total_output,
        reasoning_tokens=read.part("reasoning_tokens", reasoning, total_output),
        audio_input_tokens=read.part(
            "audio_input_tokens", inputs.count("audio_tokens"), total_input
        ),
        audio_output_tokens=read.part(
            "audio_output_tokens", outputs.count("audio_tokens"), total_output
        ),
        source="unknown" if total_input is None and total_output is None else "reported",
    )
    return Reported(usage, _stated_cost(fields), "; ".join(read.problems) or None)


def _usual(fields: Mapping[str, Any]) -> Reported | None:
    """
    The most frequent form, read without ado; ``None`` when there is anything more to it.

    Almost every chat looks like this, and its caller waits for this function.
    """
    if not _PLAIN.issuperset(fields):
        return None
    total_input: Any = fields.get("prompt_tokens")
    total_output: Any = fields.get("completion_tokens")
    stated: Any = fields.get("total_tokens")
    cache_read = cache_write = audio_input = reasoning = audio_output = None
    details = fields.get("prompt_tokens_details")
    if details is not None:
        get = as_mapping(details).get
        cache_read, audio_input = get("cached_tokens"), get("audio_tokens")
        cache_write = get("cache_creation_tokens") or get("cache_write_tokens")
    details = fields.get("completion_tokens_details")
    if details is not None:
        get = as_mapping(details).get
        reasoning, audio_output = get("reasoning_tokens"), get("audio_tokens")
    for count, total in (
        (total_input, MAX_COUNT),
        (total_output, MAX_COUNT),
        (cache_read or 0, total_input),
        (cache_write or 0, total_input),
        (audio_input or 0, total_input),
        (reasoning or 0, total_output),
        (audio_output or 0, total_output),
    ):
        if type(count) is not int or type(total) is not int or not 0 <= count <= total:
            return None
    if stated is not None and stated != total_input + total_output:
        return None
    if (cache_read or 0) + (cache_write or 0) > total_input:
        return None
    return Reported(
        Usage(
            input_tokens=total_input,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            output_tokens=total_output,
            reasoning_tokens=reasoning,
            audio_input_tokens=audio_input,
            audio_output_tokens=audio_output,
            source="reported",
        )
    )


_PLAIN = frozenset(
    (
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    )
)


def as_mapping(value: object) -> Mapping[str, Any]:
    """*value* as a mapping: itself, or the fields of an SDK's model, unknown ones included."""
    if _is_mapping(type(value)):
        return cast("Mapping[str, Any]", value)
    fields: dict[str, Any] | None = getattr(value, "__dict__", None)
    if fields is None:
        return {}
    extra: dict[str, Any] | None = getattr(value, "__pydantic_extra__", None)
    return {**fields, **extra} if extra else fields


@lru_cache(maxsize=512)
def _is_mapping(kind: type[Any]) -> bool:
    # By class and remembered, because asking an abstract class is slow.
    return issubclass(kind, Mapping)


class _Reader:
    def __init__(self, fields: Mapping[str, Any], problems: list[str] | None = None) -> None:
        self.fields = fields
        self.problems: list[str] = [] if problems is None else problems

    def count(self, *names: str) -> int | None:
        """The first of *names* that holds a count that can be."""
        for name in names:
            value = self.fields.get(name)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            checked = self.checked(name, value)
            if checked is not None:
                return checked
        return None

    def checked(self, name: str, value: Any) -> int | None:
        """*value* if it is a count that can be."""
        if type(value) is int and 0 <= value <= MAX_COUNT:
            return value
        self.problems.append(f"{name}={_shown(value)} is no token count")
        return None

    def details(self, *names: str) -> _Reader:
        for name in names:
            found = as_mapping(self.fields.get(name))
            if found:
                return _Reader(found, self.problems)
        return _Reader({}, self.problems)

    def part(self, name: str, count: int | None, total: int | None) -> int | None:
        if count is None or total is None:
            # A part of what is unknown could turn out larger than the estimate of it.
            return None
        if count > total:
            self.problems.append(f"{name}={count} is more than its total {total}")
            return None
        return count


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > MAX_COUNT:
        # Python refuses to write integers of more than 4,300 digits.
        return "a number beyond 2**53"
    return f"{value!r:.40}" if isinstance(value, (str, int, float)) else type(value).__name__


def _stated_cost(fields: Mapping[str, Any]) -> Decimal | None:
    stated = fields.get("cost")
    if isinstance(stated, Mapping):
        stated = cast("Mapping[str, Any]", stated).get("total_cost")
    if isinstance(stated, bool) or not isinstance(stated, (str, int, float, Decimal)):
        return None
    try:
        cost = Decimal(str(stated))
    except (InvalidOperation, ValueError):
        return None
    return cost if cost.is_finite() and 0 <= cost <= MAX_COST else None
