"""The public names: all there, light to import, typed so that checkers agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ai_ledger


def test_all_names_can_be_imported() -> None:
    """
    ``__all__`` and ``dir()`` are sorted; what an extra brings is in the latter alone.
    """
    assert sorted(ai_ledger.__all__) == ai_ledger.__all__
    assert sorted([*ai_ledger.__all__, "Stats"]) == dir(ai_ledger)
    assert {name: hasattr(ai_ledger, name) for name in dir(ai_ledger)} == dict.fromkeys(
        dir(ai_ledger), True
    )
    assert set(ai_ledger._MODULES) | {"__version__"} == set(dir(ai_ledger))


def test_a_star_needs_nothing_but_the_core() -> None:
    """
    Without any extra, ``import *`` gives every name in ``__all__``.
    """
    absent = ("pydantic", "sqlalchemy", "alembic", "openai", "rich", "click", "genai_prices")
    program = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))
from ai_ledger import *
import ai_ledger
print(set(ai_ledger.__all__) - set(globals()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_an_unknown_name() -> None:
    """
    A name that is not there is an AttributeError that names it.
    """
    with pytest.raises(AttributeError, match="'ai_ledger' has no attribute 'Leger'"):
        _ = ai_ledger.Leger


@pytest.mark.parametrize(
    "statement",
    [
        "import ai_ledger",
        "from ai_ledger import TrackedClient, call_context, Ledger, record_ai_usage",
        "from ai_ledger import Ledger; Ledger('memory:').record('qwen-plus', input_tokens=1)",
    ],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    """
    Neither an SDK nor a database nor an HTTP library is loaded before it is needed.
    """
    heavy = ("openai", "sqlalchemy", "httpx", "httpx2", "pydantic", "rich", "click", "tiktoken")
    program = f"{statement}; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")


TYPED = """
from typing import assert_type

import openai
from ai_ledger import Stats, TrackedClient, track_ai_usage
from ai_ledger.openai import AsyncOpenAI, OpenAI


class Mine(openai.OpenAI):
    def own(self) -> int:
        return 1


assert_type(TrackedClient(openai.OpenAI()), openai.OpenAI)
assert_type(TrackedClient(openai.AsyncOpenAI(), user_id="u"), openai.AsyncOpenAI)
assert_type(TrackedClient(Mine()).own(), int)
assert_type(OpenAI(api_key="k").with_context(user_id="u"), OpenAI)
reports: type[Stats] = Stats
client: openai.AsyncOpenAI = AsyncOpenAI(api_key="k", max_retries=3)


@track_ai_usage
def bare(number: int) -> str:
    return str(number)


@track_ai_usage("analysis", "qwen-plus", user_id="user_id")
async def named(user_id: str) -> int:
    return len(user_id)


assert_type(bare(1), str)
"""


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["pyright", "--pythonpath", sys.executable], id="pyright"),
        pytest.param(["mypy", "--strict", "--no-incremental"], id="mypy"),
    ],
)
def test_type_checkers_agree(tmp_path: Path, checker: list[str]) -> None:
    """
    A tracked client keeps the static type of the client given, subclasses included.
    """
    pytest.importorskip(checker[0])
    (tmp_path / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", *checker, "typed.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
