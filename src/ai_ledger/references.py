"""References: ``env:NAME`` in place of a secret, which stays in an environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from ai_ledger.errors import ConfigurationError

_REFERENCE: Final = re.compile(r"\benv:([A-Za-z_][A-Za-z0-9_]{0,127})(?![A-Za-z0-9_-])")


def variable_of(text: str) -> str | None:
    """The variable that *text* names, when it is a reference and nothing besides."""
    found = _REFERENCE.fullmatch(text)
    return None if found is None else found[1]


def variables_in(text: str) -> list[str]:
    """The variables that references in *text* name."""
    return _REFERENCE.findall(text)


def without_references(text: str) -> str:
    """*text* with nothing where references stand."""
    return _REFERENCE.sub("", text)


def resolved(where: str, value: Any) -> Any:
    """
    *value* with what its references stand for at this moment.

    Raises:
        ConfigurationError: A variable is not set; names it.
    """
    if isinstance(value, Mapping):
        return {
            key: resolved(where, each) for key, each in cast("Mapping[str, Any]", value).items()
        }
    if isinstance(value, list):
        return [resolved(where, each) for each in cast("list[Any]", value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ConfigurationError(f"{where}: the environment variable {match[1]} is not set")
        return found

    return _REFERENCE.sub(variable, value)
