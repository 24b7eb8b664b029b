"""Per-API counters, latency quantiles and what recording costs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.telemetry.test_metrics import scrape, values
from tierlog.telemetry.metrics import Registry
from tierlog.telemetry.requests import (
    WINDOW_S,
    ApiMetrics,
    RequestMetrics,
    bucket_of,
    upper_bound_micros,
)


@given(st.integers(0, 2**33), st.integers(0, 2**33))
def test_buckets_are_ordered_and_narrow(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert bucket_of(low) <= bucket_of(high)
    if low < 2**30:
        bucket = bucket_of(low)
        assert low < upper_bound_micros(bucket) <= max(low * 1.126, low + 1)
        assert bucket == 0 or upper_bound_micros(bucket - 1) <= low


@given(st.integers(0, 2**31))
def test_record_uses_the_same_bucket(micros: int) -> None:
    metrics = ApiMetrics("Fetch")
    metrics.record(4, micros / 1e6)
    exact = int(micros / 1e6 * 1e6)
    assert metrics.quantiles_ms()[0][1] == upper_bound_micros(bucket_of(exact)) / 1000


def test_quantiles() -> None:
    metrics = ApiMetrics("Produce")
    assert metrics.quantiles_ms()[0] == ("0.50", 0.0)
    for micros in range(1, 1001):
        metrics.record(9, micros / 1e6)
    quantiles = dict(metrics.quantiles_ms())
    assert quantiles["0.50"] == pytest.approx(0.5, rel=0.13)
    assert quantiles["0.99"] == pytest.approx(0.99, rel=0.13)
    assert metrics.maximum_s == pytest.approx(0.001)


def test_old_latencies_leave_after_two_windows() -> None:
    metrics = ApiMetrics("Produce")
    metrics.rotate(0.0)
    metrics.record(9, 1.0)
    metrics.rotate(WINDOW_S)
    assert dict(metrics.quantiles_ms())["0.50"] > 900
    metrics.record(9, 0.000002)
    metrics.rotate(2 * WINDOW_S)
    assert dict(metrics.quantiles_ms())["0.999"] < 1
    assert metrics.count == 2


async def test_names_of_kafka() -> None:
    registry = Registry()
    requests = RequestMetrics(registry, {0: "Produce", 1: "Fetch"}, lambda: 0.0)
    produce = requests.by_key[0]
    produce.record(9, 0.002)
    produce.record(13, 0.002)
    produce.error(10)
    produce.error(9999)
    requests.follower_fetch.record(17, 0.5)
    found = values(await scrape(registry))
    prefix = "kafka_network_requestmetrics_"
    assert found[(prefix + "requests_total", (("request", "Produce"), ("version", "9")))] == 1
    assert found[(prefix + "errors_total", (("request", "Produce"), ("error", "MESSAGE_TOO_LARGE")))] == 1
    assert found[(prefix + "errors_total", (("request", "Produce"), ("error", "9999")))] == 1
    assert found[(prefix + "totaltimems_count", (("request", "Produce"),))] == 2
    assert 1.9 < found[(prefix + "totaltimems", (("request", "Produce"), ("quantile", "0.99")))] < 2.3
    assert found[(prefix + "totaltimems_max", (("request", "FetchFollower"),))] == 500
    assert not any(labels == (("request", "Fetch"),) for _name, labels in found)


def test_recording_costs_about_a_microsecond() -> None:
    metrics = ApiMetrics("Produce")
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(10_000):
            metrics.record(9, 0.000123)
        best = min(best, (time.perf_counter() - began) / 10_000)
    assert best < 3e-6
