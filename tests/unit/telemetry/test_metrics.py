"""The registry and its exposition, read back by prometheus-client's own parser."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tierlog.telemetry.exposition import render
from tierlog.telemetry.metrics import Histogram, Registry, Sample


async def scrape(registry: Registry, slice_s: float = 0.002) -> str:
    return b"".join([chunk async for chunk in render(registry, slice_s=slice_s)]).decode()


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_every_kind_comes_back() -> None:
    registry = Registry()
    registry.counter("bytes_total", "Bytes.").labels().value += 7
    by_topic = registry.counter("records_total", "Records.", ("topic", "partition"))
    by_topic.labels("t", "0").value += 2
    by_topic.labels("t", "1").value += 3
    registry.gauge("lag", "Lag.").labels().value = 1.5
    histogram = registry.histogram("seconds", "Seconds.", (0.1, 1.0)).labels()
    for value in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(value)
    registry.value("size", "gauge", "Size.", lambda: 2**53)
    registry.source("parts", "gauge", "Parts.", lambda: [Sample("", (("x", "y"),), 4)])
    found = values(await scrape(registry))
    assert found[("bytes_total", ())] == 7
    assert found[("records_total", (("topic", "t"), ("partition", "1")))] == 3
    assert found[("lag", ())] == 1.5
    assert found[("seconds_bucket", (("le", "0.1"),))] == 2
    assert found[("seconds_bucket", (("le", "1.0"),))] == 3
    assert found[("seconds_bucket", (("le", "+Inf"),))] == 4
    assert found[("seconds_count", ())] == 4
    assert found[("seconds_sum", ())] == pytest.approx(3.65)
    assert found[("size", ())] == 2**53
    assert found[("parts", (("x", "y"),))] == 4
    assert found[("process_resident_memory_bytes", ())] > 0
    assert histogram.maximum == 3.0


async def test_families_are_whole_and_named_once() -> None:
    registry = Registry()
    registry.counter("a_total", "A.").labels().value += 1
    text = await scrape(registry)
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families if family.name == "a"} == {"counter"}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(alphabet='ab"\\\n é', max_size=8), st.integers(-(2**40), 2**40), max_size=5))
def test_any_label_comes_back(gauges: dict[str, int]) -> None:
    registry = Registry()
    family = registry.gauge("g", 'Help with "quotes", \\ and\nlines.', ("label",))
    for label, value in gauges.items():
        family.labels(label).value = value
    found = values(asyncio.run(scrape(registry)))
    assert {key[1][0][1]: value for key, value in found.items() if key[0] == "g"} == gauges


def test_a_name_belongs_to_one_family() -> None:
    registry = Registry()
    registry.gauge("g", "G.")
    with pytest.raises(AssertionError, match="registered twice"):
        registry.counter("g", "G.")
    assert "g" in registry
    assert "h" not in registry


async def test_a_removed_child_is_gone_and_a_bound_one_is_the_same() -> None:
    registry = Registry()
    family = registry.counter("c_total", "C.", ("topic",))
    assert family.labels("a") is family.labels("a")
    family.labels("a").value += 1
    family.remove("a")
    family.remove("never")
    assert 'topic="a"' not in await scrape(registry)
    with pytest.raises(AssertionError):
        family.labels("a", "b")


def test_histogram_bounds_are_inclusive() -> None:
    histogram = Histogram((1, 2))
    for value in (1, 2, 3):
        histogram.observe(value)
    assert histogram.counts == [1, 1, 1]


async def test_a_scrape_lets_the_loop_run_between_slices() -> None:
    registry = Registry()
    now_s = 0.0

    def read() -> Iterator[Sample]:
        nonlocal now_s
        for index in range(10_000):
            now_s += 0.0001  # each sample is said to cost 0.1 ms
            yield Sample("", (("n", str(index)),), index)

    registry.source("many", "gauge", "Many.", read)
    chunks = 0
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    longest, began = 0.0, now_s
    async for _chunk in render(registry, slice_s=0.002, clock=lambda: now_s):
        chunks += 1
        longest, began = max(longest, now_s - began), now_s
    task.cancel()
    assert chunks >= 10_000 * 0.0001 / 0.006
    assert turns >= chunks - 1
    # A slice ends at the first look at the clock after 2 ms: every 32 samples.
    assert longest <= 0.002 + 32 * 0.0001 + 1e-9


def test_counting_costs_next_to_nothing() -> None:
    counter = Registry().counter("c_total", "C.").labels()
    began = time.perf_counter()
    for _ in range(100_000):
        counter.value += 3
    assert counter.value == 300_000
    assert time.perf_counter() - began < 0.5
