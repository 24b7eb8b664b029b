"""What a broker and its copy worker say to each other. Pure.

::

    frame  := header bytes u32, body bytes u32 (little-endian), header, body
    header := JSON; ``say`` names the message, ``job`` the copy that it is about

    broker → worker
    open     url, jobs_max                                     the store; first of all, and once
    copy     the source, the target; body: see ``copy_frame``  begins a job
    class    storage_class, created_ms                         answers ``scanned``
    granted                                                    answers ``take``
    cancel                                                     the job is to end; it is answered all the same

    worker → broker
    scanned  timestamp_ms, data_bytes                          sound; nothing is sent before the answer
    take     size_bytes                                        may so many bytes be sent?
    done     entry                                             ends the job
    failed   error                                             ends the job
    counts   verbs, accounts                                   requests to the store since the last time (``counts``)

Nothing here is pickled, and both sides refuse a frame beyond the bounds before they read it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from tiering import errors
from tiering.codec import FOOTER_BYTES_MAX, AbortedTransaction
from tiering.copying.port import Target
from tiering.copying.source import CorruptSource, SegmentSource
from tiering.errors import Advice, ObjectStoreError, TieringError
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry

PREFIX = struct.Struct("<II")
HEADER_BYTES_MAX = 128 << 10
BODY_BYTES_MAX = FOOTER_BYTES_MAX
"""The body of a copy is a part of the segment's footer."""
TEXT_MAX = 2_000
"""Characters of an error's text: with its advice it fits into a header, however it is escaped."""

Header: TypeAlias = dict[str, Any]
_LINEAGE = struct.Struct("<iq")
_ABORTED = struct.Struct("<qqqq")


class BadMessage(TieringError):
    """The other side does not keep to the protocol, or to its bounds."""


class CopyWorkerEnded(TieringError):
    """The worker process ended, or could not be started: its copies are to be tried again."""


class CopyBug(Exception):
    """An error in the worker that nobody expected; the text is all that there is of it."""


class Message(NamedTuple):
    header: Header
    body: bytes = b""

    @property
    def say(self) -> str:
        return str(self.header["say"])

    @property
    def job(self) -> int:
        return int(self.header["job"])


def frame(header: Header, body: bytes = b"") -> bytes:
    """Raises ``BadMessage`` beyond the bounds."""
    text = json.dumps(header).encode()
    prefix = PREFIX.pack(len(text), len(body))
    check_prefix(prefix)
    return prefix + text + body


def check_prefix(prefix: bytes) -> tuple[int, int]:
    """(header bytes, body bytes); raises ``BadMessage``."""
    header_bytes, body_bytes = PREFIX.unpack(prefix)
    if header_bytes > HEADER_BYTES_MAX or body_bytes > BODY_BYTES_MAX:
        raise BadMessage(
            f"a message of {header_bytes} and {body_bytes} bytes between a broker and its copier"
        )
    return header_bytes, body_bytes


def header_of(text: bytes) -> Header:
    """Raises ``BadMessage``."""
    try:
        header = json.loads(text)
    except ValueError as error:
        raise BadMessage(f"no message between a broker and its copier: {error}") from None
    if not isinstance(header, dict) or not isinstance(header.get("say"), str):
        raise BadMessage("a message between a broker and its copier says nothing")
    return header


# -- the copy ----------------------------------------------------------------------------------------------


def copy_frame(job: int, source: SegmentSource, target: Target) -> bytes:
    """Raises ``BadMessage`` for a segment whose footer would be too large to be read."""
    lineage = b"".join(_LINEAGE.pack(*each) for each in source.lineage)
    aborted = b"".join(_ABORTED.pack(*each) for each in source.aborted)
    keys = target.keys
    header = {
        "say": "copy",
        "job": job,
        "path": source.path,
        "start_position": source.start_position,
        "end_position": source.end_position,
        "base_offset": source.base_offset,
        "end_offset": source.end_offset,
        "lineage_bytes": len(lineage),
        "aborted_bytes": len(aborted),
        "cluster_id": keys.cluster_id,
        "topic_id": keys.topic_id.hex(),
        "partition": keys.partition,
        "leader_epoch": target.leader_epoch,
        "uuid": target.uuid.hex(),
        "format_version": target.format_version,
    }
    return frame(header, lineage + aborted + source.producer_snapshot)


def copy_of(message: Message) -> tuple[SegmentSource, Target]:
    """The source and the target."""
    told, body = message
    lineage_end = told["lineage_bytes"]
    aborted_end = lineage_end + told["aborted_bytes"]
    source = SegmentSource(
        told["path"],
        told["start_position"],
        told["end_position"],
        told["base_offset"],
        told["end_offset"],
        lineage=tuple(_LINEAGE.iter_unpack(body[:lineage_end])),
        aborted=tuple(map(AbortedTransaction._make, _ABORTED.iter_unpack(body[lineage_end:aborted_end]))),
        producer_snapshot=body[aborted_end:],
    )
    keys = PartitionKeys(told["cluster_id"], bytes.fromhex(told["topic_id"]), told["partition"])
    target = Target(keys, told["leader_epoch"], bytes.fromhex(told["uuid"]), told["format_version"])
    return source, target


def entry_fields(entry: SegmentEntry) -> Header:
    return entry._asdict() | {"uuid": entry.uuid.hex()}


def entry_of(told: Mapping[str, Any]) -> SegmentEntry:
    return SegmentEntry(**{**told, "uuid": bytes.fromhex(told["uuid"])})


# -- errors ------------------------------------------------------------------------------------------------


def error_fields(error: BaseException, trace: str = "") -> Header:
    """``trace``: for an error that nobody expected, where it came from."""
    text = str(error)[:TEXT_MAX]
    if isinstance(error, ObjectStoreError):
        advice = None if error.advice is None else [part[:TEXT_MAX] for part in error.advice]
        text = text.removesuffix(f" [{error.key}]")
        return {"kind": type(error).__name__, "text": text, "key": error.key, "advice": advice}
    if isinstance(error, TieringError):
        return {"kind": type(error).__name__, "text": text}
    if isinstance(error, OSError) and error.errno is not None:
        return {"kind": "OSError", "errno": error.errno, "text": error.strerror, "file": error.filename}
    return {"kind": "", "text": f"{type(error).__name__}: {text}\n{trace[-TEXT_MAX:]}"}


def error_of(told: Mapping[str, Any]) -> Exception:
    """The error as the worker met it: of the same class, with the same text."""
    name, text = str(told["kind"]), str(told["text"])
    if name == "OSError":
        return OSError(told["errno"], text, told["file"])
    kind = {"CorruptSource": CorruptSource, "BadMessage": BadMessage}.get(name) or getattr(errors, name, None)
    if not isinstance(kind, type) or not issubclass(kind, TieringError):
        return CopyBug(text)
    if issubclass(kind, ObjectStoreError):
        advice = told["advice"]
        return kind(text if advice is None else Advice(*advice), key=told["key"])
    return kind(text)
