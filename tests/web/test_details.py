"""What goes wrong, told in Chinese to whoever reads Chinese: titles and details."""

# Chinese has marks of its own.
# ruff: noqa: RUF001

from __future__ import annotations

import ast
import html
import re
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

import ai_ledger
from ai_ledger import Budget, Ledger
from ai_ledger.alerts.rule import default_rules
from ai_ledger.errors import InvalidValue, MissingExtra, SinkUnavailable
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.web.frame.errors import told
from ai_ledger.web.language import Details, Labels, Language, names, patterns

ZH, EN = Language("zh"), Language("en")
HAN = re.compile("[\u4e00-\u9fff]")

# What stands in quotes, in backticks or behind a command is somebody's own, or to be typed.
VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|ai-ledger\[\w+\]|pip install")
ENGLISH = re.compile(r"[a-z]{2,},? [a-z]{2,}")


def english_in(text: str) -> str | None:
    """Two words of English behind each other, values excepted."""
    found = ENGLISH.search(VALUE.sub("", text))
    return None if found is None else text


@pytest.fixture
def console(filled: Ledger, visitor: Visitor) -> TestClient:
    """A console in Chinese, with one of everything that can be edited."""
    accounts = Accounts(shared_database(filled), clock=lambda: sample.NOW)
    accounts.register(Budget("50 CNY", name="all").terms, by="program")
    client = visitor()
    client.headers |= {"Accept-Language": "zh", "HX-Request": "true"}
    rule = {"severity": "warning", "per": "day", "enabled": "1", "kind": "timeouts"}
    model = {"kind": "model", "name": "m", "provider": "p", "with_provider": "1"}
    rates = {"price.input": "1", "price.currency": "CNY", "price.valid_from": "2026-03-01"}
    for path, data in (
        ("/alerts/rules/defaults", {}),
        ("/alerts/rules/save", {**rule, "name": "own"}),
        ("/alerts/evaluate", {}),
        ("/words/add", {"word": "alpha", "action": "block"}),
        ("/budgets/quota/save", {"org_id": "acme", "model": "m", "tokens": "10", "enabled": "1"}),
        ("/budgets/switch/save", {"model": "m", "off": "1"}),
        ("/models/save", {**model, **rates}),
    ):
        answer = client.post(path, data=data)
        assert answer.status_code < 300, (path, answer.text)
    return client


def rule(**fields: str) -> dict[str, str]:
    return {"kind": "failure_rate", "name": "r", "severity": "warning", "per": "day", **fields}


def entry(kind: str, **fields: str) -> dict[str, str]:
    plain = {"kind": kind, "name": "new"} | ({"provider": "p"} if kind == "model" else {})
    return {**plain, **fields}


def price(**fields: str) -> dict[str, str]:
    given = {"input": "1", "currency": "CNY", **fields}
    typed = {f"price.{name}": value for name, value in given.items()}
    return {"kind": "model", "name": "m", "version": "1", **typed}


def quota(**fields: str) -> dict[str, str]:
    return {"org_id": "acme", "model": "x", "tokens": "1", **fields}


def word(**fields: str) -> dict[str, str]:
    return {"word": "beta", "action": "block", **fields}


