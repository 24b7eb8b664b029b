"""Names of everything in the bucket.

::

    <hash4>/<cluster>/<topic id>/<partition>/<base>-<end>-<leader epoch>-<uuid>.seg     segments
    meta/cluster.json                                                                  the cluster marker
    meta/<cluster>/topics/<topic id>                                                   topic records
    meta/<cluster>/deleted/<topic id>                                                  deletion markers
    meta/<cluster>/partitions/<topic id>/<partition>/head-<sequence>                   copy of the head
    meta/<cluster>/partitions/<topic id>/<partition>/<sequence>-<epoch>-<uuid>.index   page index (Parquet)
    meta/<cluster>/partitions/<topic id>/<partition>/<sequence>-<epoch>-<uuid>.page    page (Parquet)
    meta/<cluster>/ledger/<yyyy>/<mm>/<dd>/<hh>-<broker id>-<uuid>.parquet             the ledger (``ledger.names``)

Rules: no key is written twice with other bytes, save the deletion markers. ``hash4`` comes from topic id and
partition alone, so that partitions spread over the store's own partitions and a listing needs no index.

A head copy is named after its head's sequence and holds the bytes of ``tiering.head_codec``; the commit point allows only
one head per sequence. A reader takes the copy with the largest sequence. So a late put by a leader that was deposed long ago
replaces nothing: it adds an older copy, which the next sweep deletes. A copy is deleted only once a newer one exists. Before
0.2 there was one copy under the name ``head``, replaced each time; it is read when there is no newer one.

Topic ids are written as Kafka's tools print them (URL-safe base64 without padding), offsets as 20 digits, so
that listings sort by offset.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from tiering.errors import ForeignBucket, UnsupportedFormat
from tiering.model import MetaObject, SegmentEntry

BUCKET_FORMAT_VERSION = 1
_TOPIC_ID_CHARS = 22
_SEGMENT = re.compile(r"(\d{20})-(\d{20})-(\d+)-([0-9a-f]{32})\.seg")
_HEAD_COPY = re.compile(r"head-(\d{20})")
_META = re.compile(r"(\d{20})-(\d+)-([0-9a-f]{32})\.(page|index)")


class SegmentName(NamedTuple):
    """The facts in the key of a segment. ``end_offset`` is exclusive."""

    base_offset: int
    end_offset: int
    leader_epoch: int
    uuid: bytes


class PartitionKeys(NamedTuple):
    """Keys of one partition; cheap to build, compares by value."""

    cluster_id: str
    topic_id: bytes
    partition: int

    @property
    def segments_prefix(self) -> str:
        """Prefix of all segments of the partition; ends in ``/``."""
        topic = topic_id_text(self.topic_id)
        return f"{hash4(self.topic_id, self.partition)}/{self.cluster_id}/{topic}/{self.partition}/"

    @property
    def meta_prefix(self) -> str:
        """Prefix of head copies, pages and indexes; ends in ``/``."""
        topic = topic_id_text(self.topic_id)
        return f"meta/{self.cluster_id}/partitions/{topic}/{self.partition}/"

    def segment(self, entry: SegmentEntry | SegmentName) -> str:
        return (
            f"{self.segments_prefix}{entry.base_offset:020}-{entry.end_offset:020}"
            f"-{entry.leader_epoch}-{entry.uuid.hex()}.seg"
        )

    def page(self, name: MetaObject) -> str:
        return f"{self.meta_prefix}{_meta_name(name)}.page"

    def page_index(self, name: MetaObject) -> str:
        return f"{self.meta_prefix}{_meta_name(name)}.index"

    def head_copy(self, sequence: int) -> str:
        return f"{self.meta_prefix}head-{sequence:020}"

    def older_head_copies(self, listed: Iterable[str]) -> list[str]:
        """Of a listing, or a part of one: the head copies that are not needed, since a newer one exists."""
        return sorted(key for key in listed if self.parse_head_copy(key) is not None)[:-1]

    @property
    def unordered_head_copy(self) -> str:
        """The one copy that earlier releases replaced each time; it sorts before all others."""
        return f"{self.meta_prefix}head"

    def parse_head_copy(self, key: str) -> int | None:
        """Sequence of the head of which ``key`` is a copy, or None if it is no copy (the unordered one has no sequence)."""
        prefix = self.meta_prefix
        match = _HEAD_COPY.fullmatch(key[len(prefix) :]) if key.startswith(prefix) else None
        return int(match[1]) if match else None

    def parse_segment(self, key: str) -> SegmentName | None:
        """The segment of this partition that the key names, or None."""
        prefix = self.segments_prefix
        match = _SEGMENT.fullmatch(key[len(prefix) :]) if key.startswith(prefix) else None
        if match is None:
            return None
        return SegmentName(int(match[1]), int(match[2]), int(match[3]), bytes.fromhex(match[4]))

    def parse(self, key: str) -> SegmentName | MetaObject | None:
        """The segment, page or page index of this partition that the key names, or None."""
        return self.parse_segment(key) or self.parse_meta(key)

    def parse_meta(self, key: str) -> MetaObject | None:
        """The page or page index that the key names, or None."""
        prefix = self.meta_prefix
        match = _META.fullmatch(key[len(prefix) :]) if key.startswith(prefix) else None
        return MetaObject(int(match[1]), int(match[2]), bytes.fromhex(match[3])) if match else None


def hash4(topic_id: bytes, partition: int) -> str:
    """Four hex digits that spread partitions evenly."""
    return hashlib.sha256(topic_id + partition.to_bytes(4, "big")).hexdigest()[:4]


def topic_id_text(topic_id: bytes) -> str:
    """The topic id as Kafka prints it."""
    assert len(topic_id) == 16
    return base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()


def topic_of(key: str) -> bytes | None:
    """The topic whose object a key names, or whose objects a prefix begins; None for the marker and for wider prefixes."""
    parts = key.split("/", 4)
    at = 3 if parts[0] == "meta" else 2
    if len(parts) <= at or len(parts[at]) != _TOPIC_ID_CHARS:
        return None
    try:
        return base64.b64decode(parts[at] + "==", altchars=b"-_", validate=True)
    except ValueError:
        return None


@lru_cache(maxsize=1_024)
def owner_of(key: str) -> tuple[str, int]:
    """The topic id as in keys, and the partition, of what a key names or a prefix begins. (empty, −1): of no topic, or of
    many; partition −1: of a whole topic."""
    parts = key.split("/", 5)
    at = 3 if parts[0] == "meta" else 2
    if len(parts) <= at or len(parts[at]) != _TOPIC_ID_CHARS:
        return "", -1
    partition = parts[at + 1] if len(parts) > at + 2 else ""
    return parts[at], int(partition) if partition.isdecimal() else -1


def topic_record(cluster_id: str, topic_id: bytes) -> str:
    return f"meta/{cluster_id}/topics/{topic_id_text(topic_id)}"


def deletion_markers_prefix(cluster_id: str) -> str:
    return f"meta/{cluster_id}/deleted/"


def deletion_marker(cluster_id: str, topic_id: bytes) -> str:
    return f"{deletion_markers_prefix(cluster_id)}{topic_id_text(topic_id)}"


CLUSTER_MARKER = "meta/cluster.json"
"""Outside any cluster's folder, so that a second cluster meets the first one's marker, and one put-if-absent
decides between two that start at once."""


def cluster_marker(cluster_id: str) -> bytes:
    """Content of the marker; put only if absent."""
    return json.dumps({"cluster_id": cluster_id, "format_version": BUCKET_FORMAT_VERSION}).encode()


def check_cluster_marker(content: bytes, cluster_id: str) -> None:
    """Raises ``ForeignBucket`` or ``UnsupportedFormat`` with one line unless the marker is this cluster's."""
    owner = marked_cluster(content)
    if owner != cluster_id:
        raise ForeignBucket(f"the bucket belongs to cluster {owner}, this broker to cluster {cluster_id}")


def marked_cluster(content: bytes) -> str:
    """The cluster that a marker names. Raises as ``check_cluster_marker``."""
    try:
        marker = json.loads(content)
        owner, version = str(marker["cluster_id"]), int(marker["format_version"])
    except (ValueError, KeyError, TypeError):
        raise ForeignBucket(f"{CLUSTER_MARKER} in the bucket is not a cluster marker") from None
    if version != BUCKET_FORMAT_VERSION:
        raise UnsupportedFormat(
            f"the bucket has format_version {version}; this release knows {BUCKET_FORMAT_VERSION}"
        )
    return owner


def _meta_name(name: MetaObject) -> str:
    return f"{name.sequence:020}-{name.leader_epoch}-{name.uuid.hex()}"
