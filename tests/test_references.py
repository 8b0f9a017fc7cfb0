"""References: what ``env:NAME`` is, wherever one is read."""

from __future__ import annotations

import pytest

from ai_ledger.references import variable_of, variables_in, without_references


@pytest.mark.parametrize(
    ("text", "variables", "rest"),
    [
        ("env:SHOP_KEY", ["SHOP_KEY"], ""),
        ("Bearer env:SHOP_KEY", ["SHOP_KEY"], "Bearer "),
        ("env:_a1, env:B", ["_a1", "B"], ", "),
        ("env:1A", [], "env:1A"),
        ("env:SHOP-KEY", [], "env:SHOP-KEY"),
        ("ENV:SHOP_KEY", [], "ENV:SHOP_KEY"),
        ("lenv:SHOP_KEY", [], "lenv:SHOP_KEY"),
        (f"env:{'A' * 128}", ["A" * 128], ""),
        (f"env:{'A' * 129}", [], f"env:{'A' * 129}"),
        ("env:", [], "env:"),
        ("", [], ""),
    ],
)
def test_references(text: str, variables: list[str], rest: str) -> None:
    """
    A text names these variables; it is a reference itself when nothing else stands there.
    """
    assert variables_in(text) == variables
    assert without_references(text) == rest
    assert variable_of(text) == (variables[0] if len(variables) == 1 and not rest else None)
