"""Control batches: transaction markers, and the other types, which readers only step over (KIP-98).

A control batch holds one record: key ``int16 version, int16 type``; an end-transaction marker's value is
``int16 version, int32 coordinator epoch``. Later versions may append fields, so extra bytes are ignored.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.records.batch import BatchHeader, InvalidBatch
from tierlog.records.records import Record, build_batch, read_records
from tierlog.types import Buffer

_KEY = Struct(">hh")
_VALUE = Struct(">hi")


class ControlType(IntEnum):
    """UNKNOWN stands for every type that this version does not know; readers step over it."""

    UNKNOWN = -1
    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


class EndTransactionMarker(NamedTuple):
    """A COMMIT or ABORT marker and the epoch of the coordinator that wrote it."""

    is_commit: bool
    coordinator_epoch: int


def control_type(key: Buffer | None) -> ControlType:
    """Type of a control record by its key. Raises InvalidBatch for bytes that are no such key."""
    if key is None or len(key) < _KEY.size:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "control record without a type")
    version, kind = _KEY.unpack_from(key)
    if version < 0:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"control record of version {version}")
    try:
        return ControlType(kind)
    except ValueError:
        return ControlType.UNKNOWN


def read_control_type(buf: Buffer, pos: int, header: BatchHeader) -> ControlType | None:
    """Type of the control batch at ``pos``; None when compaction has emptied it."""
    if header.records_count == 0:
        return None
    return control_type(read_records(buf, pos, header)[0].key)


def read_end_transaction_marker(buf: Buffer, pos: int, header: BatchHeader) -> EndTransactionMarker | None:
    """The marker in the control batch at ``pos``; None for an emptied batch and for all other control types.

    Raises InvalidBatch for a control batch that cannot be read."""
    if header.records_count == 0:
        return None
    record = read_records(buf, pos, header)[0]
    kind = control_type(record.key)
    if kind not in (ControlType.ABORT, ControlType.COMMIT):
        return None
    if record.value is None or len(record.value) < _VALUE.size:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "transaction marker without coordinator epoch")
    version, coordinator_epoch = _VALUE.unpack_from(record.value)
    if version < 0:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"transaction marker of version {version}")
    return EndTransactionMarker(kind is ControlType.COMMIT, coordinator_epoch)


def readable_marker(buf: Buffer, pos: int, header: BatchHeader) -> EndTransactionMarker | None:
    """As ``read_end_transaction_marker``, but None for a batch that cannot be read. For batches already stored."""
    try:
        return read_end_transaction_marker(buf, pos, header)
    except InvalidBatch:
        return None


def build_end_transaction_marker(
    marker: EndTransactionMarker,
    *,
    producer_id: int,
    producer_epoch: int,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """A whole control batch as Kafka's transaction coordinator has it appended."""
    kind = ControlType.COMMIT if marker.is_commit else ControlType.ABORT
    record = Record(_KEY.pack(0, kind), _VALUE.pack(0, marker.coordinator_epoch), timestamp_ms)
    return build_batch(
        [record],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        is_transactional=True,
        is_control=True,
    )
