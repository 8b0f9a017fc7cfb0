"""What an undo of many things has to know: kept for whoever did it, and not for ever."""

from __future__ import annotations

import pytest

from ai_ledger.errors import NotFound
from ai_ledger.web import ways_back
from ai_ledger.web.ways_back import WaysBack


def test_it_is_found_by_its_name_alone() -> None:
    """
    Not as another kind, not from another organisation, and as often as somebody asks.
    """
    ways = WaysBack()
    name = ways.keep("calls", "acme", ["a", "b"])

    assert [ways.find("calls", "acme", name) for _ in range(2)] == [("a", "b")] * 2
    for kind, scope, wrong in (
        ("marks", "acme", name),
        ("calls", None, name),
        ("calls", "acme", "x"),
    ):
        with pytest.raises(NotFound, match="nothing was changed"):
            ways.find(kind, scope, wrong)


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Memory is bounded by names and by things; what was done last is known however much it was.
    """
    monkeypatch.setattr(ways_back, "MAX_THINGS", 10)
    ways = WaysBack()
    names = [ways.keep("calls", None, range(4)) for _ in range(3)]

    with pytest.raises(NotFound):
        ways.find("calls", None, names[0])
    assert len(ways.find("calls", None, names[1])) == 4
    huge = ways.keep("calls", None, range(100))
    assert len(ways.find("calls", None, huge)) == 100
    with pytest.raises(NotFound):
        ways.find("calls", None, names[2])
    monkeypatch.setattr(ways_back, "MAX_NAMES", 1)
    last = ways.keep("calls", None, [])
    assert ways.find("calls", None, last) == ()
    with pytest.raises(NotFound):
        ways.find("calls", None, huge)