# Path and form of what cannot be; without a form it is asked for.
WRONG: dict[str, list[dict[str, str] | None]] = {
    # The overview, calls
    "/?days=x": [None],
    "/?days=99999": [None],
    "/nowhere": [None],
    "/calls?days=x": [None],
    "/calls?days=0": [None],
    "/calls?first=x": [None],
    "/calls?first=2026-13-45": [None],
    "/calls?first=2026-05-20&last=2026-01-01": [None],
    "/calls?first=1990-01-01&last=2026-01-01": [None],
    "/calls?tag=x": [None],
    "/calls?status=x": [None],
    "/calls?usage_source=x": [None],
    "/calls?unset=x": [None],
    "/calls?price=x": [None],
    "/calls?streamed=x": [None],
    "/calls?http_status=1": [None],
    "/calls?http_status=x": [None],
    "/calls?min_cost=x": [None],
    "/calls?max_cost=-1": [None],
    "/calls?min_duration_ms=inf": [None],
    "/calls?max_retries=1.5": [None],
    "/calls?user=x": [None],
    "/calls?limit=x": [None],
    "/calls?order=x": [None],
    "/calls?user_id=" + "x" * 1_100: [None],
    "/calls?search=" + "x" * 300: [None],
    "/calls/none": [None],
    "/calls/delete": [
        {},
        {"ids": "none"},
        {"expected": "x", "filter": ""},
        {"expected": "7", "filter": ""},
        {"expected": "0", "filter": ""},
    ],
    "/calls/restore": [{}, {"ids": "none"}, {"at": "x"}, {"at": "2026-05-20T00:00:00+00:00"}],
    "/api/v1/calls/export?first=2026-05-20&last=2026-01-01": [None],
    # Costs, reports, re-pricing
    "/costs?days=x": [None],
    "/costs?days=99999": [None],
    "/costs?first=x": [None],
    "/costs?by=x": [None],
    "/costs?ranked_by=x": [None],
    "/costs?limit=x": [None],
    "/costs?tag=x": [None],
    "/costs?unset=x": [None],
    "/costs?odd=x": [None],
    "/costs/reprice": [
        {"first": "x"},
        {"first": "2026-05-20", "last": "2026-01-01"},
        {"since": "2026-05-20"},
    ],
    "/costs/reprice/stop": [{}],
    "/costs/reprice/undo": [{}, {"begun_at": "x"}],
    "/reports/make": [{"days": "x"}, {"days": "99999"}, {"first": "x"}],
    "/reports/delete": [{"id": "x"}],
    "/reports/restore": [{"id": "x"}],
    "/reports/x": [None],
    # Budgets and quotas
    "/budgets/99": [None],
    "/budgets/99/deactivate": [{}],
    "/budgets/1/deactivate": [{"version": "99"}, {"version": "x"}],
    "/budgets/quota?org_id=x&model=y": [None],
    "/budgets/quota/save": [
        quota(tokens="x"),
        quota(tokens="-1"),
        quota(org_id=""),
        quota(model="x" * 300),
        quota(org_id="*", model="*"),
        quota(rates="often"),
        quota(rates="0/minute"),
        quota(min_interval_s="x"),
        quota(min_interval_s="-1"),
        quota(max_concurrent="999999999"),
        quota(valid_from="x"),
        quota(valid_from="2300-01-01T00:00"),
        quota(valid_from="2026-05-01T00:00", valid_until="2026-04-01T00:00"),
        quota(model="m", version="99"),
        quota(model="m", version="0"),
    ],
    "/budgets/quota/remove": [quota(), quota(model="m", version="99")],
    "/budgets/quota/allow": [quota(), quota(model="m", version="99")],
    "/budgets/quota/undo": [
        quota(),
        quota(model="m", version="99"),
        quota(model="m", version="99", edit="99"),
    ],
    "/budgets/switch/save": [
        {"model": ""},
        {"model": "m", "max_concurrent": "x"},
        {"model": "m", "off": "0", "version": "99"},
    ],
    "/budgets/switch/undo": [
        {"model": "none"},
        {"model": "m", "version": "99"},
        {"model": "m", "version": "99", "edit": "99"},
    ],
    # Alerts and rules
    "/alerts/99": [None],
    "/alerts/99/ack": [{}],
    "/alerts/1/ack": [{"version": "99"}, {"version": "x"}, {"note": "x" * 5_000}],
    "/alerts/answer": [{}, {"what": "ack"}, {"what": "ack", "alert": "x"}],
    "/alerts/failures/mark": [
        {"state": "x"},
        {"state": "ignored"},
        {"state": "ignored", "call": "none"},
        {"state": "open", "call": "none"},
    ],
    "/alerts/rules/99": [None],
    "/alerts/rules/new?kind=x": [None],
    "/alerts/rules/save": [
        {},
        rule(name=""),
        rule(name="own"),
        rule(name="x" * 300),
        rule(severity="x"),
        rule(per="x"),
        rule(threshold="x"),
        rule(threshold="0"),
        rule(threshold="200"),
        rule(kind="latency", threshold="1"),
        rule(kind="timeouts", threshold="0.5"),
        rule(kind="budget_threshold", threshold="5000"),
        rule(kind="budget_threshold", budget="none"),
        rule(kind="cost_spike", at_least="x"),
        rule(kind="cost_spike", at_least="-1"),
        rule(kind="cost_spike", window_min="2000"),
        rule(kind="silence", window_min="40000"),
        rule(kind="latency", past_days="x"),
        rule(kind="latency", past_days="999"),
        rule(window_min="x"),
        rule(window_min="0"),
        rule(min_calls="x"),
        rule(min_calls="-1"),
        rule(quiet="late"),
        rule(tz="Moon/Sea"),
        rule(each="x"),
        rule(where="nonsense"),
        rule(where="nonsense = 1"),
        rule(where="cost >= x"),
        rule(where="model >= 1"),
        rule(where="streamed = perhaps"),
        rule(where="cost >= 1\ncost = 2"),
        rule(id="1", version="99", kind="budget_threshold"),
        rule(id="99"),
    ],
    "/alerts/rules/1/enable": [{"version": "99"}],
    "/alerts/rules/1/remove": [{"version": "99"}],
    "/alerts/rules/1/undo": [{}, {"version": "99"}, {"version": "99", "edit": "99"}],
    "/alerts/rules/99/remove": [{}],
    # Models and prices
    "/models/entry?kind=model&name=none": [None],
    "/models/entry?kind=x&name=m": [None],
    "/models/save": [
        {"kind": "x"},
        entry("model", name=""),
        entry("model", name="a*"),
        entry("model", name="x" * 300),
        entry("model", name="sk-" + "a1b2c3d4" * 6),
        entry("model", name="m"),
        entry("model", name="M"),
        entry("model", provider="none"),
        entry("model", api_url="example.org"),
        entry("model", api_url="http://169.254.169.254/"),
        entry("model", api_url="https://a:b@example.org/"),
        entry("model", api_type="x"),
        entry("model", timeout_s="x"),
        entry("model", timeout_s="0"),
        entry("model", context_size="x"),
        entry("model", context_size="0"),
        entry("model", parameters="{"),
        entry("model", parameters='{"model": 1}'),
        entry("model", parameters='{"a": {"api_key": "sk-' + "a1b2c3d4" * 6 + '"}}'),
        entry("provider", type="x"),
        entry("provider", sort_order="x"),
        entry("provider", display_name="x" * 300),
        entry("provider", settings="x"),
        {**entry("provider"), "settings.base_url": "x"},
        {**entry("provider"), "settings.api_key": "env:HOME"},
        {**entry("provider"), "settings.api_key": "sk-" + "a1b2c3d4" * 6},
        entry("model", name="m", version="99"),
        entry("model", name="none", version="1"),
    ],
    "/models/price": [
        price(input="x"),
        price(input="-1"),
        price(input=""),
        price(currency="XXX"),
        price(currency=""),
        price(valid_from="x"),
        price(valid_from="2026-03-01"),
        price(per="7"),
        {**price(), "version": "99"},
        {**price(), "name": "none"},
    ],
    "/models/switch": [
        entry("model", name="m", action="x"),
        entry("model", name="m", action="disable", version="99"),
        entry("model", name="none", action="disable", version="1"),
    ],
    "/models/undo": [
        entry("model", name="m"),
        entry("model", name="m", version="99"),
        entry("model", name="m", version="99", edit="99"),
    ],
    "/models/test": [
        entry("model", name="none"),
        entry("model", name="m", operation="x"),
        entry("provider", name="none"),
    ],
    "/models/import": [{}],
    # Words
    "/words/99": [None],
    "/words/export?format=x": [None],
    "/words/add": [
        word(word=""),
        word(word="x" * 300),
        word(word="***"),
        word(word="a.*b"),
        word(word="a\nb"),
        word(word="alpha"),
        word(action="x"),
        word(match="x"),
        word(match="fuzzy", word="a"),
        word(action="replace", replacement="beta too"),
        word(action="replace", replacement="x" * 999),
        word(note="x" * 300),
    ],
    "/words/edit": [
        word(),
        word(id="1"),
        word(id="99", version="1"),
        word(id="1", version="99"),
    ],
    "/words/switch": [{"id": "1", "version": "99"}, {"id": "99", "version": "1"}],
    "/words/remove": [{"id": "1", "version": "99"}],
    "/words/undo": [
        {"id": "1"},
        {"id": "1", "version": "99"},
        {"id": "1", "version": "99", "edit": "99"},
        {"id": "99", "version": "1", "edit": "1"},
    ],
    "/words/settings": [{"fuzzy": "1", "version": "99"}],
    "/words/check": [{"text": "x" * 300_000}],
    "/words/import": [{}],
    # Settings
    "/settings/erasure": [
        {},
        {"days": "x"},
        {"days": "0"},
        {"days": "30", "confirmed": "31", "sure": "1"},
    ],
    "/settings/tokens": [
        {"name": "", "role": "viewer"},
        {"name": "a\nb", "role": "viewer"},
        {"name": "x" * 300, "role": "viewer"},
        {"name": "a", "role": "x"},
        {"name": "a", "role": "viewer", "days": "x"},
        {"name": "a", "role": "viewer", "days": "0"},
    ],
    "/settings/tokens/99/revoke": [{}],
}  # fmt: skip
FILES = {
    "/words/import": [
        ("words.doc", b"word\nx\n"),
        ("words.xlsx", b"word\nx\n"),
        ("words.csv", b"name\nx\n"),
        ("words.csv", b"word,word\nx,y\n"),
        ("words.csv", "word\n敏感\n".encode("gb18030")),
        ("words.csv", "word\nx\n".encode("utf-16")),
        ("words.csv", b'word\n"x\n'),
        ("words.csv", b"word\n\x00\n"),
        ("words.csv", b"x" * (8 * 1024 * 1024)),
    ],
    "/models/import": [
        ("a.toml", b"["),
        ("a.toml", b"\xff"),
        ("a.toml", b"x" * 1_100_000),
        ("a.toml", b"odd = 1"),
        ("a.toml", b"models = 1"),
        ("a.toml", b"[[models]]\nname = 'n'"),
        ("a.toml", b"[[models]]\nname = 'n'\nprovider = 'p'\nodd = 1"),
        ("a.toml", b"[[models]]\nname = 'n'\nprovider = 'p'\n[[models.prices]]\ninput = 'x'"),
        ("a.toml", b"[[models]]\nname = 'n'\nprovider = 'p'\n[[models.prices]]\nodd = 'x'"),
        ("a.toml", b"[[models]]\nname = 'n'\nprovider = 'p'\n[[models.prices]]\ncurrency = 'CNY'"),
        ("a.toml", b"[[providers]]\nname = 'n'\n[[providers]]\nname = 'n'"),
    ],
}


