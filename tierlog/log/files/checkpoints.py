"""The small text files beside the logs, in Kafka's formats.

Per log directory: ``recovery-point-offset-checkpoint``, ``log-start-offset-checkpoint``,
``replication-offset-checkpoint`` (high watermarks), ``.kafka_cleanshutdown``, ``meta.properties``.
Per partition: ``partition.metadata``. (``leader-epoch-checkpoint`` is ``leader_epochs``' text.)

Each is replaced as a whole (write aside, fsync, rename, fsync of the directory). A file that is not in its format raises
``StorageError``; an absent one counts as empty.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from tierlog.errors import StorageError
from tierlog.log.files.filesystem import REAL, Filesystem, translated
from tierlog.log.files.names import PARTITION_METADATA
from tierlog.types import TopicPartition

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_START_OFFSETS = "log-start-offset-checkpoint"
HIGH_WATERMARKS = "replication-offset-checkpoint"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
META_PROPERTIES = "meta.properties"
_VERSION = 0


def encode_topic_id(topic_id: bytes) -> str:
    """Kafka's text of a uuid: URL-safe base64 without padding."""
    assert len(topic_id) == 16
    return urlsafe_b64encode(topic_id).rstrip(b"=").decode()


def decode_topic_id(text: str) -> bytes:
    """Raises ValueError unless it is 16 bytes."""
    topic_id = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(topic_id) != 16:
        raise ValueError(f"{text!r} is no topic id")
    return topic_id


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise StorageError(f"{path}: {error}") from error


@translated
def read_offsets(path: Path) -> dict[TopicPartition, int]:
    """An offset checkpoint; ``{}`` when there is none."""
    text = _text_of(path)
    if text is None:
        return {}
    try:
        lines = text.splitlines()
        if int(lines[0]) != _VERSION:
            raise ValueError(f"version {lines[0]}")
        offsets = {}
        for line in lines[2:]:
            topic, partition, offset = line.split()
            offsets[TopicPartition(topic, int(partition))] = int(offset)
        if len(offsets) != int(lines[1]):
            raise ValueError(f"{lines[1]} entries announced, {len(offsets)} found")
    except (ValueError, IndexError) as error:
        raise StorageError(f"{path} is no offset checkpoint: {error}") from error
    return offsets


@translated
def write_offsets(path: Path, offsets: Mapping[TopicPartition, int], filesystem: Filesystem = REAL) -> None:
    rows = [
        f"{partition.topic} {partition.partition} {offset}\n" for partition, offset in sorted(offsets.items())
    ]
    filesystem.write_file(path, f"{_VERSION}\n{len(rows)}\n{''.join(rows)}".encode(), durable=True)


@translated
def take_clean_shutdown(log_dir: Path, filesystem: Filesystem = REAL) -> bool:
    """Whether the last stop was clean. Removes the mark durably, so that only one start finds it."""
    path = log_dir / CLEAN_SHUTDOWN
    if not path.exists():
        return False
    filesystem.unlink(path)
    filesystem.sync_path(log_dir)
    return True


@translated
def write_clean_shutdown(log_dir: Path, broker_epoch: int, filesystem: Filesystem = REAL) -> None:
    """Call last, after every log is closed and every checkpoint written."""
    content = json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":"))
    filesystem.write_file(log_dir / CLEAN_SHUTDOWN, content.encode(), durable=True)


@translated
def clean_shutdown_broker_epoch(log_dir: Path) -> int | None:
    """The broker epoch in the mark (KIP-966), -1 for a mark without one, None without a mark."""
    text = _text_of(log_dir / CLEAN_SHUTDOWN)
    if text is None:
        return None
    try:
        return int(json.loads(text)["brokerEpoch"])
    except (ValueError, KeyError, TypeError):
        return -1


@translated
def read_properties(path: Path) -> dict[str, str]:
    """Java properties as Kafka writes them: ``key=value`` lines, ``#`` comments."""
    properties = {}
    for line in (_text_of(path) or "").splitlines():
        stripped = line.strip()
        if stripped and stripped[0] not in "#!":
            key, separator, value = stripped.partition("=")
            if not separator:
                raise StorageError(f"{path}: {stripped!r} is no property")
            properties[key.strip()] = value.strip()
    return properties


@translated
def write_properties(path: Path, properties: Mapping[str, str], filesystem: Filesystem = REAL) -> None:
    text = "#\n" + "".join(f"{key}={value}\n" for key, value in sorted(properties.items()))
    filesystem.write_file(path, text.encode(), durable=True)


@translated
def read_partition_metadata(directory: Path) -> bytes | None:
    """The topic id of the log in ``directory``. None when there is no file, or a power loss left it empty."""
    path = directory / PARTITION_METADATA
    text = _text_of(path)
    if not text:
        return None
    rows = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    try:
        if int(rows["version"]) != _VERSION:
            raise ValueError(f"version {rows['version']}")
        return decode_topic_id(rows["topic_id"])
    except (KeyError, ValueError) as error:
        raise StorageError(f"{path} is no partition metadata: {error}") from error


@translated
def write_partition_metadata(directory: Path, topic_id: bytes, filesystem: Filesystem = REAL) -> None:
    """Not durable by itself: the log's first flush covers it."""
    text = f"version: {_VERSION}\ntopic_id: {encode_topic_id(topic_id)}"
    filesystem.write_file(directory / PARTITION_METADATA, text.encode(), durable=False)
