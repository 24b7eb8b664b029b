"""One row of the ledger: a sum over an hour of one broker. ``docs/ledger.md`` specifies it for strangers.

A row's ``kind`` says which columns count; all others hold their defaults. Rows of one hour and broker whose other
columns are equal are summed, so that an hour may be told in several pieces (a restart writes what it has).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

HOUR_MS = 3_600_000
ALL = -1
"""In ``partition``: of no one partition."""
NO_BROKER = -1
"""In ``broker_id``: counted by a program beside the brokers, a replay."""


class Kind(StrEnum):
    """What a row is about."""

    REQUESTS = "requests"
    """Requests to the object store, and their bytes."""
    STORED = "stored"
    """Segments in the bucket, by storage class."""
    OVERHEAD = "overhead"
    """What lies in the bucket beside segments, by cause: pages and copies of heads, markers, the ledger."""
    LOCAL = "local"
    """What lies on the broker's disk of one replica."""
    TRAFFIC = "traffic"
    """Bytes between clients or replicas and the broker."""
    DISK = "disk"
    """A log directory's file system."""


class Cause(StrEnum):
    """Why the store was asked."""

    COPY = "copy"
    COMMIT = "commit"
    """Head copies, pages and page indexes."""
    FETCH = "fetch"
    """A consumer, or a question about a timestamp."""
    REPLAY = "replay"
    SCRUB = "scrub"
    SWEEP = "sweep"
    DELETE = "delete"
    """Retention, DeleteRecords, deleted topics."""
    CLASS_MOVE = "class-move"
    RECOVERY = "recovery"
    """A new leader reads what it must know; a damaged local segment is looked for."""
    START = "start"
    """The marker, and what a start or a doctor tries."""
    LEDGER = "ledger"
    OTHER = "other"


class Operation(StrEnum):
    """One HTTP request to the store, retries included. A directory store counts as if it were S3."""

    PUT = "put"
    CREATE_UPLOAD = "create-upload"
    PART = "part"
    COMPLETE_UPLOAD = "complete-upload"
    ABORT_UPLOAD = "abort-upload"
    LIST_UPLOADS = "list-uploads"
    COPY = "copy"
    GET = "get"
    HEAD = "head"
    LIST = "list"
    DELETE = "delete"
    """One request, whatever number of keys it names."""
    DESCRIBE = "describe"
    """About the bucket itself: versioning, lifecycle, location."""


class Direction(StrEnum):
    """Of a traffic row, seen from the broker."""

    PRODUCE = "produce"
    CONSUME = "consume"
    CONSUME_REMOTE = "consume-remote"
    """Answered from the object store or a cache of it."""
    REPLICATE = "replicate"
    """Sent to a follower."""


class LedgerRow(NamedTuple):
    """``hour_ms`` is the start of a UTC hour. ``held_bytes`` and ``objects`` are of the hour's end; ``byte_hours`` is the
    integral over the hour: 1 GiB held for half of it is 2**29. ``principal`` and ``client_id`` are empty where nobody is
    known, racks where none is set. ``sent_bytes`` and ``received_bytes`` are seen from the broker."""

    hour_ms: int
    broker_id: int
    kind: Kind
    topic_id: str = ""
    topic: str = ""
    partition: int = ALL
    cause: str = ""
    operation: str = ""
    storage_class: str = ""
    direction: str = ""
    principal: str = ""
    client_id: str = ""
    host: str = ""
    from_rack: str = ""
    to_rack: str = ""
    log_dir: str = ""
    requests: int = 0
    failed: int = 0
    records: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    held_bytes: int = 0
    duplicated_bytes: int = 0
    """Of a local row: also in the bucket. Of a disk row: used by others than this broker."""
    capacity_bytes: int = 0
    objects: int = 0
    byte_hours: float = 0.0


SUMMED = frozenset({"requests", "failed", "records", "sent_bytes", "received_bytes", "byte_hours"})
LAST = frozenset({"held_bytes", "duplicated_bytes", "capacity_bytes", "objects"})
"""Where an hour is told in pieces, the last piece's."""
