"""A producer at a steady rate until its standard input ends: how long each acknowledgement took from when it was due.

    python -m benchmarks.raw_steady --bootstrap HOST:PORT --topic T [--rate 1000] [--acks -1] [--bytes 100]

Open loop: a record that is late does not hold back the next one. One connection, to a topic of one partition. Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import selectors
import sys
import time
from collections import deque

from benchmarks.wire import batch, connect, percentiles, produce_frame, reply_shape, topic_of

_RECEIVE_BYTES = 1 << 16


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--acks", type=int, default=-1)
    parser.add_argument("--bytes", type=int, default=100)
    return parser.parse_args()


class Steady:
    """``latencies_ns`` has one entry per acknowledgement."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.connection = connect(asked.bootstrap)
        topic = topic_of(self.connection, asked.topic)
        self.frame = produce_frame(topic, [0], batch(1, asked.bytes), 13, asked.acks)
        self.shape = reply_shape(topic, [0], 13)
        self.interval_ns = int(1e9 / asked.rate)
        self.latencies_ns: list[int] = []
        self._due_ns = deque[int]()
        self._replies = bytearray()

    def run(self) -> float:
        """Seconds until standard input ended; what is under way then does not count."""
        # Not epoll, which waits in whole milliseconds: that would be most of what is measured.
        with selectors.SelectSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            selector.register(sys.stdin, selectors.EVENT_READ)
            began = due = time.perf_counter_ns()
            while True:
                now = time.perf_counter_ns()
                while due <= now:
                    self._due_ns.append(due)
                    self.connection.sendall(self.frame)
                    due += self.interval_ns
                for key, _ in selector.select(max(0.0, (due - time.perf_counter_ns()) / 1e9)):
                    if key.fileobj is sys.stdin:
                        return (time.perf_counter_ns() - began) / 1e9
                    self._receive()

    def _receive(self) -> None:
        replies, size = self._replies, self.shape.size
        replies += self.connection.recv(_RECEIVE_BYTES)
        now = time.perf_counter_ns()
        while len(replies) >= size:
            self.shape.check(replies, 0)
            del replies[:size]
            self.latencies_ns.append(now - self._due_ns.popleft())


def main() -> None:
    asked = arguments()
    steady = Steady(asked)
    wall_s = steady.run()
    count = len(steady.latencies_ns)
    figures = {"requests": count, "records": count, "bytes": count * asked.bytes, "wall_s": wall_s}
    print(json.dumps(figures | percentiles(steady.latencies_ns)))


if __name__ == "__main__":
    main()
