"""The OpenAPI document is true: everything in it is described, and everything behind it obeys."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from starlette.testclient import TestClient
from tests.web import sample

import ai_ledger.web
from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app
from ai_ledger.web.app import _api
from ai_ledger.web.problems import MEDIA_TYPE

METHODS = ("get", "post", "put", "patch", "delete")
READING = {"get", "list", "export", "follow", "check"}
CHANGING = {
    "add", "make", "import", "edit", "set", "enable", "disable", "reactivate", "deactivate",
    "remove", "delete", "restore", "revoke", "erase", "ack", "ignore", "resolve", "reopen",
    "reprice", "stop", "take", "evaluate", "test", "check",
}  # fmt: skip
"""With which verb the name of an operation begins: clients call their functions by it."""
WEB = Path(ai_ledger.web.__file__).parent
EXAMPLES = 6
"""Good ones and bad ones of each operation, for each of two readers; always the same."""

CONFIG: dict[str, Any] = {
    "base-url": "http://127.0.0.1/api/v1",
    "seed": 20260520,
    "phases": {"coverage": {"enabled": False}, "stateful": {"enabled": False}},
    "generation": {"allow-x00": True, "exclude-header-characters": "\r\n\0"},
    # What FastAPI takes for a number, a list or a truth is wider than what JSON Schema does,
    # and a name of a zone or a cursor is refused for reasons that no schema can state.
    "checks": {
        "positive_data_acceptance": {"enabled": False},
        "negative_data_rejection": {"enabled": False},
    },
}


def app_for(ledger: Ledger, access: Access) -> Any:
    # The name under which schemathesis asks for the document.
    return create_app(
        ledger, auth=lambda request: access, clock=lambda: sample.NOW, hosts=["testserver"]
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger with the sample's calls for all of these tests."""
    folder: Path = tmp_path_factory.mktemp("openapi")
    with Ledger(f"sqlite:///{folder / 'ledger.db'}", journal=folder / "journal") as ledger:
        ledger.store.write(sample.calls())
        yield ledger
    close_databases()


@pytest.fixture(scope="module")
def document(filled: Ledger) -> dict[str, Any]:
    """The document, as whoever asks gets it."""
    with TestClient(
        app_for(filled, Access(name="ada", role="admin")), base_url="http://127.0.0.1"
    ) as client:
        return client.get("/api/v1/openapi.json").json()


def schema_for(ledger: Ledger, access: Access) -> Any:
    config = SchemathesisConfig.from_dict(CONFIG)
    app = app_for(ledger, access)
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, config=config)


@pytest.fixture(scope="module")
def admin(filled: Ledger) -> Any:
    """The operations, as somebody meets them who may do everything."""
    return schema_for(filled, Access(name="ada", role="admin", prompts=True))


@pytest.fixture(scope="module")
def viewer(filled: Ledger) -> Any:
    """The operations, as somebody meets them who may see one organisation."""
    return schema_for(filled, Access(name="vera", role="viewer", org_id="acme"))


BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """
    It is OpenAPI 3.1.
    """
    OpenAPIV31SpecValidator(document).validate()


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """
    A verb and a noun for a name, a sentence, typed answers, and problems for what can go wrong.
    """
    names: list[str] = []
    wrong: list[str] = []
    for path, item in document["paths"].items():
        for method in METHODS:
            operation = item.get(method)
            if operation is None:
                continue
            where = f"{method.upper()} {path}"
            names.append(operation.get("operationId", where))
            verb, _, noun = names[-1].partition("_")
            verbs = READING if method == "get" else CHANGING
            if verb not in verbs or not re.fullmatch("[a-z]+(_[a-z]+)*", noun):
                wrong.append(f"{where}: the operation is called {names[-1]}")
            if not operation.get("summary", "").endswith("."):
                wrong.append(f"{where}: no sentence in summary")
            if not operation.get("tags"):
                wrong.append(f"{where}: no tag")
            wrong += [f"{where}: {each}" for each in _answers(operation)]
            wrong += [f"{where}: {each}" for each in _unbounded(operation)]

    assert wrong == []
    assert sorted(set(names)) == sorted(names)


def test_functions_are_named_like_their_operations(document: dict[str, Any]) -> None:
    """
    Whoever has read the name of an operation finds the function that answers it.
    """
    named: dict[str, str] = {}
    patterns: list[str] = []
    for path in WEB.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            for name in _operations_of(function):
                if isinstance(name, ast.Constant):
                    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
                    named[str(name.value)] = function.name
                else:
                    # One function for several kinds, which says none of their names.
                    assert isinstance(name, ast.JoinedStr)
                    patterns.append(_pattern(name))
    operations = {
        item[method]["operationId"]
        for item in document["paths"].values()
        for method in METHODS
        if method in item
    }

    several = {each for each in operations if any(re.fullmatch(p, each) for p in patterns)}
    assert operations == named.keys() | several
    # What is called test_… would be taken for a test.
    expected = {each: re.sub("^test_", "try_", each) for each in named}
    assert {each: named[each] for each in expected} == expected


def _operations_of(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                yield from (each.value for each in decorator.keywords if each.arg == "operation_id")


def _pattern(name: ast.JoinedStr) -> str:
    return "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z]+"
        for part in name.values
    )


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    good = {status: each for status, each in operation["responses"].items() if status < "400"}
    if not good:
        yield "no answer of those who succeed"
    for status, answer in good.items():
        for kind, content in answer.get("content", {}).items():
            if kind == "application/json" and not content.get("schema"):
                yield f"{status} is not typed"
        if status not in {"204"} and not answer.get("content"):
            yield f"{status} has no content"
    for status in ("401", "403", "422", "503"):
        if MEDIA_TYPE not in operation["responses"].get(status, {}).get("content", {}):
            yield f"{status} is no problem"


def _unbounded(operation: dict[str, Any]) -> Iterator[str]:
    """Parameters of numbers or texts that may be as long as they like."""
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        for each in schema.get("anyOf", [schema]):
            kind = each.get("type")
            if kind in {"integer", "number"} and not (
                {"maximum", "exclusiveMaximum", "enum", "const"} & set(each)
            ):
                yield f"{parameter['name']} may be as large as it likes"
            # An exact amount may come as a text; beside it stand the bounds of the number.
            amount = any(other.get("type") == "number" for other in schema.get("anyOf", ()))
            if (
                kind == "string"
                and parameter["in"] == "query"
                and not amount
                and not {"maxLength", "enum", "const", "format", "pattern"} & set(each)
            ):
                yield f"{parameter['name']} may be as long as it likes"


OPERATIONS = [
    (path, method)
    for path, item in _api().openapi()["paths"].items()
    for method in METHODS
    # What goes on for ever is never answered in full.
    if method in item and "text/event-stream" not in str(item[method]["responses"])
]


def obey(schema: Any, path: str, method: str) -> None:
    """Send what the document allows, and then what it forbids; every answer is one of its own."""
    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
        cases = schema[path][method].as_strategy(generation_mode=mode)

        @BOUNDED
        @given(cases)
        def check(case: Any) -> None:
            case.call_and_validate()

        try:
            check()
        except Unsatisfiable:
            # Without parameters and body there is nothing to get wrong.
            assert mode is GenerationMode.NEGATIVE


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_an_admin_sends(admin: Any, path: str, method: str) -> None:
    """
    Each answer is one that the document names, whatever is sent; never a failure of ours.
    """
    obey(admin, path, method)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_a_confined_viewer_sends(viewer: Any, path: str, method: str) -> None:
    """
    The same for somebody who may only see one organisation, and change nothing.
    """
    obey(viewer, path, method)
