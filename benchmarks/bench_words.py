"""The word filter: 20,000 words over 20,000 characters, and a megabyte of the worst."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ahocorasick_rs import AhoCorasick

from ai_ledger.policies import Words
from ai_ledger.policies.words.rows import Draft
from ai_ledger.records import CallRecord, new_id, utc_now

WORDS = 20_000
CHARACTERS = 20_000
TARGET_MS = 5.0
WORST_MS = 1_000.0
MEGABYTE = 1_000_000


def _chinese(chance: random.Random, length: int) -> str:
    return "".join(chr(chance.randrange(0x4E00, 0x9FA0)) for _ in range(length))


def _latin(chance: random.Random, length: int) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=length))


def _text(chance: random.Random, piece: Callable[[random.Random, int], str], end: str) -> str:
    """About ten letters, then punctuation or a space."""
    made = ""
    while len(made) < CHARACTERS:
        made += piece(chance, chance.randrange(4, 16)) + end
    return made[:CHARACTERS]


def _median_ms(function: Callable[[], Any], rounds: int) -> float:
    times: list[float] = []
    for _ in range(rounds + 3):
        # The thread's own time: there is nothing to wait for, and others may use the machine.
        started = time.thread_time()
        function()
        times.append(time.thread_time() - started)
    return statistics.median(times[3:]) * 1_000


def _filter(folder: str, name: str, words: set[str], **fields: Any) -> Words:
    made = Words(f"sqlite:///{Path(folder) / name}.db")
    made.rows.put([Draft(word=word, **fields) for word in sorted(words)])
    made.reload()
    return made


def run(quick: bool) -> list[dict[str, Any]]:
    """The figures: a prompt by its kind, beside the search alone; and inputs made to be slow."""
    rounds = 30 if quick else 300
    chance = random.Random(1)
    call = CallRecord(id=new_id(), started_at=utc_now(), status="unfinished")
    chinese = {_chinese(chance, chance.randrange(3, 7)) for _ in range(WORDS)}
    latin = {_latin(chance, chance.randrange(5, 12)) for _ in range(WORDS)}
    prompt = _text(chance, _chinese, "\uff0c")
    english = _text(chance, _latin, " ")
    hits = sorted(chinese)[:20]
    crossed = "*".join(f"{hit[0]}*{hit[1:]}" for hit in hits) + prompt
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        plain = _filter(folder, "plain", chinese, action="replace", replacement="x")
        fuzzy = _filter(folder, "fuzzy", chinese, action="warn", match="fuzzy", variants=True)
        other = _filter(folder, "latin", latin, action="warn")
        bare = AhoCorasick(sorted(chinese))
        bare_latin = AhoCorasick(sorted(latin))
        for name, words, text, automaton in (
            ("a Chinese prompt without any", plain, prompt, bare),
            ("a Chinese prompt with 20, starred, replaced", plain, crossed, bare),
            ("a Chinese prompt, all words fuzzy and with variants", fuzzy, prompt, bare),
            ("an English prompt", other, english, bare_latin),
        ):
            request = {"model": "m", "messages": [{"role": "user", "content": text}]}
            ours = _median_ms(lambda w=words, r=request: w.check(call, r), rounds)
            baseline = _median_ms(
                lambda a=automaton, t=text: a.find_matches_as_indexes(t, overlapping=True), rounds
            )
            rows.append(
                {
                    "name": f"20,000 words over 20,000 characters: {name}, beside the search alone",
                    "ours": round(ours, 2),
                    "baseline": round(baseline, 2),
                    "unit": "ms",
                    "ratio": round(ours / baseline, 2),
                    "target": f"<= {TARGET_MS:g} ms",
                    "met": ours <= TARGET_MS,
                }
            )
        nasty = _filter(
            folder,
            "nasty",
            {"敏感", "idiot", *("感" * n for n in range(1, 60)), *("a" * n for n in range(1, 60))},
            action="warn",
        )
        for name, text in (
            ("one letter", "a" * MEGABYTE),
            ("one character, 59 nested words", "感" * MEGABYTE),
            ("zero width", "\u200b" * MEGABYTE),
            ("letters broken by points", "a." * (MEGABYTE // 2)),
            ("a word refused at each place", "敏。感" * (MEGABYTE // 3)),
        ):
            ours = _median_ms(lambda t=text: nasty.check(call, {"input": t}), 1 if quick else 5)
            rows.append(
                {
                    "name": f"1,000,000 characters made to be slow: {name}",
                    "ours": round(ours, 1),
                    "baseline": WORST_MS,
                    "unit": "ms",
                    "ratio": round(ours / WORST_MS, 3),
                    "target": "<= 1",
                }
            )
    return rows
