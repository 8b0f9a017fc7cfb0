"""``tokens``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ai_ledger.access import AccessTokens

URL = "sqlite:///ai_ledger.db"


@pytest.fixture
def ledger(command):
    """An empty ledger in the present folder."""
    assert command("init").code == 0


def test_a_token_from_first_to_last(command, ledger):
    """
    Made, listed, revoked; its text stands alone on standard output, this once.
    """
    made = command("tokens", "add", "ada", "--role", "admin", "--prompts", "--by", "ann")
    text = made.out.strip()
    assert made.err == "token 1 of ada, shown this once\n"
    access = AccessTokens(URL).find(text)
    assert access is not None
    assert (access.name, access.role, access.org_id, access.prompts) == ("ada", "admin", None, True)

    listed = command("tokens", "list")
    (row,) = json.loads(command("tokens", "list", "--json").out)
    assert text not in listed.out
    assert text[-4:] in listed.out
    assert (row["state"], row["created_by"], row["expires_at"]) == ("active", "ann", None)

    assert command("tokens", "revoke", "1").out == "token 1 of ada is revoked\n"
    assert AccessTokens(URL).find(text) is None
    assert command("tokens", "list").code == 1
    assert json.loads(command("tokens", "list", "--all", "--json").out)[0]["state"] == "revoked"
    assert command("tokens", "revoke", "7").code == 1


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [("12h", 43_200), ("90d", 7_776_000), ("8w", 4_838_400)],
)
def test_tokens_that_expire(command, ledger, expires, seconds):
    """
    --expires counts from now.
    """
    result = command("tokens", "add", "ada", "--org", "acme", "--expires", expires, "--json")

    token = json.loads(result.out)["token"]
    ends = datetime.fromisoformat(token["expires_at"])
    assert abs(ends - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(minutes=5)
    assert (token["role"], token["org_id"], token["prompts"]) == ("viewer", "acme", False)


def test_a_day_is_one_of_the_zone(command, ledger):
    """
    A date is the beginning of that day, where --tz says.
    """
    result = command(
        *("tokens", "add", "ada", "--expires", "2126-01-01", "--tz", "Asia/Shanghai", "--json")
    )

    assert json.loads(result.out)["token"]["expires_at"] == "2125-12-31T16:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        pytest.param(["ada", "--expires", "soon"], "--expires", id="no time"),
        pytest.param(["ada", "--expires", "2020-01-01"], "future", id="over already"),
        pytest.param(["a\nb"], "one line", id="two lines"),
        pytest.param(["ada", "--role", "root"], "root", id="no such role"),
    ],
)
def test_tokens_that_cannot_be(command, ledger, arguments, hint):
    """
    What cannot be says why, with the code for it.
    """
    result = command("tokens", "add", *arguments)

    assert (result.code, hint in result.err, result.out) == (2, True, "")
