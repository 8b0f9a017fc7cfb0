"""What every test may use: the options of the run and fresh records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.databases import EACH, empty, fresh_database

from ai_ledger.database.upgrade import upgrade
from ai_ledger.testing import Provider

# A busy machine is no failure of a property.
settings.register_profile("everywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("everywhere")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long versions as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="long: give --slow to run it")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


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


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    """The loopback provider, on a good day until it is told otherwise."""
    _provider.reset()
    return _provider


@pytest.fixture(params=EACH)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty ledger in each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    empty(url)
    return url


@pytest.fixture(autouse=True)
def no_shared_databases() -> Iterator[None]:
    """Connections of one test are none of the next one's."""
    yield
    if "ai_ledger.sinks.sql.shared" in sys.modules:
        sys.modules["ai_ledger.sinks.sql.shared"].close_databases()
