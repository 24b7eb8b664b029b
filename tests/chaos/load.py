"""An idempotent load whose every record can be checked by its offset alone.

One producer per partition writes records 0, 1, 2, …; record n is ``value_of(partition, n)``, its sequence number is n,
and where nothing is lost, duplicated or reordered its offset is n. The producer keeps its id over restarts of the
broker, keeps up to five batches in flight, and after a disconnect sends all that is not acknowledged once more, as
librdkafka does. ``Violation``s are gathered, not raised, so that a run reports all of them.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from tests.servers.raw_client import Disconnected, RawClient, produce_request
from tierlog.errors import ErrorCode
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tierlog.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from tierlog.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from tierlog.wire.messages.produce import ProduceResponse

IN_FLIGHT = 5
VERSION = 12
KEYS = 40
RECORD_BYTES = 700
GROUP = "chaos"
_FILLER = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(RECORD_BYTES // 32 + 40))


@dataclass(frozen=True, slots=True)
class Target:
    """One partition under load."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def value_of(target: Target, n: int) -> bytes:
    """Unique, and not made of one another by mistake."""
    head = f"{target}:{n}:".encode()
    shift = n % 997
    return head + _FILLER[shift : shift + RECORD_BYTES - len(head)]


def key_of(n: int) -> bytes:
    """Few keys, so that compaction has something to do."""
    return b"key-%d" % (n * 7919 % KEYS)


@dataclass
class Violations:
    """What must not have happened."""

    found: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        if len(self.found) < 100:
            self.found.append(what)
            sys.stderr.write(f"VIOLATION {what}\n")


@dataclass(slots=True)
class Batch:
    first: int
    count: int
    data: bytes


class Producer(threading.Thread):
    """Writes one partition until ``stop``; then ``join`` returns once all is acknowledged."""

    def __init__(self, port: int, target: Target, violations: Violations, pace_s: float, batch: int) -> None:
        super().__init__(name=str(target), daemon=True)
        self.target = target
        self.acked = 0  # records below are acknowledged
        self.sent = 0  # records below were sent at least once
        self._port = port
        self._violations = violations
        self._pace_s = pace_s
        self._batch_count = batch
        self._unacked: deque[Batch] = deque()
        self._producer: tuple[int, int] | None = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def is_done(self) -> bool:
        return self._stopping.is_set() and not self._unacked

    def run(self) -> None:
        while not self.is_done:
            try:
                with RawClient(self._port) as client:
                    self._serve(client)
            except (OSError, Disconnected):
                time.sleep(0.05)

    def _serve(self, client: RawClient) -> None:
        """One connection: everything unacknowledged first, in order."""
        if self._producer is None:
            self._producer = client.init_producer()
        for batch in self._unacked:
            self._send(client, batch)
        while not self.is_done:
            if not self._stopping.is_set() and len(self._unacked) < IN_FLIGHT:
                self._unacked.append(self._next_batch())
                self._send(client, self._unacked[-1])
                if self._pace_s:
                    time.sleep(self._pace_s)
                if len(self._unacked) < IN_FLIGHT:
                    continue
            if not self._take_answer(client):
                time.sleep(0.02)
                return

    def _next_batch(self) -> Batch:
        assert self._producer is not None
        now_ms = int(time.time() * 1000)
        first, count = self.sent, self._batch_count
        records = [Record(key_of(n), value_of(self.target, n), now_ms) for n in range(first, first + count)]
        producer_id, epoch = self._producer
        data = build_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=first)
        self.sent += count
        return Batch(first, count, bytes(data))

    def _send(self, client: RawClient, batch: Batch) -> None:
        request = produce_request(self.target.topic, {self.target.partition: batch.data}, acks=-1)
        client.send(request, VERSION)

    def _take_answer(self, client: RawClient) -> bool:
        """Whether the oldest batch was acknowledged; if not, the connection is to be begun anew."""
        _, response = client.receive(ProduceResponse, VERSION)
        answer = response.responses[0].partition_responses[0]
        error = ErrorCode(answer.error_code)
        batch = self._unacked[0]
        if error is not ErrorCode.NONE:
            if error in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                self._violations.add(f"{self.target}: record {batch.first} was answered {error.name}")
                self._unacked.clear()
                self.stop()
            return False
        if answer.base_offset != batch.first:
            self._violations.add(
                f"{self.target}: record {batch.first} acknowledged at offset {answer.base_offset}"
            )
        self._unacked.popleft()
        self.acked = batch.first + batch.count
        return True


class Committer(threading.Thread):
    """Commits rising offsets of one group; after each restart ``check`` finds the last acknowledged one or a later."""

    def __init__(self, port: int, target: Target, violations: Violations) -> None:
        super().__init__(name="committer", daemon=True)
        self.target = target
        self.acked = -1
        self.sent = -1
        self._port = port
        self._violations = violations
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with RawClient(self._port) as client:
                    # Makes __consumer_offsets where it is not there yet.
                    client.call(FindCoordinatorRequest(coordinator_keys=[GROUP]), FindCoordinatorResponse)
                    while not self._stopping.is_set():
                        self._commit(client)
                        time.sleep(0.003)
            except (OSError, Disconnected):
                time.sleep(0.05)

    def _commit(self, client: RawClient) -> None:
        self.sent += 1
        offset = self.sent
        partition = OffsetCommitRequestPartition(
            partition_index=self.target.partition, committed_offset=offset, committed_metadata="x" * 300
        )
        topics = [OffsetCommitRequestTopic(name=self.target.topic, partitions=[partition])]
        request = OffsetCommitRequest(group_id=GROUP, member_id="", topics=topics)
        response = client.call(request, OffsetCommitResponse, 8)
        if response.topics[0].partitions[0].error_code == ErrorCode.NONE:
            self.acked = offset
        else:
            time.sleep(0.02)

    def check(self, port: int, acked_before: int) -> None:
        """Call after a restart, with ``acked`` as it was when the broker died."""
        with RawClient(port) as client:
            wanted = OffsetFetchRequestTopics(
                name=self.target.topic, partition_indexes=[self.target.partition]
            )
            group = OffsetFetchRequestGroup(group_id=GROUP, topics=[wanted])
            deadline_s = time.monotonic() + 20
            while True:
                response = client.call(OffsetFetchRequest(groups=[group]), OffsetFetchResponse, 8)
                answered = response.groups[0]
                if answered.error_code == ErrorCode.NONE or time.monotonic() > deadline_s:
                    break
                time.sleep(0.02)
            if answered.error_code:
                name = ErrorCode(answered.error_code).name
                self._violations.add(f"group {GROUP}: {name} for 20 s after the restart")
                return
            committed = answered.topics[0].partitions[0].committed_offset
            if committed < acked_before:
                self._violations.add(f"group {GROUP}: committed {acked_before}, found {committed}")
