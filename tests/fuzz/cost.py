"""What each input costs a running broker: how long it held the loop, and how far the memory grew."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.cost_inputs import Input, World
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)

COMPUTED = "tierlog_loop_computed_seconds_bucket"
ANSWER_S = 60.0
SETTLE_S = 0.02


class Cost(NamedTuple):
    """``stall_ms``: the upper bound of the longest piece that the loop's thread computed. ``seconds``: until the answer."""

    stall_ms: float
    growth_mib: float
    seconds: float = 0.0
    ending: str = ""

    def __str__(self) -> str:
        return f"{self.stall_ms:.0f} ms, {self.growth_mib:.1f} MiB, {self.ending} after {self.seconds:.2f} s"


class Found(NamedTuple):
    """An input and what it cost."""

    cost: Cost
    what: str

    def __str__(self) -> str:
        return f"{self.what}: {self.cost}"


class CostMeter:
    """Sends inputs to one broker, one after the other; remembers the slowest and the largest."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.slowest = self.largest = Found(Cost(0.0, 0.0), "none")
        self._seen = self._histogram()
        self._rss_bytes = self.reset_peak()

    def begin(self) -> None:
        """What was before does not count."""
        self._seen = self._histogram()
        self._rss_bytes = self.reset_peak()

    def end(self) -> Cost:
        """Since ``begin``."""
        growth_bytes = self._status("VmHWM") - self._rss_bytes
        return Cost(self.stall_ms(), growth_bytes / (1 << 20))

    def cost_of(self, each: Input) -> Cost:
        """A stall since the last call, or since ``begin``, is taken for its."""
        self._rss_bytes = self.reset_peak()
        started_s = time.monotonic()
        ending = send(self.broker.port, each.frame)
        seconds = time.monotonic() - started_s
        time.sleep(SETTLE_S)
        stall_ms, growth_mib, *_ = self.end()
        cost = Cost(stall_ms, growth_mib, seconds, ending)
        self.note(cost, str(each))
        return cost

    def note(self, cost: Cost, what: str) -> None:
        if cost.stall_ms > self.slowest.cost.stall_ms:
            self.slowest = Found(cost, what)
        if cost.growth_mib > self.largest.cost.growth_mib:
            self.largest = Found(cost, what)

    def stall_ms(self) -> float:
        """The longest stall since the last call, rounded up to a bound of the histogram."""
        before, self._seen = self._seen, self._histogram()
        longest_s = 0.0
        below_before = below_now = 0.0
        for bound_s in sorted(self._seen):
            count = (self._seen[bound_s] - below_now) - (before.get(bound_s, 0.0) - below_before)
            below_now, below_before = self._seen[bound_s], before.get(bound_s, 0.0)
            if count > 0:
                longest_s = bound_s
        return longest_s * 1000

    def reset_peak(self) -> int:
        """Forgets the peak of the memory; returns the present size in bytes."""
        assert self.broker.process is not None
        Path(f"/proc/{self.broker.process.pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        assert self.broker.process is not None
        status = Path(f"/proc/{self.broker.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def _histogram(self) -> dict[float, float]:
        prefix = COMPUTED + '{le="'
        return {
            float(name[len(prefix) : -2]): value
            for name, value in self.broker.metrics().items()
            if name.startswith(prefix)
        }


def send(port: int, frame: bytes) -> str:
    """Sends a frame and reads one answer; returns how it ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        try:
            connection.sendall(frame)
            head = _read(connection, 4)
            if len(head) < 4:
                return "closed"
            left = int.from_bytes(head, "big")
            size = left
            while left:
                got = connection.recv(min(left, 1 << 20))
                if not got:
                    return "cut off"
                left -= len(got)
            return f"replied {size} bytes"
        except TimeoutError:
            return "silence"
        except ConnectionError:
            return "closed"


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        got = connection.recv(count - len(data))
        if not got:
            break
        data += got
    return data


def furnish(broker: BrokerProcess, narrow: int, wide: int, groups: int, width: int = 100) -> World:
    """Topics of one partition and of ``width``, and groups with an offset in each narrow one."""
    world = World(groups=groups)
    with RawClient(broker.port, timeout_s=120) as client:
        wanted = [(f"cost-{n}", 1) for n in range(narrow)] + [(f"cost-wide-{n}", width) for n in range(wide)]
        for start in range(0, len(wanted), 50):
            topics = [
                CreatableTopic(name=name, num_partitions=count, replication_factor=1)
                for name, count in wanted[start : start + 50]
            ]
            answer = client.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), CreateTopicsResponse)
            for topic in answer.topics:
                assert topic.error_code == 0, topic
                world.topics[topic.name] = (topic.topic_id, topic.num_partitions)
        positions = [
            OffsetCommitRequestTopic(name=name, partitions=[OffsetCommitRequestPartition()])
            for name in list(world.topics)[:20]
        ]
        for n in range(groups):
            commit = OffsetCommitRequest(group_id=f"cost-group-{n}", topics=positions)
            for _ in range(100):
                done = client.call(commit, OffsetCommitResponse, 9)
                if not any(p.error_code for t in done.topics for p in t.partitions):
                    break
                client.call(FindCoordinatorRequest(coordinator_keys=["x"]), FindCoordinatorResponse)
                time.sleep(0.1)
    return world
