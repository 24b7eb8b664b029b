"""From send to receipt: records at a steady rate through one connection, read by a long poll on another.

    python -m benchmarks.raw_latency --bootstrap HOST:PORT --topic T [--rate 1000] [--records 10000]
        [--acks -1] [--bytes 100]

Open loop: a record that is late does not hold back the next one, and its time counts from when it was due.
Records go to the topic's partitions in turn. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import selectors
import time

from benchmarks.raw_fetch import Reader
from benchmarks.wire import (
    LATEST,
    batch,
    connect,
    list_offsets,
    percentiles,
    produce_frame,
    reply_shape,
    topic_of,
)


class Traffic:
    """``due_ns[partition][n]`` is when the n-th record of this run had to leave."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.connection = connect(asked.bootstrap)
        topic = topic_of(self.connection, asked.topic)
        starts = list_offsets(self.connection, topic, LATEST)
        far = 1 << 62
        namespace = argparse.Namespace(bootstrap=asked.bootstrap, partition_bytes=1 << 20, max_bytes=50 << 20)
        self.reader = Reader(namespace, topic, {p: (start, far) for p, start in enumerate(starts)})
        self.starts = starts
        records = batch(1, asked.bytes)
        self.frames = [produce_frame(topic, [p], records, 13, asked.acks) for p in range(topic.partitions)]
        self.shape = reply_shape(topic, [0], 13)
        self.due_ns: list[list[int]] = [[] for _ in starts]
        self.seen = [0] * len(starts)
        self.latencies_ns: list[int] = []
        self._replies = bytearray()

    def run(self, count: int, rate: float) -> float:
        interval_ns = int(1e9 / rate)
        self.reader.ask()
        # Not epoll, which waits in whole milliseconds: that would be most of what is measured.
        with selectors.SelectSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ, self._replied)
            selector.register(self.reader.connection, selectors.EVENT_READ, self._arrived)
            began, sent = time.perf_counter_ns(), 0
            target = len(self.latencies_ns) + count
            while len(self.latencies_ns) < target:
                now = time.perf_counter_ns()
                while sent < count and began + sent * interval_ns <= now:
                    self._send(sent, began + sent * interval_ns)
                    sent += 1
                left_ns = (
                    began + sent * interval_ns - time.perf_counter_ns() if sent < count else 1_000_000_000
                )
                for key, _ in selector.select(max(0, left_ns) / 1e9):
                    key.data()
            self._settle()
        return (time.perf_counter_ns() - began) / 1e9

    def _send(self, n: int, due_ns: int) -> None:
        partition = n % len(self.frames)
        self.due_ns[partition].append(due_ns)
        self.connection.sendall(self.frames[partition])

    def _replied(self) -> None:
        self._replies += self.connection.recv(1 << 16)
        size = self.shape.size
        while len(self._replies) >= size:
            self.shape.check(self._replies, 0)
            del self._replies[:size]

    def _arrived(self) -> None:
        if not self.reader.receive():
            return
        # The next poll goes first: what the client does with what it has is not the broker's time.
        moved = list(self.reader.moved)
        self.reader.ask()
        received = self.reader.received_ns
        for partition in moved:
            due, end = self.due_ns[partition], self.reader.position[partition] - self.starts[partition]
            self.latencies_ns += [received - due[n] for n in range(self.seen[partition], end)]
            self.seen[partition] = end

    def _settle(self) -> None:
        """Waits for the open poll to run out, so that the next run starts with a fresh one."""
        while not self.reader.receive():
            pass
        while len(self._replies):
            self._replied()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--warmup", type=int, default=2000)
    parser.add_argument("--acks", type=int, default=-1)
    parser.add_argument("--bytes", type=int, default=100)
    asked = parser.parse_args()
    traffic = Traffic(asked)
    traffic.run(asked.warmup, asked.rate)
    traffic.latencies_ns.clear()
    wall_s = traffic.run(asked.records, asked.rate)
    figures = {
        "requests": asked.records,
        "records": asked.records,
        "bytes": asked.records * asked.bytes,
        "wall_s": wall_s,
        **percentiles(traffic.latencies_ns),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
