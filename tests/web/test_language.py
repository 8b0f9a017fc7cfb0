"""How the console writes numbers: rounded to what is said of nothing else."""

from __future__ import annotations

import pytest

from ai_ledger.web.language import Language

ZH, EN = Language("zh"), Language("en")


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        pytest.param(None, "—", "—", id="unknown"),
        pytest.param(9_999, "9,999", "9,999", id="all of it"),
        pytest.param(12_345, "12.3K", "1.2万", id="thousands"),
        pytest.param(999_949, "999.9K", "100万", id="nearly a million"),
        pytest.param(999_950, "1M", "100万", id="rounded to a million"),
        pytest.param(-999_990, "-1M", "-100万", id="below zero"),
        pytest.param(99_994_999, "100M", "9999.5万", id="nearly a hundred million"),
        pytest.param(99_999_999, "100M", "1亿", id="rounded to a hundred million"),
        pytest.param(999_999_999_999, "1T", "1万亿", id="rounded to a million millions"),
        pytest.param(12_345.6, "12.3K", "1.2万", id="no whole number"),
    ],
)
def test_compact_numbers_have_the_unit_of_what_is_written(
    value: float | None, english: str, chinese: str
) -> None:
    """
    A number that is rounded up to the next unit is told in that one.
    """
    assert (EN.compact(value), ZH.compact(value)) == (english, chinese)


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        pytest.param(1.0, 1, "100.0%", id="all"),
        pytest.param(0.99996, 1, ">99.9%", id="nearly all"),
        pytest.param(0.9994, 1, "99.9%", id="most"),
        pytest.param(0.996, 0, ">99%", id="nearly all, without digits"),
        pytest.param(0.0, 1, "0.0%", id="none"),
        pytest.param(0.00004, 1, "<0.1%", id="nearly none"),
        pytest.param(0.0006, 1, "0.1%", id="few"),
        pytest.param(0.001, 0, "<1%", id="few, without digits"),
        pytest.param(1.2, 1, "120.0%", id="more than all"),
        pytest.param(-0.0001, 1, "-0.0%", id="less than none is no share"),
    ],
)
def test_no_share_is_told_as_all_or_none_that_is_not(value: float, digits: int, shown: str) -> None:
    """
    Beside calls that failed there stands no 100 %.
    """
    assert (EN.percent(value, digits), ZH.percent(value, digits)) == (shown, shown)


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0.04, "0 ms"), (9.94, "9.9 ms"), (999.4, "999 ms"), (999.7, "1 s"),
        (1_234, "1.23 s"), (119_994, "119.99 s"), (119_996, "2 min"), (120_000, "2 min"),
    ],
)  # fmt: skip
def test_durations_have_the_unit_of_what_is_written(ms: float, shown: str) -> None:
    """
    A thousand milliseconds are a second, also when they were a little less.
    """
    assert EN.duration(ms) == shown.replace(" ", "\u00a0")