def shown(answer: Any) -> str | None:
    """What is wrong with what *answer* tells of an error; ``None`` if it is told in Chinese."""
    if answer.status_code < 400:
        return f"{answer.status_code}, and no error"
    problem = answer.json()
    for text in (problem["title"], problem["detail"]):
        if not HAN.search(text) or english_in(text):
            return f"{problem['title']}: {problem['detail']}"
    return None


def short(form: dict[str, str] | None) -> str:
    return ", ".join(f"{name}={value[:30]}" for name, value in (form or {}).items())


@pytest.mark.timeout(600)
def test_what_goes_wrong_in_forms_and_addresses_is_told_in_chinese(console: TestClient) -> None:
    """
    Whatever somebody who reads Chinese types, they read what was wrong with it in Chinese.
    """
    found = {
        f"{path[:60]} {short(form)}": shown(
            console.get(path) if form is None else console.post(path, data=form)
        )
        for path, forms in WRONG.items()
        for form in forms
    }

    assert {case: text for case, text in found.items() if text is not None} == {}


def test_what_is_wrong_with_files_is_told_in_chinese(console: TestClient) -> None:
    """
    The same of files: of another kind, of another encoding, too large, with odd lines.
    """
    found = {
        f"{path} {name} {data[:60]!r}": shown(console.post(path, files={"file": (name, data)}))
        for path, files in FILES.items()
        for name, data in files
    }

    assert {case: text for case, text in found.items() if text is not None} == {}


