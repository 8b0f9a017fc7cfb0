"""Stores of every kind, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.databases import empty, fresh_database

from ai_ledger.database.upgrade import upgrade


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL database with this version's tables, shared by the run."""
    with fresh_database("postgresql") as url:
        upgrade(url)
        yield url


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """A MariaDB database with this version's tables, shared by the run."""
    with fresh_database("mariadb") as url:
        upgrade(url)
        yield url


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ]
)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty ledger in each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    empty(url)
    return url
