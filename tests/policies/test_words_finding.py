"""Words in texts: which spellings are found, where they stand, and what is left alone."""

# ruff: noqa: RUF001 - letters that look like others are what this is about

from __future__ import annotations

import random
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_ledger.errors import ContentBlocked
from ai_ledger.policies.words.findings import TooMany, findings_in, mark_of, replaced_texts
from ai_ledger.policies.words.folding import SEPARATORS, Folded, fold, letters
from ai_ledger.policies.words.matcher import MAX_HITS, MAX_NESTED, MAX_REFUSED, Matcher
from ai_ledger.policies.words.rows import Word
from ai_ledger.policies.words.stream import WordStream

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def row(id: int, word: str, **fields: Any) -> Word:
    """A row of the list."""
    return Word(id=id, word=word, created_at=THEN, updated_at=THEN, **fields)


def matcher(*words: str | Word, fuzzy: bool = True, **fields: Any) -> Matcher:
    """A matcher of *words*, whose ids count from 1."""
    return Matcher(
        [
            each if isinstance(each, Word) else row(number, each, **fields)
            for number, each in enumerate(words, 1)
        ],
        fuzzy=fuzzy,
    )


def slices(text: str, *words: str | Word, fuzzy: bool = True, **fields: Any) -> list[str]:
    """What of *text* was found."""
    found = findings_in([matcher(*words, fuzzy=fuzzy, **fields)], text)
    return [text[each.start : each.end] for each in found]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        pytest.param("敏感词", "敏感词", id="as it is"),
        pytest.param("敏感词", "敏*感*词", id="punctuation between"),
        pytest.param("敏感词", "敏 感　词", id="spaces between"),
        pytest.param("敏感词", "敏\n感，词", id="lines and commas between, if it is long"),
        pytest.param("敏感词", "敏\u200b感\u2060\ufeff词", id="zero width"),
        pytest.param("敏感词", "敏\u00ad感\ufe0f词", id="soft hyphen and variation selector"),
        pytest.param("敏感词", "敏\x00感\x1d词", id="controls"),
        pytest.param("敏感词", "敏\u202e感\U000e0041词", id="direction and tags"),
        pytest.param("敏感", "敏★感", id="symbols between"),
        pytest.param("敏感", "敏\ufdd0感", id="what is no character"),
        pytest.param("加V信", "加ｖ信", id="full width, no case"),
        pytest.param("カタカナ", "ｶﾀｶﾅ", id="half width"),
        pytest.param("株式会社", "㍿", id="four letters in one character"),
        pytest.param("idiot", "IdIoT", id="case"),
        pytest.param("idiot", "ｉｄｉｏｔ", id="Latin in full width"),
        pytest.param("idiot", "ⓘ𝐝𝓲𝔬𝚝", id="circled and mathematical"),
        pytest.param("idiot", "i\u0301d\u0336i\u20ddot\u0301", id="combining marks"),
        pytest.param("idiot", "ïdíôt", id="accents"),
        pytest.param("idiot", "i d i o t", id="letter by letter"),
        pytest.param("idiot", "i.d - i*o_t", id="letter by letter, anything between"),
        pytest.param("idiot", "id*ot".replace("*", "\u200bi"), id="zero width in Latin"),
        pytest.param("idiot", "id-iot", id="broken by punctuation"),
        pytest.param("idiot", "i*d*i*o*t", id="stars"),
        pytest.param("idiot", "id@iot", id="a sign between"),
        pytest.param("kill you", "kill   you", id="a phrase, more spaces"),
        pytest.param("kill you", "KILL-you", id="a phrase, a hyphen"),
        pytest.param("don't", "don\u2019t", id="another apostrophe"),
        pytest.param("don't", "dont", id="no apostrophe"),
        pytest.param("straße", "STRASSE", id="case that makes it longer"),
        pytest.param("идиот", "ИДИОТ", id="Cyrillic"),
    ],
)  # fmt: skip
def test_evasive_spellings_are_found(word: str, text: str) -> None:
    """
    However a word is spelled, it is found where it stands, alone and amid other text.
    """
    assert slices(text, word) == [text]
    assert slices(f"前面 {text} 后面", word) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "PROJECT-NIGHTINGALE",
        "project_nightingale",
        "Project\u200b Nightingale",
        "Project\u200bNightingale",
        "ProjectNightingale",
        "Project. Nightingale",
        "Project/Nightingale",
        "Project N-i-ghtingale",
        "Pro-ject Nightingale",
        "P*roject, N.i.g.htingale",
        "project n i g h t i n g a l e",
        "p r o j e c t nightingale",
        "p r o j e c t n i g h t i n g a l e",
    ],
)
@pytest.mark.parametrize("phrase", ["Project Nightingale", "project-nightingale"])
def test_phrases(phrase: str, text: str) -> None:
    """
    Whatever stands between their words and, without spaces, in them; and put together.
    """
    assert slices(text, phrase) == [text]
    assert slices(f"前面{text}。 x {text} y", phrase) == [text, text]
    assert slices(f"a{text}", phrase) == slices(f"{text}s", phrase) == []


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        pytest.param("the rapist", "therapist", id="in one, and short"),
        pytest.param("the rapist", "the-rapists", id="a letter more"),
        pytest.param("everyday use", "every day use", id="a space in a word"),
        pytest.param("everyday use", "every, day use", id="a comma in a word"),
        pytest.param("on e way", "one way", id="its words not apart"),
        pytest.param("kill u", "k-ill u", id="five letters"),
    ],
)
def test_what_only_has_the_letters_of_a_phrase(phrase: str, text: str) -> None:
    """
    Its words stand apart, and spaces alone join nothing.
    """
    assert slices(text, phrase) == []


