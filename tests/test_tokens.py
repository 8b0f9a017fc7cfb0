"""Counting tokens: with what is on this machine, and honestly."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_ledger import tokens
from ai_ledger.records import CallRecord
from ai_ledger.tokens import count_tokens, encoding_for, is_cached

ENGLISH = "The quick brown fox jumps over the lazy dog while the rain keeps falling. " * 20
CHINESE = "请根据以下岗位要求分析候选人的匹配程度,并给出不超过三条的改进建议。" * 20
CODE = "def total(values):\n    return sum(value for value in values if value)\n\n" * 20


class FakeEncoding:
    """A tokenizer: one token a word."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode_ordinary(self, text: str) -> list[int]:
        self.seen.append(text)
        return [0] * len(text.split())


@pytest.fixture(autouse=True)
def _no_tokenizers(monkeypatch, tmp_path):
    """No tokenizer on this machine, unless a test puts one there, and no network."""
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    def refuse(*args, **kwargs):
        raise AssertionError("tokens must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    tokens._encoding.cache_clear()
    yield
    tokens._encoding.cache_clear()


@pytest.fixture
def bpe(monkeypatch) -> FakeEncoding:
    """bpe-openai is installed."""
    encoding = FakeEncoding()
    monkeypatch.setitem(
        sys.modules, "bpe_openai", SimpleNamespace(get_encoding=lambda name: encoding)
    )
    return encoding


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5.2", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("ft:gpt-4o-mini:org::id", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("GPT-3.5-Turbo-0125", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("qwen-plus", None),
        ("deepseek-chat", None),
        ("gpt-4x", None),
        ("my-gpt-4o", None),
        ("", None),
        (None, None),
        ("o" * 1_000_000, None),
    ],
)
def test_only_known_models_have_an_encoding(model, encoding):
    """
    A model whose tokenizer nobody told us of is estimated, never counted with another's.
    """
    assert encoding_for(model) == encoding


def test_a_tokenizer_on_this_machine_counts(bpe):
    """
    Its count is its own, and says so.
    """
    assert count_tokens("four words are here", "gpt-4o") == (4, "counted")


def test_a_model_without_encoding_is_estimated_although_there_is_a_tokenizer(bpe):
    """
    Qwen is not counted with OpenAI's vocabulary.
    """
    assert count_tokens("four words are here", "qwen-plus")[1] == "estimated"
    assert bpe.seen == []


def test_a_chat_is_framed_as_in_the_cookbook(bpe):
    """
    Three tokens a message, one a name, three for the reply, and what is said.
    """
    messages = [
        {"role": "system", "content": "be brief"},  # 3 + 1 + 2
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "hello there"}]},
        SimpleNamespace(
            role="assistant",
            content=None,
            tool_calls=[SimpleNamespace(function=SimpleNamespace(name="f", arguments="{} {}"))],
        ),  # 3 + 1 + 1 + 2
    ]

    assert count_tokens(messages, "gpt-4o") == (6 + 8 + 7 + 3, "counted")


def test_an_image_makes_the_count_an_estimate(bpe):
    """
    What cannot be counted is not passed off as counted.
    """
    messages = [{"role": "user", "content": [{"type": "image_url"}, "two words"]}]

    assert count_tokens(messages, "gpt-4o") == (3 + 3 + 1 + 2, "estimated")


@pytest.mark.parametrize("odd", [ValueError("too long"), RuntimeError("stack")])
def test_a_tokenizer_that_refuses_is_replaced_by_the_estimate(monkeypatch, bpe, odd):
    """
    Never raises: the estimate takes over and says so.
    """

    def refuse(text):
        raise odd

    monkeypatch.setattr(bpe, "encode_ordinary", refuse)

    assert count_tokens("hello there", "gpt-4o") == (3, "estimated")


def test_a_tokenizer_gets_clean_text_in_pieces_cut_at_spaces(bpe):
    """
    Lone surrogates are replaced, and no word is cut in two.
    """
    text = "word \ud800 " * 10_000

    assert count_tokens(text, "gpt-4o") == (20_000, "counted")
    assert "".join(bpe.seen) == text.replace("\ud800", "\ufffd")
    assert max(map(len, bpe.seen)) <= 16_384


def test_tiktoken_is_not_asked_for_what_it_would_download(monkeypatch, tmp_path):
    """
    A missing or damaged file means the estimate; tiktoken is not even imported.
    """
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    url, _ = tokens._FILES["o200k_base"]
    name = hashlib.sha1(url.encode()).hexdigest()
    seen = [is_cached("o200k_base")]
    (tmp_path / name).write_bytes(b"damaged")
    seen.append(is_cached("o200k_base"))

    assert seen == [False, False]
    assert count_tokens("hello", "gpt-4o")[1] == "estimated"


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", None])
def test_tiktoken_is_used_when_its_file_is_here(monkeypatch, tmp_path, variable):
    """
    In the folder that tiktoken itself would look in.
    """
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    folder = tmp_path / "data-gym-cache"
    folder.mkdir()
    if variable:
        monkeypatch.setenv(variable, str(folder))
    else:
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    url, _ = tokens._FILES["cl100k_base"]
    (folder / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"vocabulary")
    monkeypatch.setitem(
        tokens._FILES, "cl100k_base", (url, hashlib.sha256(b"vocabulary").hexdigest())
    )
    monkeypatch.setitem(
        sys.modules, "tiktoken", SimpleNamespace(get_encoding=lambda name: FakeEncoding())
    )

    assert count_tokens("four words are here", "gpt-4") == (4, "counted")


