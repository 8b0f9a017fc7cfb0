"""``doctor``: the forms of call, and what it says when one is recorded wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.cli.conftest import call

from ai_ledger import doctor
from ai_ledger.doctor.form import Expected
from ai_ledger.doctor.forms import FORMS
from ai_ledger.doctor.troubles import TROUBLES


@pytest.fixture(scope="module")
def findings() -> list[doctor.Finding]:
    return doctor.examine()


def test_every_form_is_recorded_right(findings):
    """
    With the SDK installed here, sync and async, as the bare SDK would have answered.
    """
    assert [each for each in findings if each.outcome == "wrong"] == []
    assert sum(each.outcome == "right" for each in findings) > 100


def test_every_form_is_made(findings):
    """
    Each form has one finding for each kind of client.
    """
    made = [(each.form, each.mode) for each in findings]

    assert sorted(made) == sorted(
        (form.name, mode) for form in (*FORMS, *TROUBLES) for mode in form.modes
    )


def test_the_command(command):
    """
    The versions, the count, and no table when all is right.
    """
    result = command("doctor", "--form", "embeddings")
    json_result = command("doctor", "--form", "embeddings", "--json")

    assert result.code == 0
    assert "2 forms recorded right, 0 wrong" in result.out
    assert "what was wrong" not in result.out
    printed = json.loads(json_result.out)
    assert [each["outcome"] for each in printed["forms"]] == ["right", "right"]
    assert {"python", "openai", "ai-ledger"} <= printed["versions"].keys()
    assert command("doctor", "--form", "no such form").code == 1


def test_the_ledger_s_health(command, url):
    """
    The ledger of --url is looked at too: its journal, and what waits there.
    """
    printed = json.loads(command("doctor", "--form", "embeddings", "--url", url, "--json").out)

    assert printed["ledger"]["health"]["pending"] == 0
    assert printed["ledger"]["health"]["folder"]


def test_what_a_dead_process_left(command, url, tmp_path):
    """
    A call that was never delivered is an orphan in the journal, with its age.
    """
    code = (
        "import os; from ai_ledger import Ledger\n"
        "from ai_ledger.delivery import Delivery; Delivery._start = lambda self: None\n"
        f"Ledger({url!r}).record('m', input_tokens=1); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=110)

    printed = json.loads(command("doctor", "--form", "embeddings", "--url", url, "--json").out)
    text = command("doctor", "--form", "embeddings", "--url", url).out

    (orphan,) = printed["ledger"]["health"]["orphans"]
    assert orphan["bytes"] > 0
    assert 0 <= orphan["age_seconds"] < 60
    assert "1 segments of dead processes" in text


def test_a_lost_record_is_found(command, monkeypatch):
    """
    When nothing is recorded, the form is wrong, and the exit code says so.
    """
    monkeypatch.setattr("ai_ledger.delivery.Delivery.begin", lambda *args: None)
    monkeypatch.setattr("ai_ledger.delivery.Delivery.end", lambda *args: None)

    result = command("doctor", "--form", "embeddings")

    assert result.code == 1
    assert "0 records, not 1" in result.out


def test_a_caller_that_is_disturbed_is_found(command, monkeypatch):
    """
    When the caller sees anything else than without the ledger, the form is wrong.
    """

    def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("ai_ledger.capture.observation.Tracking.observe", fail)

    result = command("doctor", "--form", "embeddings")

    assert result.code == 1
    assert "the caller saw ('ZeroDivisionError'" in result.out


@pytest.mark.parametrize(
    ("expected", "differences"),
    [
        (Expected(model="qwen-plus", tokens=(1000, 100)), []),
        (Expected(model="qwen-plus", tokens="some"), []),
        (Expected(model="x", tokens="any"), ["model is qwen-plus, not x"]),
        (
            Expected(model="qwen-plus", tokens=(1, 2), sources=("counted", "estimated")),
            [
                "tokens are (1000, 100), not (1, 2)",
                "usage is reported, not counted or estimated",
            ],
        ),
        (
            Expected(model="qwen-plus", tokens="any", status="failed", retries=2, streamed=True),
            [
                "status is success, not failed",
                "streamed is False, not True",
                "retries is 0, not 2",
                "no error_type",
            ],
        ),
    ],
)
def test_differences(expected, differences):
    """
    What a record says wrong is told field by field.
    """
    assert expected.differences(call(1)) == differences
