"""What producers were told, and what readers and the bucket must show of it."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tests.patience import PATIENT_S

VALUE_BYTES = 2_000
DELIVERY_MS = 600_000
"""Longer than any outage: each record is acknowledged in the end."""


class Ledger:
    """Acknowledged records of one topic: partition → offset → value."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.rows: dict[int, dict[int, bytes]] = {partition: {} for partition in range(partitions)}
        self.violations: list[str] = []
        self.compared = 0

    def acknowledged(self, partition: int, offset: int, value: bytes) -> None:
        known = self.rows[partition].setdefault(offset, value)
        if known != value:
            self.violations.append(f"offset {offset} of partition {partition} was given twice")

    def compare(self, partition: int, offset: int, value: bytes) -> None:
        known = self.rows[partition].get(offset)
        self.compared += 1
        if known is not None and known != value:
            self.violations.append(f"another value is read at offset {offset} of partition {partition}")


class Load:
    """Produces and reads on threads of its own until it is closed. ``bootstrap``: all brokers."""

    def __init__(self, bootstrap: str, topic: str, ledger: Ledger, seed: int) -> None:
        self._bootstrap, self._topic, self._ledger = bootstrap, topic, ledger
        self._rng = random.Random(seed)
        self._is_over = threading.Event()
        self.lows: dict[int, int] = defaultdict(int)
        """Offsets below are deleted, or may be by now."""
        self._threads = [
            threading.Thread(target=self._produce, name="chaos: produce"),
            threading.Thread(target=self._read, name="chaos: read"),
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _produce(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": DELIVERY_MS,
                "linger.ms": 20,
                "batch.size": 50_000,  # Segments are small.
                "topic.metadata.refresh.interval.ms": 2000,
            }
        )

        def delivered(error: KafkaError | None, message: Message) -> None:
            partition, offset, value = message.partition(), message.offset(), message.value()
            if error is not None or partition is None or offset is None or value is None:
                self._ledger.violations.append(f"a record was not taken: {error}")
            else:
                self._ledger.acknowledged(partition, offset, bytes(value))

        number = 0
        while not self._is_over.is_set():
            for _ in range(20):
                value = b"%d " % number + self._rng.randbytes(VALUE_BYTES)
                producer.produce(
                    self._topic, value, partition=number % self._ledger.partitions, on_delivery=delivered
                )
                number += 1
            producer.poll(0.1)
        if producer.flush(PATIENT_S):
            self._ledger.violations.append("records wait for ever")

    def _read(self) -> None:
        """From random places of what is there, some records each time."""
        reader = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "chaos",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        rng = random.Random(1)
        while not self._is_over.is_set():
            partition = rng.randrange(self._ledger.partitions)
            end = max(self._ledger.rows[partition], default=0)
            reader.assign([TopicPartition(self._topic, partition, rng.randint(self.lows[partition], end))])
            until_s = time.monotonic() + 2
            while time.monotonic() < until_s and not self._is_over.is_set():
                for message in reader.consume(200, 0.2):
                    self._compare(message)
        reader.close()

    def _compare(self, message: Message) -> None:
        partition, offset, value = message.partition(), message.offset(), message.value()
        if message.error() is None and partition is not None and offset is not None:
            self._ledger.compare(partition, offset, bytes(value or b""))


def read_all(bootstrap: str, topic: str, ledger: Ledger) -> dict[int, int]:
    """Compares all that is there with all that was acknowledged. The first offset of each partition."""
    starts = {}
    for partition in range(ledger.partitions):
        reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "chaos",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
            }
        )
        place = TopicPartition(topic, partition)
        low, high = reader.get_watermark_offsets(place, PATIENT_S)
        starts[partition] = low
        reader.assign([TopicPartition(topic, partition, low)])
        expected = {offset: value for offset, value in ledger.rows[partition].items() if offset >= low}
        found: dict[int, bytes] = {}
        deadline_s = time.monotonic() + PATIENT_S
        while len(found) < high - low and time.monotonic() < deadline_s:
            for message in reader.consume(1000, 0.5):
                error, offset, value = message.error(), message.offset(), message.value()
                if error is not None:
                    ledger.violations.append(f"partition {partition}: {error}")
                elif offset is not None:
                    found[offset] = bytes(value or b"")
        reader.close()
        if found != expected:
            missing, other = expected.keys() - found.keys(), found.keys() - expected.keys()
            wrong = sum(found[offset] != expected[offset] for offset in found.keys() & expected.keys())
            ledger.violations.append(
                f"partition {partition} [{low}, {high}): {len(missing)} lost, {len(other)} doubled, {wrong} wrong"
            )
    return starts