SHORT = (
    *("ass", "sex", "cum", "tit", "hell", "rape", "anal", "cock", "kill", "die", "sm", "av"),
    *("as is not", "the end", "敏感", "法轮", "色情", "习近", "共产", "大麻", "自杀", "台独"),
)
DOCS = Path(__file__).parents[2] / "docs"


def test_ordinary_texts_have_no_false_hits() -> None:
    """
    In all documentation of this project: only what stands there as it is in the list.
    """
    paths = [path for path in sorted(DOCS.rglob("*.md")) if "words" not in path.name]
    texts = [path.read_text("utf-8") for path in paths]
    filter_ = matcher(*SHORT)
    sentences = 0
    for text in texts:
        sentences += len(re.findall(r"[.。！？!?]\s", text))
        for each in findings_in([filter_], text):
            found = text[each.start : each.end]
            assert " ".join(found.lower().split()) == SHORT[each.rule - 1], found
    assert sentences > 300


CHINESE = """
他为人机敏，感觉十分敏锐。这台机器反应灵敏；感应器需要校准。孩子很敏捷\n感动了大家。
我们用新的办法轮流值班，设法轮换岗位。红色、情绪与光线有关。颜色！情况如何？
学习，近来进步很大。练习。近况如何？公共，产品说明。桌子很大，麻绳很细。
请各自。杀毒软件已经更新。来自：杀菌设备。舞台。独自练琴。请在平台，独立完成。
"""


def test_ordinary_chinese_sentences_have_no_false_hits() -> None:
    """
    Two characters that punctuation or a line keeps apart are no word.
    """
    texts = [*(part + "。" for part in re.split("[。！？]", CHINESE) if part.strip()), CHINESE]
    hits = [each for text in texts for each in slices(text, *SHORT)]

    # One sentence has the characters side by side: that is what such a row asks for.
    assert hits == ["法轮"] * 4


