"""File and directory names of a log, as Kafka gives them."""

from __future__ import annotations

import re
from pathlib import Path

from tierlog.types import TopicPartition

LOG = ".log"
OFFSET_INDEX = ".index"
TIME_INDEX = ".timeindex"
TXN_INDEX = ".txnindex"
SNAPSHOT = ".snapshot"
SEGMENT_SUFFIXES = (LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX)

DELETED = ".deleted"
CLEANED = ".cleaned"
SWAP = ".swap"
CORRUPT = ".corrupt"
TEMPORARY = ".tmp"

PARTITION_METADATA = "partition.metadata"

_SEGMENT_FILE = re.compile(r"(\d{20})(\.log|\.index|\.timeindex|\.txnindex|\.snapshot)(\.cleaned|\.swap)?")
_PARTITION_DIRECTORY = re.compile(r"(.+)-(\d+)")
_FUTURE_DIRECTORY = re.compile(r".+-(\d+)\.[0-9a-f]{32}-future")
_STRAY_DIRECTORY = re.compile(r".+-(\d+)(\.[0-9a-f]{32})?-stray")
_DELETED_DIRECTORY = re.compile(r".+\.[0-9a-f]{32}-delete")


def segment_file(directory: Path, base_offset: int, suffix: str) -> Path:
    return directory / f"{base_offset:020d}{suffix}"


def parse_segment_file(name: str) -> tuple[int, str, str] | None:
    """``(base offset, suffix, "" or ".cleaned" or ".swap")``, None for any other file."""
    match = _SEGMENT_FILE.fullmatch(name)
    return (int(match[1]), match[2], match[3] or "") if match else None


def parse_partition_directory(name: str) -> TopicPartition | None:
    """None for a name that is no log in use (``-delete`` directories, checkpoints)."""
    match = _PARTITION_DIRECTORY.fullmatch(name)
    return TopicPartition(match[1], int(match[2])) if match else None


def deleted_directory(topic_partition: TopicPartition, unique_hex: str) -> str:
    """Kafka shortens the topic so that the name stays within 255 bytes."""
    return _with_suffix(topic_partition, f".{unique_hex}-delete")


def future_directory(topic_partition: TopicPartition, unique_hex: str) -> str:
    """The directory of a replica that is being copied to another log directory."""
    return _with_suffix(topic_partition, f".{unique_hex}-future")


def parse_future_directory(name: str) -> int | None:
    """The partition number; the topic name may be shortened. None for any other name."""
    match = _FUTURE_DIRECTORY.fullmatch(name)
    return int(match[1]) if match else None


def stray_directory(topic_partition: TopicPartition, unique_hex: str) -> str:
    """The directory of a log that is set aside because the cluster does not know it."""
    return _with_suffix(topic_partition, f".{unique_hex}-stray")


def parse_stray_directory(name: str) -> int | None:
    """The partition number; the topic name may be shortened. None for any other name."""
    match = _STRAY_DIRECTORY.fullmatch(name)
    return int(match[1]) if match else None


def _with_suffix(topic_partition: TopicPartition, ending: str) -> str:
    suffix = f"-{topic_partition.partition}{ending}"
    return topic_partition.topic[: 255 - len(suffix)] + suffix


def is_deleted_directory(name: str) -> bool:
    return _DELETED_DIRECTORY.fullmatch(name) is not None
