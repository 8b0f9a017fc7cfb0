"""Which calls a page or a question of the API is about, and what they are grouped by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, get_args

from fastapi import Depends, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from starlette.datastructures import QueryParams

from ai_ledger.errors import InvalidValue
from ai_ledger.query import GROUP_FIELDS, TAG_PREFIX, field_name
from ai_ledger.records import ALIASES, Status, UsageSource

MAX_VALUES: Final = 50
MAX_FIELDS: Final = 3

TextField: TypeAlias = Literal[
    "org_id",
    "user_id",
    "device_id",
    "session_id",
    "reference_id",
    "function",
    "business_type",
    "operation",
    "provider",
    "server_address",
    "request_model",
    "response_model",
    "response_id",
    "error_type",
    "finish_reason",
    "service_tier",
    "price_id",
    "currency",
]
TEXTS: Final[tuple[TextField, ...]] = get_args(TextField)
_ONE_OF: Final = (*TEXTS, "status", "usage_source")
_ONE: Final = ("streamed", "http_status")

# Other names of fields, as people and other pages write them.
_ALSO: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(alias for alias, field in ALIASES.items() if field == name)
    for name in set(ALIASES.values())
} | {"tag": ("tags",)}


def _pair(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not key or not equals:
        raise PydanticCustomError("tag", "key=value")
    return text


_Text: TypeAlias = Annotated[str, StringConstraints(max_length=1_000)]
# As long as the longest key with each character quoted, and the longest value.
_Tag: TypeAlias = Annotated[str, StringConstraints(max_length=1_100), AfterValidator(_pair)]
_TagField: TypeAlias = Annotated[str, StringConstraints(max_length=1_000, pattern=r"^tags\.[\s\S]")]
_Texts: TypeAlias = Annotated[
    tuple[_Text, ...],
    Field(max_length=MAX_VALUES, description="Repeated: one of these. Empty: not set."),
]


class FieldFilter(BaseModel):
    """What fields of calls must be. All conditions must hold; what is left out is no condition."""

    model_config = ConfigDict(frozen=True)

    status: tuple[Status, ...] = Field((), max_length=MAX_VALUES)
    request_model: _Texts = ()
    user_id: _Texts = ()
    org_id: _Texts = ()
    device_id: _Texts = ()
    session_id: _Texts = ()
    reference_id: _Texts = ()
    function: _Texts = ()
    business_type: _Texts = ()
    operation: _Texts = ()
    provider: _Texts = ()
    server_address: _Texts = ()
    response_model: _Texts = ()
    response_id: _Texts = ()
    error_type: _Texts = ()
    finish_reason: _Texts = ()
    service_tier: _Texts = ()
    price_id: _Texts = ()
    currency: _Texts = ()
    tag: tuple[_Tag, ...] = Field(
        (),
        max_length=MAX_VALUES,
        description="key=value. Values of one key: one of these. key=: not set. "
        "In the key, %3D is = and %25 is %.",
    )
    unset: tuple[TextField, ...] = Field(
        (), max_length=MAX_VALUES, description="Fields that are not set."
    )
    empty: tuple[TextField | _TagField, ...] = Field(
        (),
        max_length=MAX_VALUES,
        description="Fields, or tags.<key>, that are set to the empty text.",
    )
    usage_source: tuple[UsageSource, ...] = Field((), max_length=MAX_VALUES)
    streamed: bool | None = None
    http_status: int | None = Field(None, ge=100, le=599)

    @classmethod
    def of(cls, conditions: Mapping[str, Iterable[Any]]) -> Self:
        """The filter that has these `conditions`."""
        given: dict[str, Any] = {}
        for field, values in conditions.items():
            for value in values:
                if field in _ONE:
                    given[field] = value
                else:
                    name, text = parameter_of(field, value)
                    given.setdefault(name, []).append(text)
        return cls.model_validate(given)

    @classmethod
    def parameters(cls) -> frozenset[str]:
        """What `read` looks for in the address of a page."""
        also = (alias for name in cls.model_fields for alias in _ALSO.get(name, ()))
        return frozenset((*cls.model_fields, *also))

    @classmethod
    def read(cls, parameters: QueryParams) -> Self:
        """
        What the address of a page says; fields that a form left empty were not filled in.

        Raises:
            InvalidValue: Names the first field that cannot be so.
        """
        given: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            said = [
                value for each in (name, *_ALSO.get(name, ())) for value in parameters.getlist(each)
            ]
            # Spaces are a value: records keep them, and without them all calls would be meant.
            values = [value for value in said if value != ""]
            if values:
                several = field.default == ()
                given[name] = values if several else values[-1]
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            expected = first["msg"].removeprefix("Input ").removeprefix("should be ")
            raise InvalidValue(str(first["loc"][0]), str(first["input"])[:80], expected) from error

    @property
    def query(self) -> dict[str, str | list[str]]:
        """As the parameters of an address, without what was left out."""
        return self._said(FieldFilter.model_fields)

    def conditions(self) -> dict[str, Any]:
        """As `Stats` takes it: field or ``tags.<key>`` → its values; ``None`` is not set."""
        found: dict[str, list[Any]] = {}
        for name in _ONE_OF:
            # An API's address has no other way to say that a field is not set.
            values = [value or None for value in getattr(self, name)]
            if name in self.unset:
                values.append(None)
            if name in self.empty:
                values.append("")
            if values:
                found[name] = values
        for each in self.tag:
            key, _, value = each.partition("=")
            key = key.replace("%3D", "=").replace("%25", "%")
            found.setdefault(TAG_PREFIX + key, []).append(value or None)
        for name in self.empty:
            if name.startswith(TAG_PREFIX):
                found.setdefault(name, []).append("")
        for name in _ONE:
            value = getattr(self, name)
            if value is not None:
                found[name] = [value]
        return {name: list(dict.fromkeys(values)) for name, values in found.items()}

    def _said(self, names: Collection[str]) -> dict[str, str | list[str]]:
        found: dict[str, str | list[str]] = {}
        said = self.model_dump(mode="json", exclude_defaults=True, include=set(names))
        for name, value in said.items():
            if isinstance(value, list):
                found[name] = [str(each) for each in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            else:
                found[name] = str(value).lower() if isinstance(value, bool) else str(value)
        return found


def parameter_of(field: str, value: str | None) -> tuple[str, str]:
    """
    The parameter of an address, and what it says, so that *field* must be *value*.

    Args:
        field: Of a call, or ``tags.<key>``.
        value: ``None``: not set, which the empty text is not.
    """
    if value == "":
        # A field that a form left empty was not filled in.
        return "empty", field
    if field.startswith(TAG_PREFIX):
        key = field.removeprefix(TAG_PREFIX).replace("%", "%25").replace("=", "%3D")
        return "tag", f"{key}={value or ''}"
    return ("unset", field) if value is None else (field, value)


Filter = Annotated[FieldFilter, Query()]
"""Of a question of the API: ``asked: Filter``."""


def _where(asked: Filter) -> dict[str, Any]:
    return asked.conditions()


Where = Annotated[dict[str, Any], Depends(_where)]
"""The same, as `Stats` takes it: ``where: Where``."""


def _by(
    by: Annotated[
        list[_Text] | None,
        Query(
            max_length=MAX_FIELDS,
            description=f"Fields to group by: {', '.join(GROUP_FIELDS)}, or tags.<key>.",
        ),
    ] = None,
) -> tuple[str, ...]:
    return tuple(field_name(name, GROUP_FIELDS) for name in by or ())


By = Annotated[tuple[str, ...], Depends(_by)]
"""Up to three fields to group by: ``by: By``."""
