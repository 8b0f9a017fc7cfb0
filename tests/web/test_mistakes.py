"""What is typed wrong into a filter stays in its form, beside what would have been right."""

from __future__ import annotations

import html
import re
from datetime import date
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.errors import InvalidValue
from ai_ledger.web.frame.errors import told
from ai_ledger.web.language import Language

PARTIAL = {"HX-Request": "true"}


@pytest.mark.parametrize(
    ("query", "first", "last", "expected"),
    [
        pytest.param(
            "first=2026-05-20&last=2026-05-09",
            "2026-05-20",
            "2026-05-09",
            {
                "en": "First day '2026-05-20': expected a day that is not after 2026-05-09",
                "zh": "“开始日期”的值 '2026-05-20' 无效，应为：不晚于 2026-05-09 的日期",  # noqa: RUF001
            },
            id="the wrong way round",
        ),
        pytest.param(
            "first=2020-01-01&last=2026-05-09",
            "2020-01-01",
            "2026-05-09",
            {"en": "First day '2020-01-01': expected at most 366 days before 2026-05-09"},
            id="too long ago",
        ),
        pytest.param(
            "first=soon&last=2026-05-09",
            "soon",
            "2026-05-09",
            {"en": "First day 'soon': expected a day such as 2026-05-20"},
            id="no day",
        ),
    ],
)
def test_dates_of_the_overview(
    filled: Ledger,
    visitor: Visitor,
    query: str,
    first: str,
    last: str,
    expected: dict[str, str],
) -> None:
    """
    The page and its form stand, with the dates that were typed; it shows the usual days.
    """
    for language, sentence in expected.items():
        answer = visitor().get(f"/?{query}", headers={"Accept-Language": language})
        text = html.unescape(answer.text)

        assert answer.status_code == 422
        assert sentence in text
        assert "datetime" not in text
        assert f'name="first" type="date" value="{first}"' in text
        assert f'name="last" type="date" value="{last}"' in text
        assert text.count('aria-invalid="true"') == 2
        assert 'id="board"' in text
        assert "days=7" in text


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("max_cost", "abc", "Cost to 'abc': expected a valid decimal"),
        ("min_cost", "-1", "Cost from '-1': expected greater than or equal to 0"),
        ("http_status", "99", "HTTP status '99': expected greater than or equal to 100"),
        ("tag", "team", "Tag 'team': expected key=value"),
        ("first", "soon", "First day 'soon': expected a valid date"),
    ],
)
def test_filters_of_calls(
    filled: Ledger, visitor: Visitor, field: str, value: str, sentence: str
) -> None:
    """
    The form keeps everything that was typed; calls of another filter are not shown for it.
    """
    address = {"user_id": "user-1", field: value}
    answer = visitor().get("/calls", params=address)
    text = html.unescape(answer.text)

    assert answer.status_code == 422
    assert sentence in text
    assert f'name="{field}"' in text
    assert f'value="{value}"' in text
    assert 'value="user-1"' in text
    assert text.count('aria-invalid="true"') == 1
    assert 'id="rows"' not in text
    assert "calls/export" not in text


def test_several_mistakes_are_all_told(filled: Ledger, visitor: Visitor) -> None:
    """
    Each of two fields has its sentence, at once.
    """
    text = html.unescape(visitor().get("/calls?max_cost=abc&min_retries=x").text)

    assert "Cost to 'abc': expected a valid decimal" in text
    assert "Retries from 'x': expected a valid integer" in text


def test_scripts_and_programs_are_told_as_before(filled: Ledger, visitor: Visitor) -> None:
    """
    Parts of a page answer with problem details, and the API calls fields by its own names.
    """
    client = visitor()
    part = client.get("/calls?max_cost=abc", headers=PARTIAL)
    api = client.get("/api/v1/calls?first=2026-05-20&last=2026-05-09")

    assert part.status_code == api.status_code == 422
    assert part.json()["detail"] == "Cost to 'abc': expected a valid decimal"
    assert api.json()["detail"] == (
        "first='2026-05-20': expected a day that is not after 2026-05-09"
    )


def test_a_field_is_called_what_its_form_calls_it() -> None:
    """
    A number of days is no age of calls, and what has no name stays what it is.
    """
    english = Language("en")

    assert told(InvalidValue("days", 999, "a whole number"), english).startswith("Days 999: ")
    assert told(InvalidValue("days", None, "a number"), english) == "Days: expected a number"
    odd = InvalidValue("odd_one", date(2026, 5, 20), "a text")
    assert told(odd, english) == str(odd)


def test_folded_filters_are_told_above_the_fold(filled: Ledger, visitor: Visitor) -> None:
    """
    The rare fields stay folded; what they say stands in a chip, with the address without it.
    """
    client = visitor()
    address = {"price": "unpriced", "function": ["search", "translate"], "user_id": "user-1"}
    text = html.unescape(client.get("/calls", params=address).text)
    wrong = client.get("/calls", params={**address, "min_cost": "x"}).text

    for chip, rest in (
        ("Price: <b>unpriced</b>", "/calls?function=search&function=translate&user_id=user-1"),
        ("Function: <b>search</b>", "/calls?price=unpriced&function=translate&user_id=user-1"),
    ):
        assert chip in text
        link = re.search(r'<a class="chip" href="([^"]+)"><span>' + re.escape(chip), text)
        assert link
        assert sorted(parse_qsl(urlsplit(link[1]).query)) == sorted(parse_qsl(urlsplit(rest).query))
    assert "User: <b>" not in text
    assert "<details>" in text
    assert "<details open>" not in text
    assert "<details open>" in wrong
