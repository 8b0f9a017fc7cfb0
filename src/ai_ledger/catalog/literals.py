"""Literal secrets: keys that stand where a reference belongs are refused, and never quoted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from ai_ledger.errors import InvalidValue
from ai_ledger.references import variables_in, without_references
from ai_ledger.secrets import REDACTED, scrub

# Keys without a known form: letters and digits mixed, longer than words and dates are.
# From the first of them on: tried at each of many digits, it would take their square.
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}")
_TELLING: Final = re.compile(
    r"(?:^|[-_. ]|(?<=[a-z])(?=[A-Z]))"
    r"(?i:key|apikey|secret|token|password|passwd|pwd|credentials?|auth|authorization|cookie)$"
)
# What stands before a token in a header.
_SCHEME: Final = re.compile(r"(?i)\s*(?:bearer|basic|token|api-key)?\s*")
_MAX_DEPTH: Final = 8
_MOST_SHOWN: Final = 1_000
_WANTED: Final = "no key, but a reference to an environment variable: env:NAME"


def shown(text: object) -> object:
    """*text* for an error message: without anything that may be a secret."""
    if not isinstance(text, str):
        return text
    # An error quotes no more than the beginning.
    text = text[:_MOST_SHOWN]
    return REDACTED if looks_secret(text) or "@" in text else text


def looks_secret(text: str) -> bool:
    """Whether *text* has something in it that may be a key or a password."""
    return bool(_TOKEN.search(text)) or scrub(text) != text


def is_key(name: str) -> bool:
    """Whether *name* is a key in place of a model's or a provider's name."""
    # Not `scrub`, which takes xai-grok-4 and ds-chat-v3 for keys.
    return bool(_TOKEN.search(name)) or name.startswith(("sk-", "AIza", "eyJ"))


def refuse_secret(field: str, text: str) -> None:
    """
    Refuse a text that has a key in it.

    Raises:
        InvalidValue: It has; does not quote it.
    """
    if looks_secret(text):
        raise InvalidValue(field, REDACTED, "a text without keys and passwords in it")


def refuse_secrets(field: str, value: Any, *, name: str = "", depth: int = 0) -> None:
    """
    Refuse a tree of settings with a key in it that is no reference.

    Args:
        field: How to call it in the error.
        value: The tree: mappings, lists, texts, numbers.
        name: The name that *value* goes by.
        depth: How deep in the tree.

    Raises:
        InvalidValue: There is one; names the place and does not quote it.
    """
    if depth > _MAX_DEPTH:
        raise InvalidValue(field, "…", f"at most {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key, each in cast("Mapping[Any, Any]", value).items():
            if not isinstance(key, str):
                raise InvalidValue(field, key, "names that are texts")
            refuse_secret(field, key)
            refuse_secrets(f"{field}.{key}", each, name=key, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for each in cast("list[Any]", value):
            refuse_secrets(field, each, name=name, depth=depth + 1)
    elif isinstance(value, str) and _is_literal_secret(value, name):
        raise InvalidValue(field, REDACTED, _WANTED)


def _is_literal_secret(text: str, name: str) -> bool:
    # A key typed behind "env:" is no better than one without it.
    if any(
        _TOKEN.search(each) or (not each.isupper() and scrub(each) != each)
        for each in variables_in(text)
    ):
        return True
    rest = without_references(text)
    if _TELLING.search(name):
        return _SCHEME.fullmatch(rest) is None
    return looks_secret_url(rest) if "://" in rest else looks_secret(rest)


def looks_secret_url(url: str) -> bool:
    """Whether *url* has a login, or a key in its path or query. Its host is no secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    path, query = unquote(parts.path), unquote(parts.query)
    return (
        "@" in parts.netloc
        or any(looks_secret(text) for text in (path, query, parts.fragment) if text)
        or scrub(f"?{query}") != f"?{query}"
    )
