"""Every text of the console in Chinese."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from ai_ledger import web

WEB = Path(web.__file__).parent
ROOMS = sorted(path.parent.name for path in WEB.glob("*/__init__.py"))
KEYWORDS = {"_": None, "say": None, "gettext": None, "N_": None, "ngettext": (1, 2)}
TEMPLATE = {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}


@cache
def said_in(room: str) -> dict[str, str]:
    """English text of a room → where it stands; of plurals the many. The frame has the rest."""
    paths = [*(WEB / room).rglob("*.py"), *(WEB / room).rglob("*.html")]
    if room == "frame":
        paths += WEB.glob("*.py")
        paths += (WEB / "language").glob("*.py")
    found: dict[str, str] = {}
    for path in sorted(paths):
        python = path.suffix == ".py"
        method = "python" if python else "jinja2.ext:babel_extract"
        for line, message, _, _ in extract_from_file(
            method, path, keywords=KEYWORDS, options=None if python else TEMPLATE
        ):
            text = message[-1] if isinstance(message, tuple) else message
            found[text] = f"{path.relative_to(WEB)}:{line}"
    return found


@cache
def chinese_of(room: str) -> dict[str, str]:
    """English → Chinese, as the room's file has it."""
    path = WEB / room / "zh.po"
    if not path.exists():
        return {}
    with path.open("rb") as file:
        catalog: Catalog = read_po(file, locale="zh", abort_invalid=True)
    found: dict[str, str] = {}
    for message in catalog:
        if message.id:
            assert not message.fuzzy, f"{room}: {message.id!r} is marked fuzzy, and not used"
            key = message.id[-1] if isinstance(message.id, (tuple, list)) else message.id
            text = message.string
            found[key] = text[0] if isinstance(text, (tuple, list)) else text
    return found


@cache
def texts_of_python() -> set[str]:
    """Every text in the console's Python: some stand in a table, and are translated later."""
    return {
        node.value
        for path in WEB.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def places(text: str) -> list[str]:
    """The values that are put into a text, and single per cents, which would break it."""
    return sorted(re.findall(r"%\(\w+\)[a-z]|%(?![(%])", text.replace("%%", "")))


@pytest.mark.parametrize("room", ROOMS)
def test_every_text_has_its_chinese(room: str) -> None:
    """
    What a room says in English it also says in Chinese: all rooms' files are one list.
    """
    known = {text: chinese for each in ROOMS for text, chinese in chinese_of(each).items()}

    assert {text: place for text, place in said_in(room).items() if not known.get(text)} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_chinese_is_left_over(room: str) -> None:
    """
    Each translation belongs to a text that is still said.
    """
    said = {text for each in ROOMS for text in said_in(each)} | texts_of_python()

    assert sorted(set(chinese_of(room)) - said) == []


@pytest.mark.parametrize("room", ROOMS)
def test_translations_take_the_same_values(room: str) -> None:
    """
    A text in Chinese is not empty, is Chinese or a name, and takes the values of the English.
    """
    for english, chinese in chinese_of(room).items():
        assert chinese.strip(), english
        assert places(chinese) == places(english), english


def test_a_text_has_one_translation() -> None:
    """
    Two rooms that say the same in English say the same in Chinese: all share one list.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for room in ROOMS:
        for english, chinese in chinese_of(room).items():
            found[english].add(chinese)

    assert {english: texts for english, texts in found.items() if len(texts) > 1} == {}


def test_the_texts_are_found() -> None:
    """
    Templates and Python are both read, or the tests above would prove nothing.
    """
    assert "Overview" in said_in("frame")
    assert len(said_in("frame")) > 30
