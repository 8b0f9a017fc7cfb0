"""What is living is told of a fork, in the child alone."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import pytest

from ai_ledger.forks import Living

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")


class _One:
    def __init__(self) -> None:
        self.children = 0

    def after_fork_in_child(self) -> None:
        self.children += 1


def test_the_child_is_told_and_the_parent_is_not() -> None:
    """
    In the child each object has begun anew, once, before anything else runs there.
    """
    living: Living[_One] = Living()
    ones = [_One(), _One()]
    for one in ones:
        living.add(one)

    pid = os.fork()
    if pid == 0:
        os._exit(0 if [one.children for one in ones] == [1, 1] else 1)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert [one.children for one in ones] == [0, 0]


def test_nothing_is_kept_alive() -> None:
    """
    What nobody else holds is gone, and is not told.
    """
    living: Living[_One] = Living()
    kept = _One()
    living.add(kept)
    living.add(_One())
    gc.collect()

    assert list(living) == [kept]
    assert sys.getrefcount(kept) < 5


def test_others_come_while_they_are_gone_through() -> None:
    """
    Another thread may add one at any moment of it.
    """
    living: Living[_One] = Living()
    ones = [_One(), _One(), _One()]
    for one in ones:
        living.add(one)
    later: list[_One] = []

    def meanwhile(*_: Any) -> Any:
        later.append(_One())
        living.add(later[-1])
        return meanwhile

    before = sys.gettrace()
    sys.settrace(meanwhile)
    try:
        found = list(living)
    finally:
        sys.settrace(before)

    assert later
    assert set(ones) <= set(found)
    assert set(living) == {*ones, *later}
