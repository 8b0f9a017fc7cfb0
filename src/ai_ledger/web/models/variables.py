"""Which environment variables the console lets an entry of the catalogue name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from ai_ledger.catalog.literals import shown
from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.references import variables_in

_KEYS: Final = ("_KEY", "_TOKEN", "_SECRET")
_REFERRING: Final = ("settings", "api_url", "parameters")
_OWN: Final = "AI_LEDGER_"
_MAX_DEPTH: Final = 20
_RULE: Final = (
    "variables whose name ends in _KEY, _TOKEN or _SECRET and does not begin with AI_LEDGER_"
)


def refuse_variables(
    field: str, new: Mapping[str, Any], old: Mapping[str, Any] | None = None
) -> None:
    """
    Refuse fields of an entry that name variables which are no keys of providers.

    Otherwise whoever edits here could send any variable of the console's process, such as
    the password of its database, to an address that they edit as well.

    Args:
        field: How to call *new* in the error.
        new: What was typed.
        old: What stands there already, and may stay.

    Raises:
        InvalidValue: There is one; says which, and that the command line can do it.
    """
    kept = set(_texts(referring(old or {})))
    for text in _texts(referring(new)):
        if text not in kept and (name := _refused(text)) is not None:
            raise InvalidValue(
                field,
                shown(f"env:{name}"),
                f"{_RULE}: the console hands out no others; `ai-ledger providers` can",
            )


def refuse_to_send(where: str, *values: Any) -> None:
    """
    Refuse to call out with variables that are no keys of providers.

    Raises:
        ConfigurationError: There is one; says which, and that the command line can do it.
    """
    for text in _texts(values):
        if (name := _refused(text)) is not None:
            raise ConfigurationError(
                f"{where} names the environment variable {name}: a test from the console sends "
                f"only {_RULE}; `ai-ledger models test` sends it"
            )


def referring(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of the *fields* of an entry, those in which a reference stands for a variable."""
    return {name: fields.get(name) for name in _REFERRING}


def _refused(text: str) -> str | None:
    """The variable that *text* may not name, if there is one."""
    for name in variables_in(text):
        upper = name.upper()
        if not upper.endswith(_KEYS) or upper.startswith(_OWN):
            return name
    return None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth > _MAX_DEPTH:
        return  # deeper than an entry may be, which is said elsewhere
    elif isinstance(value, Mapping):
        for each in cast("Mapping[Any, Any]", value).values():
            yield from _texts(each, depth + 1)
    elif isinstance(value, (list, tuple)):
        for each in cast("list[Any]", value):
            yield from _texts(each, depth + 1)