def test_refused_lines_of_a_file_are_told_in_chinese(console: TestClient) -> None:
    """
    The report of an import says of each line in Chinese why it is refused.
    """
    lines = ["***,,是,block,exact,", "a.*b,,是,block,exact,", "x,,maybe,block,exact,"]
    lines += [
        "y,,是,odd,exact,",
        "z,,是,block,fuzzy,",
        "w,w1,是,block,exact,",
        "v,,是,,,",
        "v,,是,,,",
    ]
    data = "\n".join(["word,replacement,active,action,match,org_id", *lines]).encode()

    page = console.post("/words/import", files={"file": ("words.csv", data)}).text

    reasons = [html.unescape(each) for each in re.findall(r'hint wrap">([^<]*)<', page)]
    assert len(reasons) == len(lines) - 1
    assert [text for text in reasons if not HAN.search(text) or english_in(text)] == []


@pytest.mark.parametrize(
    ("access", "path", "form"),
    [
        pytest.param({"role": "viewer"}, "/calls/delete", {"ids": "call-00001"}, id="a viewer"),
        pytest.param({"role": "operator"}, "/words/add", {"word": "x"}, id="an operator"),
        pytest.param({"org_id": "acme"}, "/settings/erasure", {"days": "30"}, id="one of acme"),
        pytest.param(
            {"org_id": "acme"}, "/words/check", {"text": "x", "org_id": "globex"}, id="try"
        ),
        pytest.param({"org_id": "acme"}, "/words/add", word(org_id="globex"), id="add"),
        pytest.param({"prompts": False}, "/api/v1/calls/export?content=1", None, id="prompts"),
        pytest.param(
            {"prompts": False},
            "/settings/tokens",
            {"name": "a", "role": "viewer", "prompts": "1"},
            id="prompts of others",
        ),
    ],
)
def test_what_is_not_allowed_is_told_in_chinese(
    filled: Ledger, visitor: Visitor, access: dict[str, Any], path: str, form: dict[str, str] | None
) -> None:
    """
    Whoever may not do something reads in Chinese what it takes.
    """
    client = visitor(**access)
    client.headers |= {"Accept-Language": "zh", "HX-Request": "true"}

    answer = client.get(path) if form is None else client.post(path, data=form)

    assert answer.status_code == 403
    assert shown(answer) is None


