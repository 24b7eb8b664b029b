"""A scrape in Prometheus text format, rendered in slices so that it never holds the event loop.

``render`` is an async generator: it renders for ``slice_s`` at most (2 ms by default), yields the text so far and lets
the loop run. So a thousand partitions cost many short slices instead of one stall. A family is rendered whole and in
one place, as the format demands, but not at one instant: two families may differ by what happened between their
slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.core import REGISTRY as PROCESS_REGISTRY
from prometheus_client.utils import floatToGoString

from tierlog.telemetry.metrics import Registry, rendered

CONTENT_TYPE = CONTENT_TYPE_LATEST
SLICE_S = 0.002
_CHECK_EVERY = 32  # samples between two looks at the clock


def _value(value: float) -> str:
    # Integers are most of a scrape; Prometheus reads both forms alike.
    return str(value) if type(value) is int else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _lines(registry: Registry) -> Iterator[str]:
    for family in registry.families():
        name = family.name
        yield f"# HELP {name} {_escape_help(family.help)}\n# TYPE {name} {family.kind}\n"
        for suffix, labels, value in family.samples():
            text = labels if isinstance(labels, str) else rendered(labels)
            yield f"{name}{suffix}{text} {_value(value)}\n"


def process_lines() -> Iterator[str]:
    """prometheus-client's own collectors of this process: CPU, memory, descriptors, garbage collections."""
    for metric in PROCESS_REGISTRY.collect():
        # The text format includes the counters' suffix in the name of the family.
        name = metric.name + "_total" if metric.type == "counter" else metric.name
        yield f"# HELP {name} {_escape_help(metric.documentation)}\n# TYPE {name} {metric.type}\n"
        for sample in metric.samples:
            yield f"{sample.name}{rendered(tuple(sample.labels.items()))} {_value(sample.value)}\n"


async def render(
    registry: Registry,
    *,
    slice_s: float = SLICE_S,
    clock: Callable[[], float] = perf_counter,
) -> AsyncIterator[bytes]:
    """Chunks of the exposition, each the work of at most about ``slice_s`` seconds."""
    for lines in (_lines(registry), process_lines()):
        pending: list[str] = []
        ends_at_s = clock() + slice_s
        for line in lines:
            pending.append(line)
            if len(pending) % _CHECK_EVERY == 0 and clock() >= ends_at_s:
                yield "".join(pending).encode()
                pending.clear()
                await asyncio.sleep(0)
                ends_at_s = clock() + slice_s
        if pending:
            yield "".join(pending).encode()
            await asyncio.sleep(0)
