"""What the console's pages are made of: nothing from another host, nothing inline."""

from __future__ import annotations

import ast
import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

from ai_ledger import web

WEB = Path(web.__file__).parent
STATIC = WEB / "static"
VENDOR = STATIC / "vendor"
TEMPLATES = sorted(WEB.glob("*/templates/**/*.*"))
OURS = sorted(
    path
    for path in STATIC.rglob("*")
    if path.suffix in {".css", ".js", ".svg"} and VENDOR not in path.parents
)

LEADING = {"src", "href", "srcset", "action", "formaction", "data", "poster", "xlink:href"}
"""Attributes that make a browser go somewhere."""
INERT_SCRIPTS = {"application/json", "application/ld+json"}
NAMESPACES = ("http://www.w3.org/",)


def name_of(path: Path) -> str:
    return str(path.relative_to(WEB))


def markup_of(path: Path) -> str:
    """A template with an ``x`` for each value, and without its statements and comments."""
    text = path.read_text("utf-8")
    parts: list[str] = []
    in_block = in_value = False
    for _, kind, value in jinja2.Environment(extensions=["jinja2.ext.i18n"]).lex(text):
        if kind == "variable_begin":
            in_value = True
        elif kind == "variable_end":
            in_value = False
            parts.append("x")
        elif kind in {"block_begin", "comment_begin"}:
            in_block = True
        elif kind in {"block_end", "comment_end"}:
            in_block = False
        elif kind in {"data", "raw_begin", "raw_end"} and not (in_block or in_value):
            parts.append(value if kind == "data" else "")
    return "".join(parts)


def expressions_of(path: Path) -> Iterator[tuple[str, str]]:
    """The tokens of a template's own language: kind, text."""
    for _, kind, value in jinja2.Environment(extensions=["jinja2.ext.i18n"]).lex(
        path.read_text("utf-8")
    ):
        if kind not in {"data", "whitespace", "comment"}:
            yield kind, value


class Lint(HTMLParser):
    """Collects what a content security policy without inline script would refuse."""

    def __init__(self, text: str, *, styled: bool = False) -> None:
        super().__init__()
        self.styled = styled
        self.found: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name: value or "" for name, value in attrs}
        if tag == "script" and "src" not in names and names.get("type") not in INERT_SCRIPTS:
            self.found.append("an inline <script>")
        if tag == "style" and not self.styled:
            self.found.append("<style>")
        if tag in {"iframe", "object", "embed", "base", "frame"}:
            self.found.append(f"<{tag}>")
        for name, value in names.items():
            if name == "style":
                self.found.append(f"<{tag} style>")
            if name.startswith(("on", "hx-on", "data-hx-on")):
                self.found.append(f"<{tag} {name}>")
            if re.match(r"\s*(javascript|data|vbscript):", value, re.IGNORECASE) or (
                name.startswith("hx-") and re.search(r"\bjs\s*:", value)
            ):
                self.found.append(f'<{tag} {name}="{value}">')
            if name in LEADING | {"hx-get", "hx-post", "hx-put", "hx-delete", "sse-connect"} and (
                re.match(r"\s*([a-z][a-z0-9+.-]*:)?//", value, re.IGNORECASE)
            ):
                self.found.append(f'<{tag} {name}="{value}">')


def without_comments(path: Path) -> str:
    text = path.read_text("utf-8")
    text = re.sub(r"/\*.*?\*/|<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


def test_the_manifest_names_exactly_what_is_there() -> None:
    """
    Each file that others made stands in the manifest, byte for byte, with its licence's text.
    """
    manifest = tomllib.loads((VENDOR / "manifest.toml").read_text("utf-8"))["file"]
    there = {path.name for path in VENDOR.iterdir() if path.is_file()} - {"manifest.toml"}
    licences = {path.stem for path in (VENDOR / "licences").iterdir()}

    assert {each["name"]: each["sha256"] for each in manifest} == {
        name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in there
    }
    assert {re.split(r"\.(?:umd\.)?min\.js", each["name"])[0] for each in manifest} == licences
    for each in manifest:
        assert each["version"]
        assert each["package"]
        assert each["licence"]
        assert each["why"]
    for path in (VENDOR / "licences").iterdir():
        assert len(path.read_text("utf-8")) > 200, f"{path.name} holds no licence"


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_a_template_holds_nothing_inline_and_leads_nowhere_else(path: Path) -> None:
    """
    No script, style or handler in a page, no other host, no value as markup.
    """
    # A report's file stands alone, on whose disk it is, and brings its own style.
    styled = name_of(path) == "reports/templates/file.html"
    assert Lint(markup_of(path), styled=styled).found == []
    tokens = list(expressions_of(path))
    for (kind, text), (_, after) in itertools.pairwise(tokens):
        assert not (kind == "pipe" and after in {"safe", "forceescape"}), f"|{after}"
        assert (kind, text, after) != ("block_begin", "{%", "autoescape")
    assert "Markup" not in {text for _, text in tokens}
    assert "https:" not in "".join(text for kind, text in tokens if kind != "string")


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_a_static_file_names_no_other_host(path: Path) -> None:
    """
    Scripts and style sheets of our own reach nothing but the console.
    """
    text = without_comments(path)
    addresses = re.findall(r"\b(?:https?|wss?):/[^\s\"'`)]*", text)
    protocolless = re.findall(r"(?:url\(|@import|[\"'`(])\s*[\"']?(//[a-z0-9][^\s\"'`)]*)", text)

    assert [each for each in addresses if not each.startswith(NAMESPACES)] == []
    assert protocolless == []
    if path.suffix == ".js":
        # One place takes markup of the server's own: rows of the live tail, whose texts the
        # templates have escaped, as those of every page.
        text = text.replace("made.innerHTML = text;", "") if path.name == "calls.js" else text
        assert re.findall(r"\beval\(|new Function|innerHTML|outerHTML|document\.write", text) == []
        assert re.findall(r"insertAdjacentHTML|\.cssText|setAttribute\(\"style", text) == []
    if path.suffix == ".svg":
        assert Lint(text).found == []


def test_values_become_markup_in_one_place_alone() -> None:
    """
    Nothing but the escaping of charts' data makes markup of a text.
    """
    found = {
        name_of(path)
        for path in WEB.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and node.id == "Markup" and isinstance(node.ctx, ast.Load)
    }

    assert found == {"rendering.py"}


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ("<script>alert(1)</script>", ["an inline <script>"]),
        ('<p style="color:red" onclick="x()">', ["<p style>", "<p onclick>"]),
        ('<a href="javascript:x()">', ['<a href="javascript:x()">']),
        ('<img src="//evil.example/x.png">', ['<img src="//evil.example/x.png">']),
        ('<form hx-vals="js:{a: 1}">', ['<form hx-vals="js:{a: 1}">']),
        ('<button hx-on:click="x()">', ["<button hx-on:click>"]),
        ('<script src="x" defer></script><a href="/calls">', []),
    ],
)
def test_the_lint_sees(markup: str, found: list[str]) -> None:
    """
    What it is there for, it finds.
    """
    assert Lint(markup).found == found
