"""What a produce waits for while another topic is replayed from the bucket: the tail of its latency, against a control run.

The control run shares everything but the replay: the same broker, records and steady producer, and a process with the
nice value of the replay that burns as much processor time, without touching broker or store. Pairs alternate. The store is
a directory in memory. The replay has one core, as the one that burns: a process beside a broker is given no more.
It reads the bucket alone, again and again for ``WINDOW_S``, since a tail of a few seconds is mostly chance. Every record is
decoded, all columns.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.backfill_rows import NICENESS, PARTITIONS, SEGMENT_BYTES, SETTLE_S, burning, steady, until
from benchmarks.bars import Bar, most
from benchmarks.measure import Figures, Sample, run_client
from benchmarks.own_brokers import OwnBrokers
from benchmarks.rows import filler
from benchmarks.sides import OS, Side, running, tierlog_side
from tests.servers.processes import die_with_parent

CONTROL = "replay: produce at 1000/s, its processor time burnt elsewhere"
BESIDE = "replay: produce at 1000/s, a replay from the bucket"
WINDOW_S = 15.0
STEADY = "steady"
REPLAYED = "replayed"
REPLAY = """
import os, time, tierlog.replay
os.nice({nice})
os.sched_setaffinity(0, {{max(os.sched_getaffinity(0))}})
until_s, times = time.monotonic() + {window_s}, 0
while time.monotonic() < until_s:
    assert sum(batch.num_rows for batch in tierlog.replay.open({topic!r}, bucket={bucket!r}))
    times += 1
print(times)
"""
_MEMORY = Path("/dev/shm")

BARS: dict[str, list[Bar]] = {
    CONTROL: [],
    BESIDE: [most("p99_ms", 1.1, against_row=CONTROL)],
}


class ReplayBeside(OwnBrokers):
    """Owns its broker; see ``rows`` for what it measures."""

    rows = BARS
    name = "replay"

    def _measure(self, directory: Path, wanted: Callable[[str], bool]) -> Iterator[Sample]:
        objects = Path(tempfile.mkdtemp(prefix="tierlog-replay-", dir=_MEMORY if _MEMORY.is_dir() else None))
        store = f"dir:{objects}?durable=false"
        side = tierlog_side(directory / "replay", {"tierlog.object.store": store})
        try:
            with running(side):
                side.create_topic(STEADY, 1, {"flush.mode": "os"})
                tiered = {"remote.storage.enable": "true", "segment.bytes": str(SEGMENT_BYTES)}
                side.create_topic(
                    REPLAYED, PARTITIONS, {"flush.mode": "os", "local.retention.bytes": "1", **tiered}
                )
                run_client(filler(self.sizes.backfill_bytes, PARTITIONS)(side, REPLAYED))
                segments = side.segments(REPLAYED) - PARTITIONS
                until(lambda: len(list(objects.glob("*/*/*/*/*.seg"))) >= segments)
                side.stop()
                side.start()  # which copies the heads to the bucket at once
                side.await_leaders((STEADY, REPLAYED))
                time.sleep(SETTLE_S)
                for number in range(self.sizes.runs + 1):
                    for row, figures in self._pair(side, store):
                        if number:  # the first pair only warms up
                            yield row, OS.label, figures
        finally:
            shutil.rmtree(objects, ignore_errors=True)

    def _pair(self, side: Side, store: str) -> Iterator[tuple[str, Figures]]:
        os.sync()
        time.sleep(SETTLE_S)
        with steady(side) as figures:
            burnt_s, times = replay(store)
        figures["burnt_s"] = burnt_s
        figures["replayed_mb_per_s"] = times * self.sizes.backfill_bytes / 1e6 / figures["wall_s"]
        yield BESIDE, figures
        time.sleep(SETTLE_S)
        with steady(side) as control, burning(burnt_s) as burner:
            burner.wait()
        yield CONTROL, control


def replay(store: str) -> tuple[float, int]:
    """The processor time that it took, in seconds, and how many times the topic was read."""
    program = REPLAY.format(nice=NICENESS, topic=REPLAYED, bucket=store, window_s=WINDOW_S)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=die_with_parent, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(done.stdout)
