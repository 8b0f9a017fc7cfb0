"""What the coming days may add, judged by the days gone by: a mean and its spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import Final

import msgspec

MIN_DAYS: Final = 14
"""Fewer complete days than this are not enough to judge by."""
MIN_ACTIVE_DAYS: Final = 5
"""Fewer days with a cost among them are not enough either."""
MIN_WEEKDAY_DAYS: Final = 28
"""From four whole weeks on, days of the week are told apart if that explains the days better."""
MIN_TREND_DAYS: Final = 21
"""From three whole weeks on, growth is carried on if that explains the days better."""

# How far the level follows each new day; 0 is the plain mean of all of them.
_FOLLOW: Final = (0.05, 0.1, 0.2, 0.3, 0.5)
# Days of the week must take away a quarter of the spread: less is chance with so few weeks.
_WORTH: Final = 0.75
_MOST_PERSISTENCE: Final = 0.7
_CLEARLY: Final = 0.97
_GROWING: Final = 0.9
# A level does not wander away for ever: beyond a month it is as likely to return.
_DRIFT_DAYS: Final = 31.0


class Ahead(msgspec.Struct, frozen=True):
    """A sum to come: what is expected of it and how far it may lie from that."""

    mean: float
    sd: float
    freedom: int
    """Degrees of freedom that the spread was judged with."""

    def quantile(self, share: float) -> float:
        """The amount that the sum stays below with this probability."""
        if self.mean <= 0 or self.sd <= 0:
            return max(self.mean, 0.0)
        # Sums of costs are never negative and lean to the right, so they are
        # taken as log-normal with this mean and spread.
        # The square of more than that fits no float.
        spread = math.sqrt(math.log1p(min(self.sd / self.mean, 1e150) ** 2))
        student = _student(share, self.freedom)
        # Beyond this there is nothing to be said, and nothing that fits a float.
        amount = self.mean * math.exp(min(student * spread - spread * spread / 2, 50.0))
        if share >= 0.5:
            return amount
        # Where whole days cost nothing, nothing at all is among the likely sums.
        return max(min(amount, self.mean + student * self.sd), 0.0)


class Rhythm(msgspec.Struct, frozen=True):
    """What a day costs: a level, offsets by weekday if any, and the spread around them."""

    level: float
    """Of the last day."""
    slope: float
    """By how much the level grows from day to day."""
    offsets: tuple[float, ...]
    """By weekday, Monday first; all zero when days of the week are not told apart."""
    sd: float
    follow: float
    persistence: float
    """How much of a day's surprise is left on the next one."""
    days: int

    @property
    def by_weekday(self) -> bool:
        """Whether days of the week are told apart."""
        return any(self.offsets)

    def ahead(self, days: Sequence[tuple[date, float]]) -> Ahead:
        """
        What *days* may cost together.

        Args:
            days: Each with the share of it that is meant: 1 for a whole one.
        """
        mean = 0.0
        variance = 0.0
        whole = sum(share for _, share in days)
        far = 0.0
        for number, (day, share) in enumerate(days, start=1):
            # Growth does not go on for longer than half the time it was seen for.
            grown = self.slope * min(number, self.days // 2)
            level = self.level + grown + self.offsets[day.weekday()]
            # Below nothing no day can cost, though a falling level may say so.
            mean += max(level, 0.0) * share
            far += share * number
        # A surprise on one day moves the level of all that follow, which is why
        # far days are less certain than near ones.
        left = 0.0
        for _, share in reversed(days):
            variance += share + 2 * share * self.follow * left + (self.follow * left) ** 2
            left = min(left + share, _DRIFT_DAYS)
        # Level and slope are known from so many days alone.
        variance += whole * whole / max(self.days * (1 - self.follow) ** 2, 1.0)
        if self.slope:
            # From the middle of the days gone by to the middle of those to come.
            reach = far + whole * (self.days - 1) / 2
            variance += reach * reach * 12 / (self.days * (self.days**2 - 1))
        if self.by_weekday:
            weeks = max(self.days / 7, 1.0)
            shares = [0.0] * 7
            for day, share in days:
                shares[day.weekday()] += share
            average = whole / 7
            variance += sum((share - average) ** 2 for share in shares) / weeks
        variance *= (1 + self.persistence) / (1 - self.persistence)
        freedom = max(self.days - (7 if self.by_weekday else 1), 3)
        return Ahead(mean, self.sd * math.sqrt(variance), freedom)


def learn(first: date, daily: Sequence[float]) -> Rhythm:
    """
    The rhythm of *daily*, complete days from *first* on.

    The level is an exponentially weighted mean; how far it follows the newest
    days is what would have foretold these days best, a day ahead each time.
    """
    count = len(daily)
    overall = fmean(daily)
    offsets = (0.0,) * 7
    if count >= MIN_WEEKDAY_DAYS:
        found = _offsets(first, daily, overall)
        around = _square_sum(_without(first, daily, found), overall) / (count - 7)
        if around < _WORTH * _square_sum(daily, overall) / (count - 1):
            offsets = found
    plain = _without(first, daily, offsets)
    taken = 7 if any(offsets) else 1
    error, misses = _square_sum(plain, overall), [amount - overall for amount in plain]
    found = Rhythm(overall, 0.0, offsets, 0.0, 0.0, _persistence(misses), count)
    for follow in _FOLLOW:
        level, missed = _foretold(plain, overall, follow)
        # Chance makes a level that follows look a little better than one that
        # does not, in most short histories.
        if _sum_of_squares(missed) < error * (_CLEARLY if not found.follow else 1):
            error, misses = _sum_of_squares(missed), missed
            found = Rhythm(level, 0.0, offsets, 0.0, follow, _persistence(missed), count)
    if count >= MIN_TREND_DAYS:
        slope, missed = _line(plain, overall)
        # Drawn through the days that it is judged by, a line looks better than it is.
        if _sum_of_squares(missed) * (count + 2) / (count - 2) < error * _GROWING:
            error = _sum_of_squares(missed)
            level = overall + slope * (count - 1) / 2
            found = Rhythm(level, slope, offsets, 0.0, 0.0, _persistence(missed), count)
            taken += 1
    return msgspec.structs.replace(found, sd=math.sqrt(error / max(count - taken, 1)))


def _line(days: Sequence[float], overall: float) -> tuple[float, list[float]]:
    middle = (len(days) - 1) / 2
    wide = len(days) * (len(days) ** 2 - 1) / 12
    slope = sum((at - middle) * amount for at, amount in enumerate(days)) / wide
    return slope, [amount - overall - slope * (at - middle) for at, amount in enumerate(days)]


def _foretold(days: Sequence[float], start: float, follow: float) -> tuple[float, list[float]]:
    level = start
    misses: list[float] = []
    for amount in days:
        misses.append(amount - level)
        level += follow * misses[-1]
    return level, misses


def _persistence(misses: Sequence[float]) -> float:
    """The correlation of one day's miss with the next one's, less what chance makes of it."""
    whole = sum(miss * miss for miss in misses)
    if not whole:
        return 0.0
    count = len(misses)
    found = sum(a * b for a, b in pairwise(misses)) / whole
    # Short histories make it look smaller than it is (Kendall, Biometrika 1954).
    found += (1 + 3 * found) / count
    return min(max(found, 0.0), _MOST_PERSISTENCE)


def _offsets(first: date, daily: Sequence[float], overall: float) -> tuple[float, ...]:
    start = first.weekday()
    return tuple(fmean(daily[(weekday - start) % 7 :: 7]) - overall for weekday in range(7))


def _without(first: date, daily: Sequence[float], offsets: Sequence[float]) -> list[float]:
    start = first.weekday()
    return [amount - offsets[(start + number) % 7] for number, amount in enumerate(daily)]


def _sum_of_squares(values: Sequence[float]) -> float:
    return sum(value * value for value in values)


def _square_sum(values: Sequence[float], around: float) -> float:
    return sum((value - around) ** 2 for value in values)


def _student(share: float, freedom: int) -> float:
    """The quantile of Student's t, by the expansion of Cornish and Fisher."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + first + second
