"""What a produce waits for while gigabytes that were held back are copied to the object store.

The control run shares everything but the copies: the same broker, records and steady producer, and a process with the
nice value of the copy worker that burns as much processor time, without touching broker or store. Pairs alternate. The
store is a directory in memory, so that no server takes the processor, and reads are delayed as by a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bars import Bar, most
from benchmarks.measure import ClientFailed, Figures, Sample, raw, run_client
from benchmarks.own_brokers import OwnBrokers
from benchmarks.rows import filler
from benchmarks.sides import OS, Side, running, tierlog_side
from benchmarks.wire import Refused, connect, exchange, topic_of
from tests.servers.processes import die_with_parent
from tiering.keys import topic_id_text
from tierlog.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

CONTROL = "backfill: produce at 1000/s, its processor time burnt elsewhere"
BACKFILL = "backfill: produce at 1000/s, copies to the tier"
STEADY = "steady"
PARTITIONS = 4
GET_DELAY_MS = 20
SEGMENT_BYTES = 64 << 20
SETTLE_S = 1.5
NICENESS = 10
TOPIC_RESOURCE = 2
_COPY_TIMEOUT_S = 300.0
_MEMORY = Path("/dev/shm")

BARS: dict[str, list[Bar]] = {
    CONTROL: [],
    BACKFILL: [most("p99_ms", 1.3, against_row=CONTROL)],
}
BURN = """
import os, time
os.nice({nice})
while time.process_time() < {burnt_s}:
    sum(range(10_000))
"""


class BackfillRows(OwnBrokers):
    """Owns its broker; see ``rows`` for what it measures."""

    rows = BARS
    name = "backfill"

    def _measure(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        objects = Path(
            tempfile.mkdtemp(prefix="tierlog-backfill-", dir=_MEMORY if _MEMORY.is_dir() else None)
        )
        store = f"dir:{objects}?durable=false&get.delay.ms={GET_DELAY_MS}"
        overrides = {"tierlog.object.store": store, "tierlog.remote.delete.grace.ms": "0"}
        side = tierlog_side(directory / "backfill", overrides)
        try:
            with running(side):
                side.create_topic(STEADY, 1, {"flush.mode": "os"})
                for number in range(self.sizes.runs + 1):
                    for row, figures in self._pair(side, objects, f"held-{number}"):
                        if number:  # the first pair only warms up
                            yield row, OS.label, figures
        finally:
            shutil.rmtree(objects, ignore_errors=True)

    def _pair(self, side: Side, objects: Path, topic: str) -> Iterator[tuple[str, Figures]]:
        held = {"remote.storage.enable": "true", "remote.log.copy.disable": "true"}
        side.create_topic(
            topic, PARTITIONS, {"flush.mode": "os", "segment.bytes": str(SEGMENT_BYTES), **held}
        )
        run_client(filler(self.sizes.backfill_bytes, PARTITIONS)(side, topic))
        os.sync()  # the disk is to be at rest
        time.sleep(SETTLE_S)
        with steady(side) as idle:
            time.sleep(SETTLE_S)
        wanted = side.segments(topic) - PARTITIONS
        with connect(side.bootstrap) as connection:
            place = topic_id_text(topic_of(connection, topic).topic_id)
        with steady(side) as figures:
            copy(side, topic)
            until(lambda: len(list(objects.glob(f"*/*/{place}/*/*.seg"))) >= wanted)
        figures["copied_mb_per_s"] = self.sizes.backfill_bytes / 1e6 / figures["wall_s"]
        figures["burnt_s"] = (
            figures["broker_cpu_s"] - idle["broker_cpu_s"] * figures["wall_s"] / idle["wall_s"]
        )
        yield BACKFILL, figures
        time.sleep(SETTLE_S)
        with steady(side) as control, burning(figures["burnt_s"]) as burner:
            burner.wait()
        yield CONTROL, control
        side.delete_topic(topic)


@contextmanager
def steady(side: Side) -> Iterator[Figures]:
    """A steady producer for as long as the block takes; what it and the broker's processes did is in the figures then."""
    client = raw("raw_steady", side, STEADY)
    process = subprocess.Popen(
        client.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent, text=True
    )
    before_s, figures = side.tree.cpu_s(), Figures()
    yield figures
    used_s = side.tree.cpu_s() - before_s
    out, _ = process.communicate()
    if process.returncode:
        raise ClientFailed(f"raw_steady: exit code {process.returncode}")
    figures |= client.parse(out)
    figures["broker_cpu_s"] = used_s


@contextmanager
def burning(burnt_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends once it has used so much processor time."""
    program = BURN.format(nice=NICENESS, burnt_s=burnt_s)
    process = subprocess.Popen([sys.executable, "-c", program], preexec_fn=die_with_parent)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def copy(side: Side, topic: str) -> None:
    """Lets go what was held back."""
    change = AlterableConfig(name="remote.log.copy.disable", config_operation=0, value="false")
    resource = AlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=topic, configs=[change])
    request = IncrementalAlterConfigsRequest(resources=[resource])
    with connect(side.bootstrap) as connection:
        answer = exchange(connection, request, 1, IncrementalAlterConfigsResponse)
    if answer.responses[0].error_code:
        raise Refused(f"{side.name}: {topic}: {answer.responses[0].error_message}")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _COPY_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not copied within {_COPY_TIMEOUT_S:g} s")
        time.sleep(0.05)
