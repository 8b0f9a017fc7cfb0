"""Endpoints: which requests are AI calls, and who answers them."""

from __future__ import annotations

import functools
from typing import Final

# Path suffix → operation, in the words of the OpenTelemetry GenAI conventions where
# they have one. Files, batches, fine-tuning and the like are no calls to a model.
_OPERATIONS: Final = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/responses": "responses",
    "/responses/compact": "responses",
    "/messages": "chat",
    "/images/generations": "image",
    "/images/edits": "image",
    "/images/variations": "image",
    "/audio/speech": "audio",
    "/audio/transcriptions": "audio",
    "/audio/translations": "audio",
    "/moderations": "moderation",
    "/videos": "video",
    "/rerank": "rerank",
    "/reranks": "rerank",
}

TEXT_OPERATIONS: Final = frozenset({"chat", "text_completion", "responses"})
"""Operations whose answers always cost tokens, so that a missing usage is estimated."""

USAGE_ON_REQUEST: Final = frozenset({"/chat/completions", "/completions"})
"""Paths whose streams report usage only when ``stream_options.include_usage`` asks for it."""


@functools.lru_cache(maxsize=1_000)
def path_of(url: str) -> str:
    """The last part of *url* that tells the endpoint: ``/chat/completions``."""
    path = "/" + url.partition("?")[0].strip("/")
    parts = path.rsplit("/", 2)
    two = "/".join(["", *parts[-2:]])
    return two if two in _OPERATIONS else "/" + parts[-1]


@functools.lru_cache(maxsize=1_000)
def operation_of(method: str, url: str) -> str | None:
    """The operation of a request, ``None`` when it is no call to a model."""
    if method.upper() != "POST":
        return None
    if "threads/" in url:
        # Assistants keep messages of that name, which nobody answers.
        return None
    return _OPERATIONS.get(path_of(url))


# Host → provider: the host itself or any host below it.
_PROVIDERS: Final = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "models.ai.azure.com": "azure",
    "api.deepseek.com": "deepseek",
    "dashscope.aliyuncs.com": "dashscope",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "dashscope-us.aliyuncs.com": "dashscope",
    "api.anthropic.com": "anthropic",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.mistral.ai": "mistral",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
    "api.x.ai": "xai",
    "api.moonshot.cn": "moonshot",
    "api.moonshot.ai": "moonshot",
    "open.bigmodel.cn": "zhipu",
    "api.z.ai": "zhipu",
    "api.siliconflow.cn": "siliconflow",
    "ark.cn-beijing.volces.com": "volcengine",
    "volces.com": "volcengine",
    "qianfan.baidubce.com": "baidu",
    "api.hunyuan.cloud.tencent.com": "tencent",
    "api.minimax.chat": "minimax",
    "api.perplexity.ai": "perplexity",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.deepinfra.com": "deepinfra",
    "integrate.api.nvidia.com": "nvidia",
    "router.huggingface.co": "huggingface",
    "models.github.ai": "github",
}


def provider_of(host: str) -> str | None:
    """The provider behind *host*, ``None`` for hosts that are nobody's in particular."""
    host = host.lower().rstrip(".")
    while host:
        if host in _PROVIDERS:
            return _PROVIDERS[host]
        _, _, host = host.partition(".")
    return None
