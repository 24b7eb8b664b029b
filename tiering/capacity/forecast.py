"""What a series of held bytes comes to: weekday and hour patterns, a robust slope, a band, and when a limit is reached.

The series is cut into days that end with its last hour. A day's growth is taken apart into the weekday's part and the
rest. The weekday's part is a factor, the median of what the day is to the week around it; where days shrink as well as
grow it is an addend. The median of the rests is the slope: a burst or a holiday moves neither. If the slope has changed
for good, only the days since then count, and a few strange days in a row, as a holiday, count for nothing. The band comes
from a bootstrap: each path has a slope drawn anew, then goes on with rests of past days, three in a row as they came, so
that bad days stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from statistics import fmean, median
from typing import NamedTuple, Protocol

HOUR_MS = 3_600_000
WEEK = 7
DAY_HOURS = 24
PATHS = 300
BLOCK_DAYS = 3
HORIZON_DAYS = 730
"""Longer than that nothing is foretold."""
LOW, HIGH = 0.10, 0.90
WIDENED = 1.4
"""Bands of a bootstrap are too narrow where history is short."""
_CHANGE_SCORE = 4.5
_CHANGE_DAYS = 11
_STRANGE_SCORE = 3.0
_STRANGE_DAYS = range(3, _CHANGE_DAYS)
"""A run of fewer days is a burst, which comes again; a longer one is a change."""
_FACTOR_LEAST = 0.05
_MAD_TO_DEVIATION = 1.4826


class Randomness(Protocol):
    """``random.Random`` with a seed."""

    def randrange(self, stop: int, /) -> int: ...


class Slope(NamedTuple):
    """Bytes a day over the last ``days``, and where the middle 80 % of bootstrapped means lie."""

    days: int
    per_day: float
    low: float
    high: float


class Ahead(NamedTuple):
    """Held bytes so many days after the last hour: the median of the paths, and their band."""

    days: int
    p10: float
    p50: float
    p90: float


class Growth(NamedTuple):
    """A series taken apart. ``weekday``: the factor of a day of the week (or its addend: ``is_factor``), beginning with
    the day after the last hour; ``rests``: the days' growths without that, oldest first, as far back as they tell of
    the future; ``all_rests``: those of the whole series; ``hour``: how the hours of a day deviate from its line."""

    level: float
    weekday: tuple[float, ...]
    is_factor: bool
    rests: tuple[float, ...]
    all_rests: tuple[float, ...]
    hour: tuple[float, ...]

    @property
    def slope(self) -> float:
        return median(self.rests) if self.rests else 0.0

    def at_pace(self, factor: float) -> Growth:
        """As if so many times as much were written and deleted."""
        rests, all_rests = (tuple(rest * factor for rest in rests) for rests in (self.rests, self.all_rests))
        weekday = self.weekday if self.is_factor else tuple(part * factor for part in self.weekday)
        return self._replace(weekday=weekday, rests=rests, all_rests=all_rests)

    def of_day(self, number: int, rest: float) -> float:
        """The growth of the day ``number`` after the last hour (below zero: before it)."""
        part = self.weekday[number % WEEK]
        return rest * part if self.is_factor else rest + part


def take_apart(series: Sequence[tuple[int, float]]) -> Growth:
    """``series``: hour and bytes, ascending; hours may be missing. Without two weeks there is no weekday's part."""
    anchors = _anchors(series)
    growths = [after - before for before, after in pairwise(anchors)]
    weekday, is_factor = _weekday_parts(growths)
    rests = []
    for number, growth in enumerate(growths, start=-len(growths)):
        part = weekday[number % WEEK]
        rests.append(growth / part if is_factor else growth - part)
    usual = _without_strange(rests)
    present = usual[_last_change(usual) :]
    hour = _hour_pattern(series, anchors)
    return Growth(series[-1][1], weekday, is_factor, tuple(present), tuple(rests), hour)


