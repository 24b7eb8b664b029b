"""Seeded curves of held bytes, hour by hour: a week's season, and with it a step, bursts, or a holiday."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from tiering.capacity.forecast import DAY_HOURS, HOUR_MS

KINDS = ("week", "step", "burst", "holiday")
HISTORY_DAYS = 70
GB = 2**30

Series = list[tuple[int, float]]


class Curve(NamedTuple):
    """``past`` is what the forecast gets. ``per_day``: what each weekday adds but for noise, from the first day on."""

    kind: str
    past: Series
    future: Series
    per_day: tuple[float, ...]


def curve(kind: str, seed: int, future_days: int) -> Curve:
    """Each day's growth is the weekday's, within 5 to 25 % (one deviation); a step lasts, a holiday passes, bursts go on."""
    rng = random.Random(f"{kind} {seed}")
    week = [rng.uniform(0.4, 1.6) for _ in range(7)]
    hours = [1 + 0.6 * math.sin(2 * math.pi * (hour - 6) / DAY_HOURS) for hour in range(DAY_HOURS)]
    per_day = 7 * rng.uniform(2, 20) / sum(week)
    noise = rng.uniform(0.05, 0.25)
    step_at = rng.randrange(20, HISTORY_DAYS - 14)
    step = rng.choice([rng.uniform(1.4, 2.5), rng.uniform(0.3, 0.7)])
    holiday = range(holiday_at := rng.randrange(10, HISTORY_DAYS - 10), holiday_at + rng.randrange(4, 11))
    level = rng.uniform(200, 1000)
    series: Series = []
    for day in range(HISTORY_DAYS + future_days):
        growth = per_day * week[day % 7] * max(rng.gauss(1, noise), 0)
        if kind == "step" and day >= step_at:
            growth *= step
        elif kind == "burst" and rng.random() < 0.04:
            growth *= rng.uniform(3, 6)
        elif kind == "holiday" and day in holiday:
            growth *= 0.25
        for hour in range(DAY_HOURS):
            level += growth * hours[hour] / DAY_HOURS
            series.append(((day * DAY_HOURS + hour) * HOUR_MS, level * GB))
    cut = HISTORY_DAYS * DAY_HOURS
    return Curve(kind, series[:cut], series[cut:], tuple(per_day * part * GB for part in week))
