"""Consumers during the run, and the reading of everything at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from tests.chaos.cluster.history import Batch, History, Place, Poll, Written, decode_value
from tests.servers.raw_client import Disconnected, RawClient
from tierlog.errors import ErrorCode
from tierlog.records.batch import walk_whole

QUIET = {
    "log_level": 0,
    "enable.auto.commit": False,
    "socket.timeout.ms": 3000,
    "socket.connection.setup.timeout.ms": 1000,
    "reconnect.backoff.max.ms": 250,
    "topic.metadata.refresh.interval.ms": 1000,
    "fetch.wait.max.ms": 200,
    "fetch.error.backoff.ms": 50,
}
READ_S = 120.0


class Watcher(threading.Thread):
    """Reads all partitions from their start, and must see each offset, once and in order. ``group``: as the only member of
    a group that commits as it goes; each assignment begins a new run there."""

    def __init__(
        self, name: str, bootstrap: str, places: Sequence[Place], history: History, *, group: bool
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.errors: list[str] = []
        self._places = places
        self._history = history
        self._is_group = group
        self._run = 0
        self._stopping = threading.Event()
        # An offset out of range is an error: nothing is ever deleted here.
        reset = "earliest" if group else "error"
        self._settings = {
            **QUIET,
            "bootstrap.servers": bootstrap,
            "group.id": name,
            "auto.offset.reset": reset,
        }

    def stop(self) -> None:
        self._stopping.set()
        self.join(60)
        assert not self.is_alive(), f"{self.name} does not end"

    def run(self) -> None:
        consumer = Consumer(self._settings)
        try:
            if self._is_group:
                topics = sorted({place.topic for place in self._places})
                consumer.subscribe(topics, on_assign=self._assigned)
            else:
                consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in self._places])
            while not self._stopping.is_set():
                self._poll(consumer)
        finally:
            consumer.close()

    def _assigned(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._run += 1

    def _poll(self, consumer: Consumer) -> None:
        messages = consumer.consume(200, 0.2)
        for message in messages:
            error = message.error()
            if error is not None:
                if not error.retriable() and len(self.errors) < 100:
                    self.errors.append(f"{message.topic()}-{message.partition()}: {error}")
                continue
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None and partition is not None and offset is not None
            place = Place(topic, partition)
            self._history.add_poll(
                Poll(self.name, self._run, place, offset, decode_value(message.value(), place))
            )
        if self._is_group and messages:
            try:
                consumer.commit(asynchronous=True)
            except KafkaException as error:
                self.errors.append(str(error))


def read_all(bootstrap: str, places: Sequence[Place]) -> dict[Place, list[tuple[int, Written | None]]]:
    """Every partition from its start to the end offset that it has now. Raises TimeoutError."""
    consumer = Consumer(
        {**QUIET, "bootstrap.servers": bootstrap, "group.id": "final", "auto.offset.reset": "error"}
    )
    found: dict[Place, list[tuple[int, Written | None]]] = {place: [] for place in places}
    deadline_s = time.monotonic() + READ_S
    try:
        due = {}
        for place in places:
            low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=30)
            if low < high:
                due[place] = high
        consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in due])
        while due:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not read to their ends: {due}")
            for message in consumer.consume(2000, 0.5):
                if message.error() is not None:
                    continue
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                assert topic is not None and partition is not None and offset is not None
                place = Place(topic, partition)
                if place in due and offset < due[place]:
                    found[place].append((offset, decode_value(message.value(), place)))
                    if offset + 1 == due[place]:
                        del due[place]
    finally:
        consumer.close()
    return found


def read_batches(bootstrap: str, ends: Mapping[Place, int]) -> dict[Place, list[Batch]]:
    """The batches of each partition below its end offset, of which a client that opens them does not tell. ``bootstrap``
    names every broker. Raises TimeoutError."""
    addresses = [address.rsplit(":", 1) for address in bootstrap.split(",")]
    found: dict[Place, list[Batch]] = {place: [] for place in ends}
    deadline_s = time.monotonic() + READ_S
    while due := [place for place, end in ends.items() if _end(found[place]) < end]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no batches to the end of {due}")
        for host, port in addresses:
            try:
                with RawClient(int(port), host=host) as client:
                    for place in due:
                        _read_on(client, place, ends[place], found[place])
            except (OSError, Disconnected):
                continue  # another one may have it
    return found


def _end(batches: list[Batch]) -> int:
    return batches[-1].last_offset + 1 if batches else 0


def _read_on(client: RawClient, place: Place, end_offset: int, found: list[Batch]) -> None:
    """As far as this broker can tell."""
    while _end(found) < end_offset:
        answer = client.fetch(place.topic, _end(found), place.partition, partition_max_bytes=1 << 20)
        before = len(found)
        if answer.error_code == ErrorCode.NONE:
            found += [
                Batch(
                    header.base_offset,
                    header.last_offset,
                    header.producer_id,
                    header.producer_epoch,
                    header.base_sequence,
                )
                for _, header in walk_whole(bytes(answer.records or b""))
            ]
        if len(found) == before:
            return
