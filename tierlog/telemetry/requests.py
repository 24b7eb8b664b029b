"""Counts and latencies per API, for less than a microsecond a request.

One ``ApiMetrics`` per API key; the dispatcher calls ``record`` once a reply is handed to its connection.
Latencies go to logarithmic buckets (eight an octave) of the current window; quantiles are computed at the scrape over the
current and the previous window, so that they cover the last one to two minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tierlog.errors import ErrorCode
from tierlog.telemetry.metrics import Registry, Sample

WINDOW_S = 60.0
QUANTILES = ((0.5, "0.50"), (0.75, "0.75"), (0.95, "0.95"), (0.98, "0.98"), (0.99, "0.99"), (0.999, "0.999"))
# 1 us .. about 1100 s. Below 8 us one bucket each; then eight buckets an octave: an error of at most 6 %.
_SUB_BITS = 3
_SUB = 1 << _SUB_BITS
_BUCKETS = (31 - _SUB_BITS) * _SUB


def bucket_of(micros: int) -> int:
    """The bucket of a latency; monotonic."""
    if micros < _SUB:
        return micros if micros > 0 else 0
    shift = micros.bit_length() - 1 - _SUB_BITS
    bucket = (shift << _SUB_BITS) + (micros >> shift)
    return bucket if bucket < _BUCKETS else _BUCKETS - 1


def upper_bound_micros(bucket: int) -> int:
    """The first latency that is no longer in ``bucket``."""
    if bucket < _SUB:
        return bucket + 1
    shift = (bucket >> _SUB_BITS) - 1
    return ((bucket & (_SUB - 1)) + _SUB + 1) << shift


class ApiMetrics:
    """Everything counted for one API. Fields are added to on the hot path and read at the scrape."""

    __slots__ = (
        "_counts",
        "_previous",
        "_window_end_s",
        "count",
        "errors",
        "held_max_s",
        "maximum_s",
        "name",
        "versions",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.maximum_s = 0.0
        self.held_max_s = 0.0
        self.versions: dict[int, int] = {}
        self.errors: dict[int, int] = {}
        self._counts = [0] * _BUCKETS
        self._previous = [0] * _BUCKETS
        self._window_end_s = 0.0

    def record(self, version: int, seconds: float) -> None:
        """One answered request; ``seconds`` from arrival to the reply (parking included)."""
        self.count += 1
        versions = self.versions
        versions[version] = versions.get(version, 0) + 1
        micros = int(seconds * 1e6)
        if micros < _SUB:
            bucket = micros if micros > 0 else 0
        else:
            shift = micros.bit_length() - 1 - _SUB_BITS
            bucket = (shift << _SUB_BITS) + (micros >> shift)
            if bucket >= _BUCKETS:
                bucket = _BUCKETS - 1
        self._counts[bucket] += 1
        if seconds > self.maximum_s:
            self.maximum_s = seconds

    def held(self, seconds: float) -> None:
        """A request, or a slice of one, occupied the event loop for ``seconds``."""
        if seconds > self.held_max_s:
            self.held_max_s = seconds

    def error(self, code: int) -> None:
        """One error code in a reply; NONE is not counted."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def rotate(self, now_s: float) -> None:
        """Start a new window if the current one is over; the scrape calls this."""
        if now_s >= self._window_end_s:
            self._previous = self._counts
            self._counts = [0] * _BUCKETS
            self._window_end_s = now_s + WINDOW_S

    def quantiles_ms(self) -> list[tuple[str, float]]:
        """(label, milliseconds) over the last one to two windows; NaN-free: zeros when nothing happened."""
        merged = [a + b for a, b in zip(self._counts, self._previous, strict=True)]
        total = sum(merged)
        found: list[tuple[str, float]] = []
        seen, bucket = 0, -1
        for share, label in QUANTILES:
            need = share * total
            while seen < need:
                bucket += 1
                seen += merged[bucket]
            found.append((label, upper_bound_micros(bucket) / 1000 if total else 0.0))
        return found


class RequestMetrics:
    """The table of all served APIs and its five families, under the names of Kafka's RequestMetrics.

    ``apis`` maps API keys to names; the dispatcher indexes ``by_key``. Fetches of followers are
    counted under their own name, as Kafka does.
    """

    def __init__(self, registry: Registry, apis: Mapping[int, str], clock: Callable[[], float]) -> None:
        self.by_key = {key: ApiMetrics(name) for key, name in apis.items()}
        self.follower_fetch = ApiMetrics("FetchFollower")
        self._clock = clock
        prefix = "kafka_network_requestmetrics_"
        registry.source(prefix + "requests_total", "counter", "Requests by API and version.", self._requests)
        registry.source(
            prefix + "errors_total", "counter", "Error codes answered, by API and name.", self._errors
        )
        registry.source(
            prefix + "totaltimems",
            "summary",
            "Milliseconds from arrival to reply, over the last one to two minutes; the count is of all time.",
            self._times,
        )
        registry.source(
            prefix + "totaltimems_max", "gauge", "The longest request since the start, in ms.", self._maxima
        )
        registry.source(
            "tierlog_request_held_loop_max_seconds",
            "gauge",
            "The longest time since the start that one request had the event loop for itself, by API.",
            self._held,
        )

    def _seen(self) -> list[ApiMetrics]:
        return [api for api in (*self.by_key.values(), self.follower_fetch) if api.count or api.errors]

    def _requests(self) -> Iterator[Sample]:
        for api in self._seen():
            for version, count in sorted(api.versions.items()):
                yield Sample("", (("request", api.name), ("version", str(version))), count)

    def _errors(self) -> Iterator[Sample]:
        for api in self._seen():
            for code, count in sorted(api.errors.items()):
                yield Sample("", (("request", api.name), ("error", error_name(code))), count)

    def _times(self) -> Iterator[Sample]:
        now_s = self._clock()
        for api in self._seen():
            api.rotate(now_s)
            for label, millis in api.quantiles_ms():
                yield Sample("", (("request", api.name), ("quantile", label)), millis)
            yield Sample("_count", (("request", api.name),), api.count)

    def _maxima(self) -> Iterator[Sample]:
        for api in self._seen():
            yield Sample("", (("request", api.name),), api.maximum_s * 1000)

    def _held(self) -> Iterator[Sample]:
        for api in self.by_key.values():
            if api.held_max_s:
                yield Sample("", (("request", api.name),), api.held_max_s)


def error_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
