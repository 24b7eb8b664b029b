"""Mutated record batches in valid Produce requests: each must be answered, taken or refused, on an open connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from tests.servers.raw_client import RawClient, produce_request
from tierlog.errors import ErrorCode
from tierlog.records.batch import CRC_AT, HEADER_BYTES, LENGTH_AT, Compression, seal
from tierlog.records.records import Record, build_batch
from tierlog.wire.messages.produce import ProduceResponse

IN_FLIGHT = 16
BATCHES_PER_REQUEST = 4
VERSIONS = (3, 6, 7, 8, 9, 12)
NOW_MS = 1_700_000_000_000
TOPICS: dict[str, dict[str, str]] = {
    "batches-plain": {},
    "batches-compacted": {"cleanup_policy": "compact"},
    "batches-validated": {"tierlog_validate_records": "true"},
    "batches-append-time": {"message_timestamp_type": "LogAppendTime"},
}
"""Every way in which a broker looks at a batch."""


def batches(rng: Random) -> list[bytes]:
    """Valid ones: each codec, with and without keys, headers, nulls and producer."""
    made = []
    for codec in Compression:
        for producer_id in (-1, 4000, 4001):
            for count in (1, 2, 7):
                records = [
                    Record(
                        rng.choice((None, b"", rng.randbytes(8))),
                        rng.choice((None, b"", rng.randbytes(rng.randrange(80)))),
                        NOW_MS + n,
                        rng.choice(((), (("name", b"value"),), (("", None), ("x" * 40, b"")))),
                    )
                    for n in range(count)
                ]
                batch = build_batch(
                    records,
                    compression=codec,
                    producer_id=producer_id,
                    producer_epoch=-1 if producer_id < 0 else 0,
                    base_sequence=-1 if producer_id < 0 else 0,
                )
                made.append(bytes(batch))
    return made


def mutate_batch(rng: Random, batch: bytes) -> bytes:
    """Damages a batch; two times in three the length and the checksum are made right again, so that what is behind
    them is looked at."""
    data = bytearray(batch)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = (
            rng.randrange(len(data))
            if rng.random() < 0.5
            else rng.randrange(min(len(data), HEADER_BYTES + 8))
        )
        choice = rng.randrange(10)
        if choice < 5:
            data[at] ^= 1 << rng.randrange(8)
        elif choice < 7:
            data[at] = rng.choice((0, 1, 2, 127, 128, 254, 255))
        elif choice == 7:
            del data[at : at + rng.choice((1, 4, 30))]
        elif choice == 8:
            data[at:at] = data[at : at + 8]
        else:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 30)))
        if not data:
            return b""
    if rng.random() < 0.67 and len(data) >= HEADER_BYTES:
        data[LENGTH_AT : LENGTH_AT + 4] = (len(data) - 12).to_bytes(4, "big")
        assert len(data) > CRC_AT
        seal(data, 0, len(data))
    return bytes(data)


class BatchFuzzer:
    """``run(count)`` sends so many batches over one pipelined connection; ``answers`` counts the codes."""

    def __init__(self, port: int, rng: Random) -> None:
        self.answers: Counter[str] = Counter()
        self._rng = rng
        self._valid = batches(rng)
        self._client = RawClient(port)

    def run(self, count: int) -> None:
        under_way: list[tuple[int, int]] = []
        for version, records in self._requests(count):
            request = produce_request(
                self._rng.choice(tuple(TOPICS)), dict(enumerate(records)), acks=self._rng.choice((1, -1))
            )
            under_way.append((self._client.send(request, version), version))
            if len(under_way) >= IN_FLIGHT:
                self._receive(*under_way.pop(0))
        for one in under_way:
            self._receive(*one)

    def close(self) -> None:
        self._client.socket.close()

    def _requests(self, count: int) -> Iterator[tuple[int, list[bytes | None]]]:
        rng = self._rng
        while count > 0:
            size = min(count, BATCHES_PER_REQUEST)
            count -= size
            yield rng.choice(VERSIONS), [mutate_batch(rng, rng.choice(self._valid)) for _ in range(size)]

    def _receive(self, sent_id: int, version: int) -> None:
        correlation_id, response = self._client.receive(ProduceResponse, version)
        assert correlation_id == sent_id, "replies are in request order"
        for partition in response.responses[0].partition_responses:
            self.answers[ErrorCode(partition.error_code).name] += 1
