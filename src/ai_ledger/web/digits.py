"""`whole_number`: a number in an address or a form, read without surprises."""

from __future__ import annotations


def whole_number(text: str, *, digits: int = 18) -> int | None:
    """
    *text* as a whole number that is not negative; ``None`` if it is none, or too long.

    As many digits as are usual always fit into the numbers of a database.

    ``int()`` takes digits of other scripts and underscores, and a million of them for minutes.
    """
    if len(text) > digits or not (text.isascii() and text.isdigit()):
        return None
    return int(text)
