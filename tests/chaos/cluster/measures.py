"""How long partitions could not be written, and how long writes took, as the clients saw it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.cluster.history import Outcome, Place, Send

KILL_MARGIN_S = 3.0
STOP_BAR_S = 1.0
ROLLING_BAR_S = 2.0


def writable_again_s(sends: Sequence[Send], places: Sequence[Place], since_s: float) -> dict[Place, float]:
    """Until the first acknowledgement of a record that was sent after ``since_s``; places without one are absent."""
    found: dict[Place, float] = {}
    wanted = set(places)
    for send in sends:
        if send.began_s >= since_s and send.outcome is Outcome.ACKNOWLEDGED and send.place in wanted:
            took_s = send.ended_s - since_s
            found[send.place] = min(took_s, found.get(send.place, took_s))
    return found


def longest_silence_s(
    sends: Sequence[Send], places: Sequence[Place], since_s: float, until_s: float
) -> float:
    """The longest time in ``[since_s, until_s)`` in which some partition acknowledged nothing. Every partition is written
    all the time, so a silence is a partition that cannot be."""
    acknowledged: dict[Place, list[float]] = {place: [] for place in places}
    for send in sends:
        times = acknowledged.get(send.place)
        if times is not None and send.outcome is Outcome.ACKNOWLEDGED and since_s <= send.ended_s < until_s:
            times.append(send.ended_s)
    longest_s = 0.0
    for times in acknowledged.values():
        ordered = [since_s, *sorted(times), until_s]
        longest_s = max(longest_s, *(after - before for before, after in itertools.pairwise(ordered)))
    return longest_s


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the records sent in some time; ``failed``: not acknowledged."""

    count: int
    failed: int
    p50_s: float
    p999_s: float
    longest_s: float

    def __str__(self) -> str:
        return (
            f"{self.count} records, {self.failed} failed, p50 {self.p50_s * 1000:.0f} ms, "
            f"p99.9 {self.p999_s * 1000:.0f} ms, longest {self.longest_s * 1000:.0f} ms"
        )


def latency(sends: Sequence[Send], since_s: float, until_s: float) -> Latency:
    asked = [send for send in sends if since_s <= send.began_s < until_s]
    took = sorted(s.ended_s - s.began_s for s in asked if s.outcome is Outcome.ACKNOWLEDGED)
    if not took:
        return Latency(len(asked), len(asked), 0.0, 0.0, 0.0)

    def at(share: float) -> float:
        return took[min(len(took) - 1, int(share * len(took)))]

    return Latency(len(asked), len(asked) - len(took), at(0.5), at(0.999), took[-1])


@dataclass
class Measures:
    """``alone``: kind → the longest silence of any partition, for each fault that no other overlapped."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    overlapped: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    alone: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    whole_s: list[float] = field(default_factory=list)

    def table(self) -> str:
        head = f"{'fault':<14}{'count':>6}{'overlapping':>13}{'alone: longest silence, median':>38}{'longest':>9}"
        rows = [head]
        for kind, count in sorted(self.counts.items()):
            times = sorted(self.alone.get(kind, []))
            shown = f"{times[len(times) // 2]:>36.2f} s{times[-1]:>7.2f} s" if times else f"{'-':>38}{'-':>9}"
            rows.append(f"{kind:<14}{count:>6}{self.overlapped[kind]:>13}{shown}")
        total, over = sum(self.counts.values()), sum(self.overlapped.values())
        share = 100 * over / total if total else 0.0
        rows.append(f"{'all':<14}{total:>6}{over:>13} ({share:.0f} %)")
        if self.whole_s:
            ordered = sorted(self.whole_s)
            rows.append(
                f"all replicas in sync after the last was healed: median {ordered[len(ordered) // 2]:.1f} s, "
                f"longest {ordered[-1]:.1f} s"
            )
        return "\n".join(rows)