def test_what_is_too_large_is_told_in_chinese(console: TestClient) -> None:
    """
    What is refused before anybody reads it is told by the page in Chinese, too.
    """
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = [
        console.post("/words/add", data={"note": "x" * 3_000_000}),
        # Of a length that nobody has announced.
        console.post("/words/add", content=iter([b"x" * 1_000_000] * 3), headers=form),
        console.post("/words/add", data=dict.fromkeys(map(str, range(300)), "1")),
        console.get("/calls?user_id=" + "x" * 17_000),
    ]

    assert [each.status_code for each in answers] == [413, 413, 400, 414]
    assert [text for text in map(shown, answers) if text is not None] == []


def test_a_page_of_an_error_is_in_chinese(console: TestClient) -> None:
    """
    Without a script the page itself says it, and says it in English to whoever reads that.
    """
    del console.headers["HX-Request"]

    chinese = console.get("/words/99").text
    english = console.get("/words/99", headers={"Accept-Language": "en"}).text

    assert '<p class="hint">敏感词 99 不存在</p>' in chinese
    assert '<p class="hint">there is no word 99</p>' in english


def test_programs_and_logs_read_english(console: TestClient) -> None:
    """
    The API says what the exception says, whatever its reader's language is.
    """
    del console.headers["HX-Request"]

    problem = console.get("/api/v1/words/99").json()

    assert (problem["title"], problem["detail"]) == ("Not Found", "there is no word 99")


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("threshold=7: expected a number", "“阈值”的值 7 无效，应为：一个数字"),
        ("threshold=None: expected a number", "“阈值”未填写，应为：一个数字"),
        (
            "action='x': expected one of block, warn",
            "“处理方式”的值 'x' 无效，应为：拦截、警告之一",
        ),
        (
            "name='a: expected b': expected a text of at most 1,000 characters",
            "“名称”的值 'a: expected b' 无效，应为：最多 1,000 个字符的文本",
        ),
        (
            "a.toml: models[0].timeout_s=-1: expected seconds, above 0 and up to 3,600",
            "a.toml：“models[0].超时（秒）”的值 -1 无效，应为：大于 0、不超过 3,600 的秒数",
        ),
        (
            "rule 'failures' is at version 3, not 2: ann changed it at 2026-05-20T09:30:00+00:00. "
            "Read it again, and edit what it is now",
            "规则 '调用失败' 当前为版本 3，而不是 2：ann 于 2026-05-20 09:30:00 修改过。"
            "请重新读取后再修改",
        ),
        ("there is no rule 'there is no word 7'", "规则 'there is no word 7' 不存在"),
        ("of a later version: expected something", "of a later version: expected something"),
        ("there is no word " + "9" * 3_000, "there is no word " + "9" * 3_000),
    ],
)
def test_details_are_found_again_by_their_patterns(text: str, chinese: str) -> None:
    """
    Names and values stay as they are; a sentence that nobody knows here is told as it is.
    """
    assert (Details(ZH)(text), Details(EN)(text)) == (chinese, text)