def slope_of(growth: Growth, days: int, rng: Randomness) -> Slope | None:
    """None where the series is shorter than half of ``days``."""
    rests = growth.all_rests[-days:]
    if len(rests) < max(days // 2, 2):
        return None
    means = sorted(fmean(_resampled(rests, len(rests), rng)) for _ in range(PATHS // 2))
    return Slope(days, median(rests), _quantile(means, LOW), _quantile(means, HIGH))


def paths(growth: Growth, days: int, rng: Randomness) -> list[list[float]]:
    """Held bytes at the end of each day, for so many possible futures."""
    rests = growth.rests
    if not rests:
        return [[growth.level] * days]
    made = []
    for _ in range(PATHS):
        # How wrong the mean of so few days may be.
        drift = fmean(_resampled(rests, len(rests), rng)) - fmean(rests)
        level, path = growth.level, []
        for number, rest in enumerate(_resampled(rests, days, rng)):
            level += growth.of_day(number, rest + drift)
            path.append(level)
        made.append(path)
    return made


def band(futures: Sequence[Sequence[float]]) -> tuple[Ahead, ...]:
    """Day by day."""
    found = []
    for number, column in enumerate(zip(*futures, strict=True), start=1):
        levels = sorted(column)
        middle = _quantile(levels, 0.5)
        low, high = (middle + WIDENED * (_quantile(levels, q) - middle) for q in (LOW, HIGH))
        found.append(Ahead(number, max(low, 0.0), max(middle, 0.0), max(high, 0.0)))
    return tuple(found)


def days_until(growth: Growth, ahead: Sequence[Ahead], limit: float, *, pessimist: bool) -> float | None:
    """When the median of the paths reaches ``limit``, or the upper end of the band; None: not so far ahead. The highest
    hour of a day counts."""
    peak = max(growth.hour, default=0.0)
    before = growth.level + peak
    if before >= limit:
        return 0.0
    for each in ahead:
        level = (each.p90 if pessimist else each.p50) + peak
        if level >= limit:
            return each.days - 1 + (limit - before) / (level - before)
        before = level
    return None


def _anchors(series: Sequence[tuple[int, float]]) -> list[float]:
    """Levels at the last hour, a day before it, and so on; oldest first. Between hours that are there it is a line."""
    last_ms = series[-1][0]
    count = (last_ms - series[0][0]) // (DAY_HOURS * HOUR_MS)
    found, position = [], 0
    for number in range(count, -1, -1):
        wanted_ms = last_ms - number * DAY_HOURS * HOUR_MS
        while series[position][0] < wanted_ms:
            position += 1
        found.append(_between(series, position, wanted_ms))
    return found


def _between(series: Sequence[tuple[int, float]], position: int, wanted_ms: int) -> float:
    after_ms, after = series[position]
    if after_ms == wanted_ms:
        return after
    before_ms, before = series[position - 1]
    return before + (after - before) * (wanted_ms - before_ms) / (after_ms - before_ms)


def _weekday_parts(growths: Sequence[float]) -> tuple[tuple[float, ...], bool]:
    """What each weekday is to the week around it, the day after the last one first; whether those are factors."""
    count = len(growths)
    if count < 2 * WEEK:
        return (1.0,) * WEEK, True
    weeks = [fmean(growths[number - 3 : number + 4]) for number in range(3, count - 3)]
    days = list(enumerate(weeks, start=3))
    if all(week > 0 for week in weeks):
        factors = _by_weekday([(number - count, growths[number] / week) for number, week in days])
        middle = fmean(factors)
        if min(factors) > _FACTOR_LEAST * middle:
            return tuple(factor / middle for factor in factors), True
    addends = _by_weekday([(number - count, growths[number] - week) for number, week in days])
    middle = fmean(addends)
    return tuple(addend - middle for addend in addends), False


def _by_weekday(values: Sequence[tuple[int, float]]) -> list[float]:
    over: list[list[float]] = [[] for _ in range(WEEK)]
    for number, value in values:
        over[number % WEEK].append(value)
    return [median(each) for each in over]


def _hour_pattern(series: Sequence[tuple[int, float]], anchors: Sequence[float]) -> tuple[float, ...]:
    """How far each hour behind an anchor lies from the line to the next anchor, as a median over the days."""
    off: list[list[float]] = [[] for _ in range(DAY_HOURS)]
    first_ms = series[-1][0] - (len(anchors) - 1) * DAY_HOURS * HOUR_MS
    for time_ms, level in series:
        day, hour = divmod((time_ms - first_ms) // HOUR_MS, DAY_HOURS)
        if 0 <= day < len(anchors) - 1:
            line = anchors[day] + (anchors[day + 1] - anchors[day]) * hour / DAY_HOURS
            off[hour].append(level - line)
    return tuple(median(each) if each else 0.0 for each in off)


def _last_change(rests: Sequence[float]) -> int:
    """Where the present slope begins: the newest day from which on the median is another one than before, 0 if none is."""
    start = 0
    while (found := _change(rests[start:])) is not None:
        start += found
    return start


def _change(rests: Sequence[float]) -> int | None:
    """The cut that parts the days best into two of different medians, unless chance does as well."""
    best, at = _CHANGE_SCORE, None
    for cut in range(_CHANGE_DAYS, len(rests) - _CHANGE_DAYS + 1):
        before, after = rests[:cut], rests[cut:]
        middles = median(before), median(after)
        off = [abs(rest - middles[0]) for rest in before] + [abs(rest - middles[1]) for rest in after]
        # A median's own error is a quarter larger than a mean's.
        scatter = max(_MAD_TO_DEVIATION * median(off), fmean(off) / 4)
        error = 1.25 * scatter * (1 / len(before) + 1 / len(after)) ** 0.5
        apart = abs(middles[1] - middles[0])
        score = apart / max(error, apart * 1e-9) if apart else 0.0
        if score > best:
            best, at = score, cut
    return at


def _without_strange(rests: Sequence[float]) -> list[float]:
    """Without runs of days far from the median on one side: they were something that has passed."""
    if len(rests) < 2 * WEEK:
        return list(rests)
    middle = median(rests)
    width = _STRANGE_SCORE * _MAD_TO_DEVIATION * median(abs(rest - middle) for rest in rests)
    # A single day within a run makes no difference.
    smooth = [median(rests[max(number - 1, 0) : number + 2]) for number in range(len(rests))]
    sides = [(rest > middle + width) - (rest < middle - width) for rest in smooth]
    kept: list[float] = []
    for side, group in groupby(zip(sides, rests, strict=True), key=itemgetter(0)):
        run = [rest for _, rest in group]
        if side == 0 or len(run) not in _STRANGE_DAYS:
            kept += run
    return kept


def _resampled(rests: Sequence[float], count: int, rng: Randomness) -> list[float]:
    """So many of them, in blocks that follow each other in ``rests`` too; the end goes on with the beginning."""
    drawn: list[float] = []
    while len(drawn) < count:
        start = rng.randrange(len(rests))
        drawn += [rests[(start + step) % len(rests)] for step in range(BLOCK_DAYS)]
    return drawn[:count]


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
