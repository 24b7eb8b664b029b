"""How many GETs run at once, and when one is worth asking for a second time. Pure: seconds come in as arguments.

``Concurrency`` grows by one per round of successes and halves when the store pushes back (AIMD), once for all GETs that were
under way then.

``Hedging`` sends a second GET when the first takes longer than nearly all of its size did, and the first answer wins. It
costs the store another GET, so there are at most ``HEDGE_SHARE`` of all, none soon after the store pushed back, and none for
a while when they rarely won.
"""

from __future__ import annotations

from collections import deque

CONCURRENCY_START = 48  # A Fetch of 20 cold partitions, with a chunk and a footer each, then takes one round.
CONCURRENCY_MAX = 64
SAMPLES = 64
SAMPLES_MIN = 16
HEDGE_AFTER_MIN_S = 0.05
HEDGE_SHARE = 0.05
# So many hedges are judged together; with fewer winners than this share there are none for so many GETs.
JUDGED = 16
WINNERS_MIN = 0.25
REST_GETS = 1_000
# No hedges for so long after the store pushed back.
CALM_S = 10.0


class Concurrency:
    """The limit of GETs at once."""

    def __init__(self, most: int = CONCURRENCY_MAX) -> None:
        self._limit = float(min(CONCURRENCY_START, most))
        self._most = most
        self._halved_at_s = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    def succeeded(self) -> None:
        self._limit = min(self._limit + 1 / self._limit, self._most)

    def pushed_back(self, began_s: float, now_s: float) -> None:
        """A GET that began at ``began_s`` was refused or timed out."""
        if began_s >= self._halved_at_s:
            self._halved_at_s = now_s
            self._limit = max(1.0, self._limit / 2)

    def is_calm(self, now_s: float) -> bool:
        return now_s - self._halved_at_s >= CALM_S


class Hedging:
    """Durations of late, by the power of two of the GET's size."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        self._after_s: dict[int, float] = {}
        self._get_count = self._hedge_count = 0
        self._judged = self._won = 0
        self._rest_until = 0

    def began(self) -> None:
        """Another GET, which is not a hedge."""
        self._get_count += 1

    def after_s(self, size_bytes: int) -> float | None:
        """How long a GET of this size may take before it is asked for again; None: never."""
        if self._get_count < self._rest_until or self._hedge_count >= HEDGE_SHARE * self._get_count:
            return None
        return self._after_s.get(size_bytes.bit_length())

    def hedged(self) -> None:
        self._hedge_count += 1

    def ended(self, size_bytes: int, seconds: float) -> None:
        """A GET has succeeded without a hedge, or with one in so many seconds."""
        size = size_bytes.bit_length()
        seen = self._seconds.setdefault(size, deque(maxlen=SAMPLES))
        seen.append(seconds)
        if len(seen) >= SAMPLES_MIN and (self._get_count % SAMPLES_MIN == 0 or size not in self._after_s):
            p95 = sorted(seen)[int(0.95 * (len(seen) - 1))]
            self._after_s[size] = max(1.5 * p95, HEDGE_AFTER_MIN_S)

    def judged(self, has_won: bool) -> None:
        """A hedge has ended, before the first GET or after it."""
        self._judged += 1
        self._won += has_won
        if self._judged >= JUDGED:
            if self._won < WINNERS_MIN * self._judged:
                self._rest_until = self._get_count + REST_GETS
            self._judged = self._won = 0


class RecentTimes:
    """Average and longest of what was noted in the last one to two ``WINDOW_S``."""

    WINDOW_S = 30.0

    def __init__(self) -> None:
        self._began_s = 0.0
        # (count, sum, longest) of the window before and of this one.
        self._windows = [(0, 0.0, 0.0), (0, 0.0, 0.0)]

    def note(self, seconds: float, now_s: float) -> None:
        self._turn(now_s)
        count, total, longest = self._windows[1]
        self._windows[1] = (count + 1, total + seconds, max(longest, seconds))

    def average_and_longest(self, now_s: float) -> tuple[float, float]:
        """Zeros if nothing was noted."""
        self._turn(now_s)
        (count, total, longest), (more, and_total, or_longest) = self._windows
        return (total + and_total) / max(count + more, 1), max(longest, or_longest)

    def _turn(self, now_s: float) -> None:
        windows = int((now_s - self._began_s) // self.WINDOW_S)
        if windows > 0:
            self._began_s += windows * self.WINDOW_S
            self._windows = [self._windows[1] if windows == 1 else (0, 0.0, 0.0), (0, 0.0, 0.0)]
