"""Fuzzing a running broker over its socket: ``python -m tests.fuzz.live --frames N --batches M --seed S``.

Frames of every API in every version are damaged and sent, then damaged record batches in sound requests, then requests
that are made to be slow; then garbage is written into the stored log, and frames and slow requests come again. After each
block the broker must be alive, must have met no handler bug, must keep its memory bound, and must serve an ordinary
produce and fetch rightly; no request may hold the loop for more than ``STALL_MS_MAX`` nor take more than
``GROWTH_MIB_MAX``: a block in which one did is sent again in halves until it is found. At the end at least 30 % of the
frames must have reached a handler (by the broker's own counters), everything that was taken must be readable, and the
slowest and the largest input are told.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.fuzz.cost import Cost, CostMeter, Found, furnish
from tests.fuzz.cost_inputs import Versions, inputs
from tests.fuzz.garbage import store_garbage
from tests.fuzz.live_batches import TOPICS, BatchFuzzer
from tests.fuzz.live_frames import KEPT_TOPIC, FrameFuzzer, FramePool
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.records.batch import walk_whole
from tierlog.records.records import read_records
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from tierlog.wire.messages.metadata import MetadataRequest, MetadataResponse

BLOCK = 20_000
RSS_BYTES_MAX = 350 << 20
STALL_MS_MAX = 50.0
GROWTH_MIB_MAX = 64.0
HANDLER_SHARE_MIN = 0.30
CANARY = "a-canary-that-no-mutation-spells"
PARTITIONS = 4
OVERRIDES = {
    "offsets.topic.num.partitions": "4",
    "log.segment.delete.delay.ms": "1000",
    "log.segment.bytes": "8388608",
    "log.retention.ms": "-1",  # the records are of 2023
    "group.initial.rebalance.delay.ms": "0",
}


class LiveFuzz:
    """One broker under fire."""

    def __init__(self, broker: BrokerProcess, seed: int, keep_going: bool = False) -> None:
        self.broker = broker
        self.keep_going = keep_going
        self.rng = Random(seed)
        self.rss_bytes_max = 0
        with RawClient(broker.port) as client:
            self.topic_id = client.create_topic(KEPT_TOPIC, PARTITIONS)
            client.create_topic(CANARY)
            for name, configs in TOPICS.items():
                client.create_topic(name, PARTITIONS, **configs)
        self.pool = FramePool(self.rng, self.topic_id, PARTITIONS)
        self.world = furnish(broker, narrow=50, wide=2, groups=20)
        self.made = list(self.world.topics)
        self.meter = CostMeter(broker)
        self.too_dear: list[Found] = []

    def frames(self, count: int) -> dict[str, float]:
        """Sends damaged frames in blocks; returns the counts."""
        before = self._handled()
        checks = 0.0
        fuzzer = FrameFuzzer(self.broker.port, self.pool.mutated())
        started_s = time.monotonic()
        left = count
        while left:
            size = min(left, BLOCK)
            self.meter.begin()
            fuzzer.run(size, self.is_alive)
            left -= size
            self._judge(self.meter.end(), fuzzer.sent)
            checks += self.check()
            self._report(f"{count - left} frames", fuzzer.ends, started_s)
        fuzzer.close()
        handled = self._handled() - before - checks
        share = handled / count
        assert share >= HANDLER_SHARE_MIN, f"only {share:.1%} of the frames reached a handler"
        return {"frames": count, "handled": handled, "share": round(share, 3), **fuzzer.ends}

    def batches(self, count: int) -> dict[str, int]:
        """Sends damaged batches in blocks, reads back what was taken; returns the answers."""
        fuzzer = BatchFuzzer(self.broker.port, self.rng)
        started_s = time.monotonic()
        left = count
        while left:
            size = min(left, BLOCK)
            fuzzer.run(size)
            left -= size
            self.check()
            self._report(f"{count - left} batches", fuzzer.answers, started_s)
        fuzzer.close()
        assert fuzzer.answers["UNKNOWN_SERVER_ERROR"] == 0
        assert fuzzer.answers["KAFKA_STORAGE_ERROR"] == 0
        self.read_all()
        return {"batches": count, **fuzzer.answers}

    def slow(self, every: int = 1, versions: Versions = "all", only: frozenset[int] | None = None) -> int:
        """Sends every ``every``-th of the inputs that are made to be slow, of all APIs or of ``only``; returns how many."""
        count = 0
        started_s = time.monotonic()
        for each in inputs(self.world, only, versions, every):
            cost = self.meter.cost_of(each)
            if is_too_dear(cost):
                self.too_dear.append(Found(cost, str(each)))
            count += 1
            if count % 100 == 0:
                self.check()
                self.meter.begin()
                self._report(f"{count} slow requests", self.meter.slowest, started_s)
        self.check()
        return count

    def garbage(self) -> None:
        """What is wrong lies in the log from now on, and is what the slow requests ask for."""
        with RawClient(self.broker.port) as client:
            ends = {n: client.offset(KEPT_TOPIC, -1, n) for n in range(PARTITIONS)}
        store_garbage(self.broker, KEPT_TOPIC, PARTITIONS, ends, self.rng)
        self.world.topics = {KEPT_TOPIC: (self.topic_id, PARTITIONS)}
        self.world.timestamp = 1_700_000_000_000
        self.meter.begin()

    def _judge(self, cost: Cost, frames: list[bytes]) -> None:
        """Looks for the one frame that was too dear; what does not show itself again came of all together."""
        slowest, largest = self.meter.slowest.cost, self.meter.largest.cost
        if not is_too_dear(cost):
            if cost.stall_ms > slowest.stall_ms or cost.growth_mib > largest.growth_mib:
                self.meter.note(cost, f"one of {len(frames)} frames, or all together")
            return
        while len(frames) > 1:
            half = len(frames) // 2
            frames = next(
                (part for part in (frames[:half], frames[half:]) if is_too_dear(self._again(part))), []
            )
        if frames:
            found = Found(self._again(frames), f"frame {frames[0].hex()}")
            self.too_dear.append(found)
            self.meter.note(*found)
        else:
            sys.stderr.write(f"a block cost {cost}, and none of its frames alone\n")

    def _again(self, frames: list[bytes]) -> Cost:
        fuzzer = FrameFuzzer(self.broker.port, iter(frames), connections=1 if len(frames) == 1 else 96)
        self.meter.begin()
        fuzzer.run(len(frames), self.is_alive)
        fuzzer.close()
        return self.meter.end()

    def is_alive(self) -> bool:
        return self.broker.process is not None and self.broker.process.poll() is None

    def check(self) -> int:
        """What must hold after each block; returns the number of requests that it took."""
        assert self.is_alive(), "the broker has died"
        metrics = self.broker.metrics()
        bugs = metrics["tierlog_handler_bugs_total"]
        assert self.keep_going or bugs == 0, self.broker.log.read_text()[-8000:]
        rss_bytes = self.rss_bytes()
        self.rss_bytes_max = max(self.rss_bytes_max, rss_bytes)
        assert rss_bytes < RSS_BYTES_MAX, f"{rss_bytes >> 20} MiB resident"
        with RawClient(self.broker.port) as client:
            value = self.rng.randbytes(100)
            produced = client.produce(CANARY, one_batch(value))
            assert produced.error_code == ErrorCode.NONE
            fetched = client.fetch(CANARY, produced.base_offset)
            position, header = next(walk_whole(fetched.records))
            assert [bytes(r.value or b"") for r in read_records(fetched.records, position, header)] == [value]
            return 3 + self._sweep(client)

    def _sweep(self, client: RawClient) -> int:
        """Deletes the topics that mutated names have made."""
        keep = {KEPT_TOPIC, CANARY, "__consumer_offsets", *TOPICS, *self.made}
        topics = client.call(MetadataRequest(topics=None), MetadataResponse).topics
        strays = [DeleteTopicState(topic_id=t.topic_id) for t in topics if t.name not in keep]
        if strays:
            client.call(DeleteTopicsRequest(topics=strays, timeout_ms=10_000), DeleteTopicsResponse)
        return bool(strays)

    def read_all(self) -> None:
        """Whatever was taken can be fetched, batch by batch; without a gap in the offsets, but for what compaction took."""
        with RawClient(self.broker.port) as client:
            for topic, configs in TOPICS.items():
                may_have_gaps = configs.get("cleanup_policy") == "compact"
                for partition in range(PARTITIONS):
                    offset, end = 0, 1
                    while offset < end:
                        got = client.fetch(topic, offset, partition)
                        assert got.error_code == ErrorCode.NONE
                        end = got.high_watermark
                        for _, header in walk_whole(got.records):
                            assert header.base_offset == offset or (
                                may_have_gaps and header.base_offset > offset
                            )
                            offset = header.next_offset
                        assert offset >= end or len(got.records) > 0

    def rss_bytes(self) -> int:
        assert self.broker.process is not None
        status = Path(f"/proc/{self.broker.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def _handled(self) -> float:
        prefix = "kafka_network_requestmetrics_requests_total"
        return sum(value for name, value in self.broker.metrics().items() if name.startswith(prefix))

    def _report(self, what: str, counts: object, started_s: float) -> None:
        seconds = time.monotonic() - started_s
        line = f"{what} after {seconds:.0f} s, {self.rss_bytes() >> 20} MiB resident: {counts}\n"
        sys.stderr.write(line)


def is_too_dear(cost: Cost) -> bool:
    return cost.stall_ms > STALL_MS_MAX or cost.growth_mib > GROWTH_MIB_MAX


def main() -> None:
    parser = argparse.ArgumentParser(description="fuzz a tierlog broker over its socket")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--slow-every", type=int, default=1, help="of the slow requests; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-going", action="store_true", help="collect handler bugs in the broker's log")
    parser.add_argument("--data", type=Path, help="where the broker keeps its data and its log")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierlog-fuzz-") as directory:
        with BrokerProcess(arguments.data or Path(directory), dict(OVERRIDES)) as broker:
            fuzz = LiveFuzz(broker, arguments.seed, arguments.keep_going)
            figures: dict[str, object] = {}
            if arguments.frames:
                figures["frames"] = fuzz.frames(arguments.frames)
            if arguments.batches:
                figures["batches"] = fuzz.batches(arguments.batches)
            if arguments.slow_every:
                figures["slow"] = fuzz.slow(arguments.slow_every)
            fuzz.garbage()
            if arguments.frames:
                figures["frames_over_garbage"] = fuzz.frames(arguments.frames // 10)
            if arguments.slow_every:
                figures["slow_over_garbage"] = fuzz.slow(arguments.slow_every, "newest")
            figures["slowest"], figures["largest"] = map(str, (fuzz.meter.slowest, fuzz.meter.largest))
            figures["too_dear"] = list(map(str, fuzz.too_dear))
            figures["rss_mib_max"] = fuzz.rss_bytes_max >> 20
            figures["malformed"] = broker.metrics()["tierlog_malformed_requests_total"]
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        if fuzz.too_dear:
            sys.exit(1)


if __name__ == "__main__":
    main()