@pytest.mark.parametrize(
    ("word", "text"),
    [
        pytest.param("cunt", "Scunthorpe", id="inside of another word"),
        pytest.param("ass", "class, assess, pass", id="at the ends of others"),
        pytest.param("assets", "as sets", id="across words"),
        pytest.param("therapist", "the rapist", id="one space in it"),
        pytest.param("assets", "as, sets", id="a comma in it"),
        pytest.param("as", "a.s", id="two letters are not put together"),
        pytest.param("ass", "as.s", id="three only letter by letter"),
        pytest.param("ass", "ass1", id="a digit is a letter"),
        pytest.param("敏感", "他很机敏。感谢", id="two characters across sentences"),
        pytest.param("敏感", "机敏\n感谢", id="two characters across lines"),
        pytest.param("加v", "加value", id="a Latin end is the end of a word"),
        pytest.param("v信", "gov信", id="a Latin beginning too"),
        pytest.param("頭髮", "头发", id="simplified, without variants"),
        pytest.param("idiot", "1d10t", id="leet, without fuzzy"),
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_left_alone(word: str, text: str) -> None:
    """
    Words with spaces between them are whole words, and short ones are not put together.
    """
    assert slices(text, word) == []


def test_traditional_and_simplified_where_the_row_says_so() -> None:
    """
    Either spelling of the row finds either in the text; a row that says nothing only its own.
    """
    assert slices("頭髮 头发 头髮", row(1, "頭髮", variants=True)) == ["頭髮", "头发", "头髮"]
    assert slices("頭髮 头发", row(1, "头发", variants=True)) == ["頭髮", "头发"]
    assert slices("頭髮 头发", row(1, "头发")) == ["头发"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        pytest.param("idiot", "1d10t", id="digits"),
        pytest.param("idiot", "іdіоt", id="Cyrillic letters"),
        pytest.param("assault", "@ss@ult", id="signs"),
        pytest.param("idiot", "idiiiiiot", id="a letter many times"),
        pytest.param("idiot", "idiotttt", id="the last letter many times"),
        pytest.param("敏感", "民感", id="the same sound"),
        pytest.param("敏感词", "闽*敢*瓷", id="the same sound, stars between"),
    ],
)  # fmt: skip
def test_fuzzy_words(word: str, text: str) -> None:
    """
    Looks and sounds count for fuzzy rows only, and only while the switch is on.
    """
    fuzzy = row(1, word, match="fuzzy")

    assert slices(text, fuzzy) == [text]
    assert slices(f"x {text} y", fuzzy) == [text]
    assert slices(word, fuzzy) == [word]
    assert slices(text, fuzzy, fuzzy=False) == []
    assert slices(word, fuzzy, fuzzy=False) == [word]
    assert slices(text, row(1, word)) == []


def test_fuzzy_words_are_still_whole_words() -> None:
    """
    One letter more is another word: no distance is allowed.
    """
    shot = row(1, "shot", match="fuzzy")

    assert slices("shoot shut snapshot sh0t", shot) == ["sh0t"]


def test_all_words_are_found_where_they_overlap() -> None:
    """
    Each row at each place, the longest first.
    """
    text = "敏感词语"
    found = findings_in([matcher("敏感", "敏感词", "感词语", "语")], text)

    assert [(each.rule, each.start, each.end) for each in found] == [
        (2, 0, 3), (1, 0, 2), (3, 1, 4), (4, 3, 4),
    ]  # fmt: skip


def test_several_rows_with_one_spelling() -> None:
    """
    Rows that fold to the same are all named, that of the organisation first.
    """
    both = [matcher("Foo!"), Matcher([row(7, "foo", org_id="a"), row(8, "FOO", org_id="a")])]

    assert [each.rule for each in findings_in(both, "foo")] == [7, 8, 1]


# Text for properties: letters of the words and everything that may stand between them.
IGNORABLE = st.text(st.sampled_from("\u200b\u200d\u2060\ufeff\u00ad\u202e\ufe0f\x01"), max_size=3)
WORDS = ("敏感", "敏感词", "感冒药", "idiot", "bad word", "加V信")
_CHARACTERS = "敏感词冒药idotbawrd加vV信 -*.,。\n\u200b\u0301ｉＶ@㍿"
# Whole words among it, or hardly any text would have one.
SOUP = st.lists(
    st.sampled_from(
        [*_CHARACTERS, *WORDS, "敏*感", "i d i o t", "id-iot", "x", " ", "idi\u200bot"]
    ),
    max_size=25,
).map("".join)


@given(SOUP)
def test_offsets_map_back(text: str) -> None:
    """
    What stands at the offsets of a finding folds to the word.
    """
    for each in findings_in([matcher(*WORDS)], text):
        found = letters(fold(text[each.start : each.end]))
        assert found == letters(fold(WORDS[each.rule - 1]))


@given(st.sampled_from(WORDS), st.data())
def test_ignorable_characters_anywhere_change_nothing(word: str, data: st.DataObject) -> None:
    """
    Whatever cannot be seen may stand between any two characters.
    """
    text = "".join(character + data.draw(IGNORABLE) for character in word)

    assert WORDS.index(word) + 1 in findings_in([matcher(*WORDS)], f"（{text}）").rules()


@given(SOUP)
def test_replaced_text_has_no_word_left(text: str) -> None:
    """
    Also none that replacing has put together.
    """
    rows = [
        row(number, word, action="replace", replacement=("", None, "o")[number % 3])
        for number, word in enumerate(WORDS, 1)
    ]
    (changed,), _ = replaced_texts([Matcher(rows)], [text])

    assert findings_in([Matcher(rows)], changed) == ()


def test_words_nested_beyond_reason() -> None:
    """
    A text that makes a new word of each replacement is replaced as a whole.
    """
    rows = [row(1, "敏感", action="replace", replacement="")]
    text = "敏" * 50 + "感" * 50

    assert replaced_texts([Matcher(rows)], [text])[0] == ["***"]


def test_replacing_in_several_texts() -> None:
    """
    A word that goes on in the next part is replaced where it begins; walls are not crossed.
    """
    rows = [row(1, "敏感词", action="replace", replacement="好")]
    texts = ["a敏", "感词b", "敏", "感词"]

    changed, hits = replaced_texts([Matcher(rows)], texts, joined=frozenset({1}))

    assert changed == ["a好", "b", "敏", "感词"]
    assert hits == []


def test_an_accent_goes_with_its_letter() -> None:
    """
    Nothing of a replaced word is left over.
    """
    rows = [row(1, "cafe", action="replace", replacement="x")]

    assert replaced_texts([Matcher(rows)], ["un cafe\u0301!"])[0] == ["un x!"]


def test_too_many_places_are_not_replaced_one_by_one() -> None:
    """
    The caller is told, and refuses.
    """
    with pytest.raises(TooMany) as raised:
        replaced_texts([matcher("感", action="replace")], ["感" * 20_000])

    assert raised.value.rules == (1,)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    """*text* cut at these places."""
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=300)
@given(SOUP, st.lists(st.integers(0, 80), max_size=40), st.booleans())
def test_a_stream_in_any_split_gives_the_same_verdict(
    text: str, cuts: list[int], fuzzy: bool
) -> None:
    """
    The same findings at the same offsets as in the whole, and nothing shown is lost.
    """
    rows = [
        row(number, word, action="warn", match="fuzzy" if fuzzy else "exact")
        for number, word in enumerate(WORDS, 1)
    ]
    matchers = [Matcher(rows)]
    stream = WordStream(matchers)
    shown = "".join([*map(stream.feed, pieces_of(text, cuts)), stream.finish()])

    assert shown == text
    assert set(stream.findings) == set(findings_in(matchers, text))
    assert len(stream.findings) == len(set(stream.findings))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_a_stream_replaces_and_blocks(size: int) -> None:
    """
    Nothing of a word is shown before it is known, whatever the pieces.
    """
    rows = [row(1, "苹果", action="replace", replacement="水果"), row(2, "idiot")]
    text = "我的 苹-果 和香蕉，" * 20

    stream = WordStream([Matcher(rows)])
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    shown = "".join([*map(stream.feed, parts), stream.finish()])
    assert shown == "我的 水果 和香蕉，" * 20

    stream = WordStream([Matcher(rows)])
    shown = ""
    with pytest.raises(ContentBlocked) as raised:
        for part in [*parts, *"you i d i o t and so on, and on"]:
            shown += stream.feed(part)
        stream.finish()
    assert raised.value.rules == (2,)
    assert "i d" not in shown


