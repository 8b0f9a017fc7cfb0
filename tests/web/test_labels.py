"""What people call things, and what alerts found, in the reader's language."""

# Chinese has marks of its own.
# ruff: noqa: RUF001

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.web import sample

from ai_ledger.alerts.rule import Rule
from ai_ledger.errors import AlreadyThere, EditConflict, InvalidValue, NotFound, SinkUnavailable
from ai_ledger.web.alerts.sentence import Sentences
from ai_ledger.web.alerts.shown import AlertRow, BehindIt
from ai_ledger.web.frame.errors import title_of
from ai_ledger.web.language import Labels, Language, names

ZH, EN = Language("zh"), Language("en")


def alert(**fields: Any) -> AlertRow:
    """An alert about the quarter of an hour before now."""
    window = BehindIt(ids=(), since=sample.NOW - timedelta(minutes=15), until=sample.NOW, where={})
    plain: dict[str, Any] = {
        "id": 1, "rule_id": 1, "rule": "r", "kind": "timeouts", "severity": "warning",
        "org_id": None, "field": "request_model", "whose": "deepseek-chat", "subject": "",
        "period": "2026-05-20", "state": "open", "resolved_itself": False, "value": 8.0,
        "last_value": 8.0, "threshold": 5.0, "unit": "calls", "text": "", "calls": window,
        "occurrences": 1, "raised_at": sample.NOW, "last_seen_at": sample.NOW,
        "changed_at": sample.NOW, "changed_by": None, "note": None, "version": 1,
    }  # fmt: skip
    return AlertRow(**{**plain, **fields})


@pytest.mark.parametrize(
    ("fields", "zh", "en"),
    [
        pytest.param(
            {"text": "request_model 'deepseek-chat': 8 of 45 calls timed out within 15 minutes"},
            "模型 deepseek-chat：15 分钟内 45 次调用中有 8 次超时",
            "Model deepseek-chat: 8 of 45 calls timed out within 15 minutes",
            id="time-outs",
        ),
        pytest.param(
            {"text": "cut short"},
            "模型 deepseek-chat：15 分钟内有 8 次调用超时",
            "Model deepseek-chat: calls that timed out within 15 minutes: 8",
            id="a line that says nothing more",
        ),
        pytest.param(
            {
                "kind": "cost_spike", "field": None, "whose": None, "subject": "CNY",
                "last_value": 3.21,
                "text": "16.0684044 CNY within 15 minutes, 3.2 times the mean of the 7 days "
                "before (5.005700 CNY)",
            },
            "15 分钟内费用 16.07\u00a0CNY，是平时（5.01\u00a0CNY）的 3.2 倍",
            "cost within 15 minutes is 16.07\u00a0CNY, 3.2 times the usual (5.01\u00a0CNY)",
            id="costs",
        ),
        pytest.param(
            {"kind": "of a later version", "text": "as stored"}, "as stored", "as stored",
            id="a kind that nobody knows",
        ),
    ],
)  # fmt: skip
def test_alerts_are_told_in_the_language_of_the_reader(
    fields: dict[str, Any], zh: str, en: str
) -> None:
    """
    The sentence is made where it is shown; the stored line gives numbers, and stands in for it.
    """
    rules = {1: Rule(name="r", kind="timeouts").checked()}

    assert (Sentences(ZH, rules)(alert(**fields)), Sentences(EN, rules)(alert(**fields))) == (
        zh,
        en,
    )


def test_every_name_has_its_chinese() -> None:
    """
    No field, kind, state or period is told in English to whoever reads Chinese.
    """
    tables = [names.FIELDS, names.KINDS, names.PROPERTIES, names.OF_KIND, names.ALERT_KINDS]
    texts = {text for table in [*tables, *names.VALUES.values()] for text in table.values()}

    assert {text for text in texts if ZH.gettext(text) == text} == set()


def test_things_are_called_as_people_call_them() -> None:
    """
    Budgets of quotas, periods, rates and edits have no raw names in them.
    """
    labels = Labels(ZH)
    before: dict[str, Any] = {"unit": "CNY", "limit": 20_000_000_000, "each": "user_id"}

    assert labels.budget('quota ["globex","gpt-4o"]') == "配额：globex \u00d7 gpt-4o"
    assert labels.period("2026-11 of 20 CNY") == "2026年11月，上限 20.00\u00a0CNY"
    assert labels.rates("60/minute") == "1 分钟内 60 次调用"
    assert labels.changes("budget", before, {**before, "each": "org_id"}) == [
        ("分别限制", "用户", "组织")
    ]
    assert labels.changes("budget", before, {**before, "limit": 0})[0][1] == "20.00\u00a0CNY"
    assert labels.changes("alert", {"state": "open"}, {"state": "acknowledged"}) == [
        ("状态", "未处理", "已确认")
    ]


def test_of_an_edit_only_what_differs_is_told() -> None:
    """
    Of a list what went and what came; nothing of versions, and of what is unset either way.
    """
    old = {"input": "1", "currency": "CNY"}
    new = {"input": "2", "currency": "CNY"}
    before = {"prices": [old], "site": None, "version": 1, "sort_order": 7, "description": "a"}
    after = {"prices": [old, new], "site": "", "version": 2, "sort_order": 7, "description": ""}

    assert Labels(EN).changes("model", before, after) == [
        ("Prices", "—", "Input 2, Currency CNY"),
        ("Description", "a", "—"),
    ]
    assert Labels(EN).changes("model", None, {"prices": [], "site": ""}) == []


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (AlreadyThere("there is a rule 'x' already"), "同名内容已存在"),
        (EditConflict("somebody"), "内容已被他人修改"),
        (NotFound("there is no rule 7"), "内容不存在，或已被删除"),
        (SinkUnavailable("away"), "存储暂不可用"),
        (InvalidValue("threshold", 7, "a share above 0 and at most 1"), "阈值：数值无效"),
        (InvalidValue("valid_from", "x", "a day"), "生效时间：请填写日期或时间"),
        (InvalidValue("prices", "x", "a price"), "价格无效"),
    ],
)
def test_errors_have_a_title_in_the_language_of_the_reader(error: Exception, title: str) -> None:
    """
    Of what people meet most in forms, the console says in its own words what it was.
    """
    assert title_of(error, ZH) == title
