"""Forms that pages post: read first, and then worked on in a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from ai_ledger.errors import InvalidValue
from ai_ledger.web.digits import whole_number

MAX_FIELDS: Final = 200
MAX_FIELD_BYTES: Final = 2_000_000


class Fields:
    """The fields of a form; what was left empty was not said."""

    def __init__(self, form: FormData) -> None:
        self._form: Final = form

    def __contains__(self, name: str) -> bool:
        return name in self._form

    def raw(self, name: str) -> str:
        """The text of a field as it was typed; an empty one if there is none."""
        value = self._form.get(name)
        return value if isinstance(value, str) else ""

    def text(self, name: str) -> str | None:
        """The text of a field without space around it; ``None`` if there is none."""
        return self.raw(name).strip() or None

    def texts(self, name: str) -> list[str]:
        """The texts of all fields of this name, such as boxes that are ticked; no empty ones."""
        return [value for value in self._form.getlist(name) if isinstance(value, str) and value]

    def flag(self, name: str) -> bool:
        """Whether a box is ticked."""
        return self.raw(name) in ("1", "on", "true")

    def whole(self, name: str) -> int | None:
        """
        A whole number; ``None`` if there is none.

        Raises:
            InvalidValue: It is no whole number.
        """
        text = self.text(name)
        if text is None:
            return None
        found = whole_number(text.removeprefix("-"), digits=19)
        if found is None:
            raise InvalidValue(name, text, "a whole number")
        return -found if text.startswith("-") else found

    def number(self, name: str) -> float | None:
        """
        A number; ``None`` if there is none.

        Raises:
            InvalidValue: It is no number.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            raise InvalidValue(name, text, "a number") from None

    def file(self, name: str, most: int) -> tuple[str, bytes]:
        """
        Name and content of a file.

        Args:
            name: That of the field.
            most: How many bytes it may have.

        Raises:
            InvalidValue: No file was chosen, or it is larger.
        """
        value = self._form.get(name)
        if not isinstance(value, UploadFile) or not value.filename:
            raise InvalidValue(name, None, "a file: choose one")
        data = value.file.read(most + 1)
        if len(data) > most:
            raise InvalidValue(name, value.filename, f"a file of at most {most:,} bytes")
        return value.filename, data


def posted(
    work: Callable[[Request, Fields], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint of *work*, which gets the request and its form, and runs in the thread pool."""

    @wraps(work)
    async def endpoint(request: Request) -> Response:
        form = request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        async with form as fields:
            return await run_in_threadpool(work, request, Fields(fields))

    return endpoint
