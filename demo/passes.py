"""The two passes: an ordinary kafka-python producer writes all flights, an ordinary group consumer reads them back."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from kafka import KafkaConsumer, KafkaProducer

from demo.flights import Flight, Ledger

SILENCE_S = 60.0
POLL_RECORDS = 2_000
TELL_EVERY = 200


class PassFailed(Exception):
    """One line for the user."""


@dataclass
class Pass:
    """How far one pass is; written by it, read by the screen."""

    expected: int
    ledger: Ledger = field(default_factory=Ledger)
    count: int = 0
    value_bytes: int = 0
    started_s: float = 0.0
    ended_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        if not self.started_s:
            return 0.0
        return (self.ended_s or time.monotonic()) - self.started_s

    def rate(self) -> tuple[float, float]:
        """Records and MB (of keys' values, 10^6 bytes) a second, so far."""
        elapsed_s = self.elapsed_s or 1e-9
        return self.count / elapsed_s, self.value_bytes / elapsed_s / 1e6

    def _tell(self) -> None:
        self.count, self.value_bytes = self.ledger.total, self.ledger.value_bytes


class Write(Pass):
    """Sends every flight and waits until the broker has acknowledged all."""

    def run(self, bootstrap: str, topic: str, flights: Iterable[Flight]) -> None:
        """Raises PassFailed when the broker refuses one."""
        failures: list[BaseException] = []
        producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, batch_size=128 * 1024)
        self.started_s = time.monotonic()
        try:
            for flight in flights:
                producer.send(
                    topic, key=flight.key, value=flight.value, timestamp_ms=flight.timestamp_ms
                ).add_errback(failures.append)
                self.ledger.add(*flight)
                if self.ledger.total % TELL_EVERY == 0:
                    self._tell()
                if failures:
                    break
            producer.flush()
        finally:
            producer.close()
        if failures:
            raise PassFailed(f"the broker refused a record: {failures[0]}")
        self._tell()
        self.ended_s = time.monotonic()


class Read(Pass):
    """Reads from the earliest offset to the end of each partition, and commits."""

    def run(self, bootstrap: str, topic: str, group: str) -> None:
        """Raises PassFailed when nothing comes for ``SILENCE_S`` before the end."""
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # While records of one partition are still buffered, the client asks for the others alone; when those are at
            # their end, that request would keep the next one back for half a second.
            fetch_max_wait_ms=20,
        )
        self.started_s = heard_s = time.monotonic()
        add = self.ledger.add
        try:
            while self.ledger.total < self.expected:
                for records in consumer.poll(timeout_ms=500, max_records=POLL_RECORDS).values():
                    for record in records:
                        add(record.key, record.value, record.timestamp)
                    heard_s = time.monotonic()
                self._tell()
                if time.monotonic() - heard_s > SILENCE_S:
                    raise PassFailed(
                        f"no record for {SILENCE_S:.0f} s; {self.count:,} of {self.expected:,} were read"
                    )
            self.ended_s = time.monotonic()
            consumer.commit()
            assigned = consumer.assignment()
            ends = consumer.end_offsets(assigned)
            left = sum(ends[partition] - consumer.position(partition) for partition in assigned)
            if left:
                raise PassFailed(f"{left:,} more records than were written")
        finally:
            consumer.close()
