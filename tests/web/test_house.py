"""What stands behind the console, and what its rooms keep in it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ai_ledger import Ledger
from ai_ledger.web.house import House


@pytest.fixture
def house(ledger: Ledger) -> Iterator[House]:
    """A house over a ledger with nothing in it."""
    house = House(ledger)
    yield house
    house.close()


def test_one_of_each_kind_is_kept(house: House) -> None:
    """
    Whoever comes first makes it, and all get that one, also when many come at once.
    """
    made: list[object] = []
    together = Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        together.wait(60)
        return house.kept("thing", make)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))

    assert found == made * 8
    assert house.kept("other thing", object) is not made[0]


def test_houses_share_nothing(house: House, ledger: Ledger) -> None:
    """
    Two consoles in one program each have their own.
    """
    other = House(ledger)

    assert house.kept("thing", object) is not other.kept("thing", object)
    other.close()
