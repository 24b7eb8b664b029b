"""Batches of kafka-python and aiokafka are read, and ours by them, with every codec."""

from __future__ import annotations

import warnings

import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AioBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AioBuilder

from tests.unit.records.strategies import plain
from tierlog.records.batch import Compression, parse_header, verify_crc
from tierlog.records.records import Record, build_batch, read_records

with warnings.catch_warnings():  # kafka-python loads its schemas through a deprecated call
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.record.default_records import DefaultRecordBatch as PyBatch
    from kafka.record.default_records import DefaultRecordBatchBuilder as PyBuilder

# Compressible and long enough that every client really compresses.
RECORDS = [
    Record(
        b"key-1", b"value " * 2000, 1_700_000_000_123, (("trace", b"abc"), ("empty", b""), ("null", None))
    ),
    Record(None, b"no key", 1_700_000_000_500),
    Record(b"tombstone", None, 1_700_000_000_100),
    Record(b"", b"", 1_700_000_000_100, (("ü", b"\0\xff"),)),
    *[Record(b"k%d" % i, b"some text that repeats " * 30, 1_700_000_001_000 + i) for i in range(300)],
]
FIELDS = {"producer_id": 12, "producer_epoch": 3, "base_sequence": 44}
BUILDERS = {"kafka-python": PyBuilder, "aiokafka": AioBuilder}
READERS = {"kafka-python": PyBatch, "aiokafka": AioBatch}
# kafka-python takes snappy from a package that is not installed here.
CASES = [
    (client, codec)
    for client in BUILDERS
    for codec in Compression
    if (client, codec) != ("kafka-python", Compression.SNAPPY)
]


def foreign_batch(client: str, codec: Compression, is_transactional: bool) -> bytes:
    builder = BUILDERS[client](
        magic=2,
        compression_type=int(codec),
        is_transactional=is_transactional,
        batch_size=10_000_000,
        **FIELDS,
    )
    for offset, record in enumerate(RECORDS):
        assert builder.append(
            offset,
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )
    return bytes(builder.build())


@pytest.mark.parametrize(("client", "codec"), CASES)
@pytest.mark.parametrize("is_transactional", [False, True])
def test_we_read_theirs(client: str, codec: Compression, is_transactional: bool) -> None:
    data = foreign_batch(client, codec, is_transactional)
    header = parse_header(data)
    assert verify_crc(data, 0, header)
    assert header.compression is codec and header.is_transactional is is_transactional
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (12, 3, 44)
    read = [plain(record)._replace(offset=-1) for record in read_records(data, 0, header)]
    assert read == RECORDS


@pytest.mark.parametrize(("client", "codec"), CASES)
def test_they_read_ours(client: str, codec: Compression) -> None:
    ours = bytes(build_batch(RECORDS, base_offset=700, compression=codec, is_transactional=True, **FIELDS))
    batch = READERS[client](ours)
    assert batch.validate_crc()
    assert batch.is_transactional
    read = [
        Record(record.key, record.value, record.timestamp, tuple(record.headers), record.offset)
        for record in batch
    ]
    assert read == [record._replace(offset=700 + i) for i, record in enumerate(RECORDS)]


@pytest.mark.parametrize("client", BUILDERS)
def test_uncompressed_bytes_are_the_same(client: str) -> None:
    theirs = foreign_batch(client, Compression.NONE, True)
    ours = build_batch(
        RECORDS,
        leader_epoch=parse_header(theirs).partition_leader_epoch,
        is_transactional=True,
        **FIELDS,
    )
    assert bytes(ours) == theirs