def test_a_stream_shows_early() -> None:
    """
    No more is held back than the longest word and a few letters, so readers see text come.
    """
    stream = WordStream([matcher("敏感词")])

    shown = "".join(map(stream.feed, "一二三四五六七八九十" * 10))

    assert len(shown) >= 90


def test_a_stream_without_words() -> None:
    """
    Passes everything on at once.
    """
    stream = WordStream([])

    assert (stream.feed("a"), stream.feed("b"), stream.finish()) == ("a", "b", "")


@pytest.mark.parametrize("action", ["block", "warn", "replace"])
def test_a_text_of_nothing_but_near_misses(action: Any) -> None:
    """
    Is not looked at for ever: after 20,000 what is nearly a word is taken for one.
    """
    filter_ = matcher("敏感", action=action)

    assert filter_.find(Folded(["敏。感" * MAX_REFUSED])) == []
    begun = "敏。感" * (MAX_REFUSED + 5)
    assert len(filter_.find(Folded([begun]))) == 5
    found = filter_.find(Folded(["敏。感" * 300_000]), until_blocked=True)
    assert 1 <= len(found) <= MAX_HITS


NASTY = [
    pytest.param("a" * 10**6, ["a" * n for n in range(1, 100)], id="one letter"),
    pytest.param("感" * 10**6, ["感" * n for n in range(1, 100)], id="one character, nested words"),
    pytest.param("a " * 500_000, [" ".join("a" * n) for n in range(1, 50)], id="one-letter words"),
    pytest.param("a." * 500_000, ["a" * n for n in range(1, 100)], id="broken everywhere"),
    pytest.param("\u200b" * 10**6, ["敏感"], id="zero width"),
    pytest.param("敏" + "\u200b" * 10**6 + "感", ["敏感"], id="zero width between"),
    pytest.param("敏。感" * 333_333, ["敏感"], id="refused everywhere"),
    pytest.param("A一" * 500_000, ["一a", "a"], id="scripts by turns"),
    pytest.param("a" + "-" * 10**6 + "a", ["aa", "aaaa"], id="separators"),
    pytest.param("aa--" * 250_000, ["aaaa", "a" * 90], id="broken by two"),
    pytest.param("ﷺ" * 50_000, ["صلى"], id="eighteen letters in one"),
    pytest.param("e\u0301" * 500_000, ["eeee"], id="accents"),
]