def test_an_empty_cache_variable_switches_tiktoken_off(monkeypatch, tmp_path):
    """
    It means "no cache" to tiktoken, that is, a download each time.
    """
    url, _ = tokens._FILES["cl100k_base"]
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"vocabulary")
    monkeypatch.setitem(
        tokens._FILES, "cl100k_base", (url, hashlib.sha256(b"vocabulary").hexdigest())
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")

    assert not is_cached("cl100k_base")


@pytest.mark.parametrize(
    ("text", "model", "exact"),
    [
        pytest.param(ENGLISH, "gpt-4o", 301, id="English, o200k"),
        pytest.param(CHINESE, "gpt-4o", 500, id="Chinese, o200k"),
        pytest.param(CODE, "gpt-4o", 300, id="code, o200k"),
        pytest.param(ENGLISH, "gpt-4", 301, id="English, cl100k"),
        pytest.param(CHINESE, "gpt-4", 740, id="Chinese, cl100k"),
        pytest.param(CODE, "gpt-4", 300, id="code, cl100k"),
    ],
)
def test_the_estimate_is_near(text, model, exact):
    """
    Within a fifth of what the tokenizers of OpenAI counted for these texts.
    """
    count, source = count_tokens(text, model)

    assert source == "estimated"
    assert abs(count - exact) <= exact / 5


def test_chinese_by_the_providers_figures():
    """
    DeepSeek and Qwen say 0.6 tokens a character.
    """
    assert count_tokens("候选人的匹配程度十分高" * 100, "deepseek-chat") == (660, "estimated")


@example(" ", None)
@example("\t\t", "gpt-4o")
@given(st.text(), st.sampled_from(["gpt-4", "gpt-4o", "qwen-plus", None]))
def test_no_text_is_nothing_and_none_fails(text, model):
    """
    At least one token for any text, none for none, whatever characters it has.
    """
    count, source = count_tokens(text, model)

    assert source == "estimated"
    assert (count > 0) == (text != "")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        [],
        [None],
        [1],
        ["text"],
        [{}],
        [{"content": [None, 1, {"text": 5}]}],
        [{"tool_calls": [None, {"function": 3}]}],
        {"role": "user"},
        (message for message in [{"content": "x"}]),
    ],
)
def test_odd_messages_do_not_raise(content):
    """
    What the SDK would refuse is counted as far as it goes.
    """
    assert count_tokens(content, "gpt-4o")[0] >= 0


@pytest.mark.parametrize("depth", [100, 600, 20_000])
def test_what_is_nested_too_deep_is_counted_as_text(depth):
    """
    Texts nobody can read as JSON are texts all the same.
    """
    content = '{"messages":' + "[" * depth + "]" * depth + "}"
    record = CallRecord(
        id="x", started_at=datetime(2026, 1, 1, tzinfo=UTC), request_content=content,
        response_content="well", usage_source="estimated",
    )  # fmt: skip

    counted = tokens.counted(record)

    assert counted.input_tokens > 0
    assert (counted.output_tokens, counted.usage_source) == (1, "estimated")


def test_a_long_text_is_sampled(monkeypatch):
    """
    However long a text, the interpreter is held for sixty thousand characters of it.
    """
    seen: list[int] = []
    kinds = tokens._kinds

    def watched(text):
        seen.append(len(text))
        return kinds(text)

    monkeypatch.setattr(tokens, "_kinds", watched)

    assert count_tokens("请" * 1_000_000, "qwen-plus") == (600_000, "estimated")
    assert seen == [65_536]


@pytest.mark.parametrize("text", ["a" * 10_000_000, "请" * 10_000_000, " 1\n" * 3_000_000])
def test_ten_megabytes_are_estimated_at_once(text):
    """
    A long text is sampled, and comes out as the sum of its parts.
    """
    part = len(text) // 1_000
    # Of this thread: what others do meanwhile is not its doing.
    started = time.thread_time()
    count, _ = count_tokens(text, "qwen-plus")
    took = time.thread_time() - started

    assert took < 0.5
    assert count == pytest.approx(1_000 * count_tokens(text[:part], "qwen-plus")[0], rel=0.01)


def test_a_child_forked_while_a_tokenizer_loads_counts_too(tmp_path):
    """
    The fork waits for the import, so that the child does not inherit half of it.
    """
    (tmp_path / "bpe_openai.py").write_text(
        "import time\n"
        "time.sleep(0.5)\n"
        "class Encoding:\n"
        "    def encode_ordinary(self, text): return text.split()\n"
        "def get_encoding(name): return Encoding()\n"
    )
    program = """
import os, sys, threading, time
from ai_ledger.tokens import count_tokens

thread = threading.Thread(target=count_tokens, args=("a b", "gpt-4o"))
thread.start()
while "bpe_openai" not in sys.modules:
    time.sleep(0.001)
child = os.fork()
if not child:
    os.write(1, repr(count_tokens("a b", "gpt-4o")).encode())
    os._exit(0)
deadline = time.monotonic() + 20
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(child, 9)
        os.write(1, b"the child hangs")
        break
    time.sleep(0.01)
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "(2, 'counted')"