@pytest.mark.parametrize(
    ("error", "chinese"),
    [
        (
            SinkUnavailable("OperationalError: disk I/O error"),
            "存储返回：OperationalError: disk I/O error",
        ),
        (SinkUnavailable("there was no time left"), "时间不足"),
        (
            MissingExtra("a rate window", "quotas"),
            "“调用速率”需要安装附加组件：pip install 'ai-ledger[quotas]'",
        ),
        (InvalidValue("tz", "x", "what nobody says"), "tz='x': expected what nobody says"),
        (RuntimeError("a secret"), "出现内部错误，详情见控制台的日志"),
    ],
)
def test_errors_are_told_in_chinese(error: Exception, chinese: str) -> None:
    """
    Also where a driver speaks, whose words no catalogue has.
    """
    assert told(error, ZH) == chinese


def test_every_pattern_has_its_chinese_and_its_source() -> None:
    """
    What is translated is said somewhere in the library, or by what reads requests.
    """
    every = (*patterns.SENTENCES, *patterns.EXPECTED, *patterns.THINGS)
    source = " ".join(
        node.value
        for path in Path(ai_ledger.__file__).parent.rglob("*.py")
        if path.name != "patterns.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    # Of pydantic, Starlette, zipfile, csv and tomllib.
    others = ("a valid ", "a finite number", "greater than or", "less than or", "Tuple should")
    others += ("String should", "Decimal input", "Too many", "Part ")
    others += ("Not Found", "Method Not Allowed", "File is not a zip file", "unexpected end")
    others += ("Invalid ", "Unclosed ", "Unterminated ", "Cannot ", "Expected ", "%(reason)s (at ")

    def is_said(pattern: str) -> bool:
        # Some are put together, so that a whole one stands nowhere.
        between = r"%\(\w+\)s|[:;.,'=] ?| variables whose| always| more than"
        pieces = [each.strip() for each in re.split(between, pattern)]
        return max(pieces, key=len) in source

    assert [each for each in every if ZH.gettext(each) == each] == []
    assert [text for text in patterns.TYPED.values() if ZH.gettext(text) == text] == []
    assert [each for each in every if not each.startswith(others) and not is_said(each)] == []


def test_no_text_takes_long_to_be_found() -> None:
    """
    Names that are made of the words of sentences do not keep the console busy.
    """
    said = " is at version 1, not 1: a changed it at b. Read it again, "
    texts = [said * 30, "x=1: expected " * 140, "there is a " * 180, "a: b=c: " * 240]

    begun = time.perf_counter()
    assert [Details(ZH)(text) for text in texts] == texts
    assert time.perf_counter() - begun < 20


def test_usual_rules_are_called_by_their_names_in_chinese(console: TestClient) -> None:
    """
    A rule that has the name it came with is called that in the reader's language; the stored
    name stays, and one that somebody gave is shown as it is.
    """
    del console.headers["HX-Request"]

    zh = console.get("/alerts/rules").text
    en = console.get("/alerts/rules", headers={"Accept-Language": "en"}).text
    form = console.get("/alerts/rules/1").text
    labels = Labels(ZH)

    assert tuple(each.name for each in default_rules()) == names.RULES
    assert all(HAN.search(labels.rule(name)) for name in names.RULES)
    assert all(f">{labels.rule(name)}</a>" in zh and f">{name}</a>" in en for name in names.RULES)
    assert ">own</a>" in zh
    assert '<h1 class="ids">预算已用 80%</h1>' in form
    assert 'value="budget 80 %"' in form
    assert labels.thing("alert_rule", "1", {"name": "failures"}) == "调用失败 (1)"
    assert labels.thing("model", "1", {"name": "failures"}) == "failures (1)"
