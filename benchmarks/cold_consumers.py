"""Many librdkafka consumers, each of one cold partition, from an offset of its own to where the local log begins.

    python -m benchmarks.cold_consumers --bootstrap HOST:PORT --topic T [--consumers 100] [--bytes 16000]
        [--share] [--property KEY=VALUE ...]

``--share``: all read the first partition from its start. ``--bytes``: the size of each record, which must be the same.
Prints one line of JSON. The clock starts at the first record.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time

from confluent_kafka import Consumer, TopicPartition

from benchmarks.librdkafka import properties
from benchmarks.wire import EARLIEST, EARLIEST_LOCAL, connect, list_offsets, topic_of

THREADS = 4
_TIMEOUT_S = 600.0
_TAKEN_AT_ONCE = 2_000


class Reading:
    """One consumer on its way from ``start`` to ``end`` (exclusive)."""

    def __init__(self, asked: argparse.Namespace, partition: int, start: int, end: int) -> None:
        # As many bytes as the defaults let one Fetch bring, so that a hundred clients fit into memory.
        small = {
            "queued.max.messages.kbytes": 8_192,
            "fetch.max.bytes": 8_388_608,
            "auto.offset.reset": "error",
        }
        self.consumer = Consumer(properties(asked, {"group.id": "cold", "enable.auto.commit": False} | small))
        self.consumer.assign([TopicPartition(asked.topic, partition, start)])
        self.at, self.end = start, end
        self.records = 0

    def poll(self) -> bool:
        """Takes what is there; whether there was anything."""
        messages = self.consumer.consume(_TAKEN_AT_ONCE, 0.0)
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
        if messages:
            last = messages[-1].offset()
            assert last is not None
            self.at = last + 1
            self.records += len(messages)
        return bool(messages)


class Clock:
    """From the first record of any consumer to the last."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.last_s = 0.0

    def tick(self) -> None:
        self.last_s = time.perf_counter()
        self.first_s = self.first_s or self.last_s


def read_all(readings: list[Reading], clock: Clock, errors: list[BaseException]) -> None:
    pending, deadline = list(readings), time.monotonic() + _TIMEOUT_S
    try:
        while pending:
            found = False
            for reading in list(pending):
                if reading.poll():
                    found = True
                    clock.tick()
                if reading.at >= reading.end:
                    pending.remove(reading)
                    reading.consumer.close()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(pending)} consumers are not at their end")
            if not found:
                time.sleep(0.002)
    except BaseException as error:
        errors.append(error)


def make_readings(asked: argparse.Namespace) -> list[Reading]:
    with connect(asked.bootstrap) as connection:
        topic = topic_of(connection, asked.topic)
        starts = list_offsets(connection, topic, EARLIEST)
        ends = list_offsets(connection, topic, EARLIEST_LOCAL)
    rng, made = random.Random(1), []
    for number in range(asked.consumers):
        partition = 0 if asked.share else number % topic.partitions
        start, end = starts[partition], ends[partition]
        made.append(
            Reading(asked, partition, start if asked.share else rng.randrange(start, (start + end) // 2), end)
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--consumers", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=16_000)
    parser.add_argument("--share", action="store_true")
    parser.add_argument("--property", action="append", default=[])
    asked = parser.parse_args()
    readings, clock = make_readings(asked), Clock()
    errors: list[BaseException] = []
    threads = [
        threading.Thread(target=read_all, args=(readings[n::THREADS], clock, errors)) for n in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors or clock.first_s is None:
        raise RuntimeError(f"the consumers failed: {errors}")
    records = sum(reading.records for reading in readings)
    figures = {"records": records, "bytes": records * asked.bytes, "wall_s": clock.last_s - clock.first_s}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
