"""confluent-kafka on the same work: the client of most services that are not written in Java.

    python -m benchmarks.librdkafka produce|consume|latency --bootstrap HOST:PORT --topic T --records N
        [--bytes 1000] [--rate 1000] [--property KEY=VALUE ...]

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import threading
import time
from typing import Any

from confluent_kafka import Consumer, Message, Producer

from benchmarks.wire import percentiles

_TIMEOUT_S = 120.0
_stamp = struct.Struct(">q")


def properties(asked: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    given = dict(each.partition("=")[::2] for each in asked.property)
    return {"bootstrap.servers": asked.bootstrap} | defaults | given


def fail_on_error(error: object, message: Message) -> None:
    if error is not None:
        raise RuntimeError(str(error))


def produce(asked: argparse.Namespace) -> dict[str, float]:
    producer = Producer(properties(asked, {"queue.buffering.max.kbytes": 262_144}))
    value = os.urandom(asked.bytes)
    began = time.perf_counter()
    for _ in range(asked.records):
        while True:
            try:
                producer.produce(asked.topic, value, on_delivery=fail_on_error)
                break
            except BufferError:
                producer.poll(0.01)
    if producer.flush(_TIMEOUT_S):
        raise RuntimeError("records were not delivered")
    return {"wall_s": time.perf_counter() - began}


def consumer(asked: argparse.Namespace, defaults: dict[str, Any]) -> Consumer:
    group = {"group.id": f"bench-{time.time_ns()}", "enable.auto.commit": False}
    reader = Consumer(properties(asked, group | {"auto.offset.reset": "earliest"} | defaults))
    reader.subscribe([asked.topic])
    return reader


def consume(asked: argparse.Namespace) -> dict[str, float]:
    """The clock starts at the first record: joining the group is not what is measured."""
    reader = consumer(asked, {})
    count, began, deadline = 0, 0.0, time.monotonic() + _TIMEOUT_S
    while count < asked.records:
        messages = reader.consume(10_000, 1.0)
        if messages and not count:
            began = time.perf_counter()
        count += len(messages)
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {count} of {asked.records} records came")
    wall_s = time.perf_counter() - began
    reader.close()
    return {"wall_s": wall_s}


class Latency:
    """Each record carries when it was due; the reader runs in a thread of its own."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.latencies_ns: list[int] = []
        self.ready = threading.Event()
        self.total = asked.warmup + asked.records

    def read(self) -> None:
        reader = consumer(self.asked, {"auto.offset.reset": "latest"})
        deadline = time.monotonic() + _TIMEOUT_S
        while len(self.latencies_ns) < self.total and time.monotonic() < deadline:
            message = reader.poll(0.05)
            if message is None:
                if reader.assignment():
                    self.ready.set()
                continue
            value = message.value()
            assert value is not None
            self.latencies_ns.append(time.perf_counter_ns() - _stamp.unpack_from(value)[0])
        reader.close()

    def run(self) -> dict[str, float]:
        thread = threading.Thread(target=self.read)
        thread.start()
        self.ready.wait(_TIMEOUT_S)
        time.sleep(1.0)  # An assigned reader still looks up where its partitions end.
        producer = Producer(properties(self.asked, {"linger.ms": 0}))
        padding = bytes(self.asked.bytes - _stamp.size)
        began, interval_ns = time.perf_counter_ns(), int(1e9 / self.asked.rate)
        for n in range(self.total):
            due = began + n * interval_ns
            left_ns = due - time.perf_counter_ns()
            if left_ns > 0:
                time.sleep(left_ns / 1e9)
            producer.produce(self.asked.topic, _stamp.pack(due) + padding, on_delivery=fail_on_error)
            producer.poll(0)
        producer.flush(_TIMEOUT_S)
        thread.join()
        measured = self.latencies_ns[self.asked.warmup :]
        if len(measured) < self.asked.records:
            raise RuntimeError(f"only {len(measured)} of {self.asked.records} records came")
        return {"wall_s": (time.perf_counter_ns() - began) / 1e9, **percentiles(measured)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", choices=["produce", "consume", "latency"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--property", action="append", default=[])
    asked = parser.parse_args()
    sys.setswitchinterval(0.0005)  # The reader's thread must not wait 5 ms for the sender's.
    if asked.work == "latency":
        figures = Latency(asked).run()
    else:
        figures = produce(asked) if asked.work == "produce" else consume(asked)
    print(json.dumps({"records": asked.records, "bytes": asked.records * asked.bytes, **figures}))


if __name__ == "__main__":
    main()
