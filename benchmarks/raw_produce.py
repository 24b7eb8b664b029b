"""A producer that costs next to nothing: one connection, frames encoded beforehand, replies checked in place.

    python -m benchmarks.raw_produce --bootstrap HOST:PORT --topic T --requests N
        [--version 13] [--acks -1] [--in-flight 1] [--records 1] [--bytes 100] [--spread 1] [--rate 0]

The connection goes to the leader of the topic's first partition, who has to lead the others too. Each request
carries one batch for each of ``--spread`` partitions; requests walk over all partitions of the topic in turn.
``--rate`` paces requests per second (0: as fast as replies allow). Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque

from benchmarks.wire import (
    ReplyShape,
    Topic,
    batch,
    connect,
    leader_of,
    percentiles,
    produce_frame,
    reply_shape,
    topic_of,
)

_RECEIVE_BYTES = 1 << 16


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--version", type=int, default=13)
    parser.add_argument("--acks", type=int, default=-1)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--records", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--spread", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    return parser.parse_args()


class RawProducer:
    """Sends frames in turn with a bounded window; ``latencies_ns`` has one entry per reply."""

    def __init__(self, asked: argparse.Namespace) -> None:
        with connect(asked.bootstrap) as connection:
            leader = leader_of(connection, asked.topic)
        self.connection = connect(leader)
        topic = topic_of(self.connection, asked.topic)
        self.frames, self.shape = self._encode(topic, asked)
        self.window: int = asked.in_flight
        self.interval_ns = int(1e9 / asked.rate) if asked.rate else 0
        self.latencies_ns: list[int] = []
        self.next_frame = 0

    @staticmethod
    def _encode(topic: Topic, asked: argparse.Namespace) -> tuple[list[bytes], ReplyShape]:
        spread = min(asked.spread, topic.partitions)
        groups = [
            [(first + n) % topic.partitions for n in range(spread)]
            for first in range(0, topic.partitions, spread)
        ]
        records = batch(asked.records, asked.bytes)
        frames = [produce_frame(topic, group, records, asked.version, asked.acks) for group in groups]
        return frames, reply_shape(topic, groups[0], asked.version)

    def run(self, requests: int) -> float:
        """Seconds from the first byte sent to the last reply."""
        connection, frames, shape = self.connection, self.frames, self.shape
        latencies, started = self.latencies_ns, deque[int]()
        buffer, have = bytearray(_RECEIVE_BYTES), 0
        view = memoryview(buffer)
        size, check, clock = shape.size, shape.check, time.perf_counter_ns
        sent = done = 0
        began = clock()
        while done < requests:
            burst = min(self.window - (sent - done), requests - sent)
            if self.interval_ns:
                burst = self._due(began, sent, burst, idle=sent == done)
            if burst > 0:
                first = self.next_frame
                chosen = [frames[(first + n) % len(frames)] for n in range(burst)]
                self.next_frame = (first + burst) % len(frames)
                now = clock()
                connection.sendall(chosen[0] if burst == 1 else b"".join(chosen))
                started.extend([now] * burst)
                sent += burst
            have += connection.recv_into(view[have:])
            now, at = clock(), 0
            while have - at >= size:
                check(buffer, at)
                latencies.append(now - started.popleft())
                at += size
                done += 1
            if at and have > at:
                buffer[: have - at] = buffer[at:have]
            have -= at
        return (clock() - began) / 1e9

    def _due(self, began_ns: int, sent: int, burst: int, *, idle: bool) -> int:
        """How many may be sent by now; sleeps when nothing is in flight and nothing is due."""
        due = (time.perf_counter_ns() - began_ns) // self.interval_ns + 1 - sent
        if due <= 0 and idle:
            time.sleep(max(0.0, (began_ns + sent * self.interval_ns - time.perf_counter_ns()) / 1e9))
            due = 1
        return min(burst, max(0, due))


def main() -> None:
    asked = arguments()
    producer = RawProducer(asked)
    wall_s = producer.run(asked.requests)
    batches = asked.requests * len(producer.shape.error_offsets)
    figures = {
        "requests": asked.requests,
        "records": batches * asked.records,
        "bytes": batches * asked.records * asked.bytes,
        "wall_s": wall_s,
        **percentiles(producer.latencies_ns),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
