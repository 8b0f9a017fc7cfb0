"""Secrets: keys and credentials, taken out of texts before anything is stored or logged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REDACTED: Final = "[redacted]"

# Credentials as providers issue them, and the places where others stand. Each
# alternative begins with letters of its own, so a scan stays linear.
_PATTERNS: Final = (
    # OpenAI, DeepSeek, DashScope, Anthropic, OpenRouter: sk-…, also masked with asterisks.
    re.compile(r"\b(?:sk|pk|rk|ak|ds|gsk|xai|hf|r8|nvapi)[-_][A-Za-z0-9_\-*]{6,}"),
    re.compile(r"\bAIza[0-9A-Za-z_\-*]{6,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,4096}+\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{16,}"),
    # Our own access tokens.
    re.compile(r"\bail_[A-Za-z0-9_\-]{16,}"),
)
# The quantifiers that take all or nothing (+) keep what is redacted already as it is.
_NAMED: Final = (
    # user:password@ in a URL, up to the last @, because people forget to encode theirs.
    re.compile(r"(://[^\s/:]{0,64}:)(?!\*{3}@[^\s@\"]*(?![^\s\"]))[^\s\"]{1,256}(?=@)"),
    # Of these the whole rest of the line: schemes have any name, cookies come in lists.
    re.compile(
        r"(?i)\b((?:proxy-)?authorization[\"']?+\s{0,4}+[:=]\s{0,4}+[\"']?+(?:bearer\s|basic\s)?+"
        r"|(?:set-)?cookie[\"']?+\s{0,4}+[:=]\s{0,4}+[\"']?+)(?!\[redacted)[^\r\n\"'}\]]{3,}"
    ),
    # The value behind a telling name: header, query string, JSON, keyword.
    re.compile(
        r"(?i)((?:authorization|proxy-authorization|x-api-key|api[-_ ]?key|apikey|access[-_]?token"
        r"|subscription-key|secret|password|passwd|set-cookie|cookie|token|[?&]key|[?&]sig)"
        r"[\"']?+\s{0,4}+(?:[:=]|\bis\b)\s{0,4}+[\"']?+(?:bearer\s{1,4}+|basic\s{1,4}+)?+)"
        r"(?!\[redacted)[^\s\"',;&}{)\]]{3,}"
    ),
    re.compile(r"(?i)\b((?:bearer|basic)\s{1,4})[A-Za-z0-9._~+/=\-*]{6,}"),
    # "Incorrect API key provided: abc*****xyz."
    re.compile(r"(?i)(key provided:\s{0,4}+)(?!\[redacted)[^\s\"',]{3,}"),
)


def scrub(text: str, known: Iterable[str] = ()) -> str:
    """
    *text* with everything that looks like a credential replaced.

    Args:
        text: An error message, a URL, a log line. Not meant for prompts, which
            `Ledger(redact=…)` is for.
        known: Credentials that are known to be in use; replaced wherever they stand.
    """
    text = scrub_known(text, known)
    for pattern in _NAMED:
        text = pattern.sub(rf"\1{REDACTED}", text)
    for pattern in _PATTERNS:
        text = pattern.sub(REDACTED, text)
    return text


def scrub_known(text: str, known: Iterable[str]) -> str:
    """*text* without the credentials *known*: cheap enough for whole prompts."""
    for secret in known:
        if len(secret) >= 6 and secret in text:
            text = text.replace(secret, REDACTED)
    return text
