"""Versions: whatever people edit, an edit names the one that it saw."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ai_ledger import EditConflict
from ai_ledger.alerts import Alerts, Rule
from ai_ledger.catalog import Catalog
from ai_ledger.database.versions import require_version
from ai_ledger.policies import Quotas
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.words import WordList
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.terms import Terms

Edit = Callable[[int | None], object]
"""Makes an edit, of the version given."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger, which one thing of each kind is put into."""
    return f"sqlite:///{tmp_path_factory.mktemp('versions')}/ledger.db"


def _provider(url: str) -> Edit:
    catalog = Catalog(url)
    catalog.add_provider("p", by="ada")
    catalog.edit_provider("p", version=1, sort_order=1, by="bob")
    return lambda version: catalog.disable_provider("p", version=version)


def _budget(url: str) -> Edit:
    accounts = Accounts(shared_database(url))
    accounts.register(Terms(name="b", unit="USD", limit=1, per="day"), by="ada")
    accounts.deactivate("b", by="bob")
    return lambda version: accounts.reactivate("b", version=version)


def _quota(url: str) -> Edit:
    quotas = Quotas(url)
    quotas.set("acme", "m", enabled=False, by="ada")
    quotas.set("acme", "m", enabled=True, by="bob")
    return lambda version: quotas.remove("acme", "m", version=version)


def _switch(url: str) -> Edit:
    quotas = Quotas(url)
    quotas.switch_off("m", by="ada")
    quotas.switch_on("m", by="bob")
    return lambda version: quotas.switch_off("m", version=version)


def _word(url: str) -> Edit:
    words = WordList(url)
    word = words.add("damn", by="ada")
    words.edit(word.id, action="warn", by="bob")
    return lambda version: words.remove(word.id, version=version)


def _filter(url: str) -> Edit:
    words = WordList(url)
    words.set_fuzzy(False, by="ada")
    words.set_fuzzy(True, by="bob")
    return lambda version: words.set_fuzzy(False, version=version)


def _rule(url: str) -> Edit:
    alerts = Alerts(url)
    alerts.add_rule(Rule(name="r", kind="timeouts", threshold=1), by="ada")
    alerts.edit_rule("r", threshold=2, by="bob")
    return lambda version: alerts.remove_rule("r", version=version)


@pytest.mark.parametrize(
    ("edited", "what"),
    [
        (_provider, "provider 'p'"),
        (_budget, "budget 'b'"),
        (_quota, "quota acme / m"),
        (_switch, "switch of model 'm'"),
        (_word, "word 1"),
        (_filter, "the filter"),
        (_rule, "rule 'r'"),
    ],
)
def test_somebody_was_quicker(url: str, edited: Callable[[str], Edit], what: str) -> None:
    """
    An edit of an older version is refused in the same words for everything that is edited.
    """
    edit = edited(url)

    with pytest.raises(EditConflict) as refused:
        edit(1)
    assert re.sub(r" at 20[0-9T:+-]+\.", " at T.", str(refused.value)) == (
        f"{what} is at version 2, not 1: bob changed it at T. "
        "Read it again, and edit what it is now"
    )
    edit(2)


@pytest.mark.parametrize(
    ("by", "at", "said"),
    [
        ("bob", datetime(2026, 3, 1, tzinfo=UTC), "bob changed it at 2026-03-01T00:00:00+00:00."),
        (None, datetime(2026, 3, 1, tzinfo=UTC), "it was changed at 2026-03-01T00:00:00+00:00."),
        ("bob", None, "bob changed it since."),
        (None, None, "it was changed since."),
    ],
)
def test_what_is_known_of_who_was_quicker(by: str | None, at: datetime | None, said: str) -> None:
    """
    It is said who was quicker, and when, as far as that is known.
    """
    with pytest.raises(EditConflict, match=re.escape(f"version 2, not 1: {said}")):
        require_version("it", 1, 2, by, at)


@pytest.mark.parametrize("seen", [None, 2])
def test_an_edit_of_what_there_is(seen: int | None) -> None:
    """
    An edit of the version that there is goes through, and so does one that names none.
    """
    require_version("it", seen, 2, "bob", None)