@pytest.mark.parametrize("match", ["exact", "fuzzy"])
@pytest.mark.parametrize(("text", "words"), NASTY)
def test_no_input_makes_it_slow(text: str, words: list[str], match: Any) -> None:
    """
    A megabyte of anything takes time in proportion: seconds at the very worst.
    """
    nasty = Matcher([row(n, word, match=match, action="warn") for n, word in enumerate(words, 1)])
    begun = time.process_time()
    nasty.find(Folded([text]))

    assert time.process_time() - begun < 15


def test_a_stream_of_single_characters_is_not_slow() -> None:
    """
    What is held back is not looked at again for every piece.
    """
    stream = WordStream([matcher("敏感", "idiot", match="fuzzy")])
    begun = time.process_time()
    for _ in range(60_000):
        stream.feed("\u200b")
    for _ in range(20_000):
        stream.feed("a")
    stream.finish()

    assert time.process_time() - begun < 30


def test_words_that_end_in_one_another_are_bounded() -> None:
    """
    Of nested words with one action the shortest are enough; another action has its own.
    """
    rows = [row(n, "感" * n, action="warn") for n in range(3, 40)]
    rows.append(row(99, "感" * 30))

    found = findings_in([Matcher(rows)], "感" * 30)

    assert found.blocked
    assert found.rules("warn") == tuple(range(3, 3 + MAX_NESTED))


def chinese(chance: random.Random, length: int) -> str:
    """Characters at random."""
    return "".join(chr(chance.randrange(0x4E00, 0x9FA0)) for _ in range(length))


def test_twenty_thousand_words_over_twenty_thousand_characters() -> None:
    """
    5 ms at the median on an idle machine; here with a wide margin, for a busy one.
    """
    chance = random.Random(1)
    big = matcher(*{chinese(chance, chance.randrange(2, 6)) for _ in range(20_000)})
    text = "，".join(chinese(chance, 9) for _ in range(2_000))
    times: list[float] = []
    for _ in range(15):
        begun = time.process_time()
        big.find(Folded([text]))
        times.append(time.process_time() - begun)

    assert sorted(times)[7] < 0.05


def test_marks_fit_a_tag() -> None:
    """
    As many ids as have room, and a sign that there were more.
    """
    assert mark_of((12, 15)) == "12,15"
    long = mark_of(range(1_000, 1_100))
    assert len(long) <= 255
    assert long.endswith(",...")


def test_separators_are_white_space_to_split() -> None:
    """
    Which the words of a text are found by; what stands for letters is replaced before.
    """
    assert SEPARATORS.split() == ["@$"]
