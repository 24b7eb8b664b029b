"""A reader of a tierlog bucket that knows ``docs/bucket-format.md`` and nothing else: it shares no code with tierlog.

    python -m tests.bucket_reader DIRECTORY [TOPIC]

Records come only from under checksums that hold. What is unknown, damaged or contradicts itself is ``Refused``; an object
that is gone is a ``KeyError`` with its name.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet as parquet

from tests.bucket_bytes import (
    IDENTITY,
    Batch,
    Entry,
    Head,
    Refused,
    Segment,
    check,
    check_version,
    decode_head,
    decode_segment,
    split_batches,
)

T = TypeVar("T")


class Bucket:
    """A bucket below its prefix, as two functions: the names that begin with a text, and the bytes of a name (``KeyError``
    if it is gone). A ``topic`` is a topic id as it stands in names."""

    def __init__(self, list_keys: Callable[[str], Iterable[str]], get: Callable[[str], bytes]) -> None:
        self.list_keys, self.get = list_keys, get
        self.cluster = str(self._json("meta/cluster.json", "cluster_id")["cluster_id"])
        self.meta = f"meta/{self.cluster}"

    @classmethod
    def of_directory(cls, root: Path) -> Bucket:
        def list_keys(prefix: str) -> Iterator[str]:
            for folder, _, files in os.walk(root / prefix.rpartition("/")[0]):  # folders may go meanwhile
                names = (Path(folder, file).relative_to(root).as_posix() for file in files)
                yield from (name for name in names if name.startswith(prefix))

        def get(name: str) -> bytes:
            try:
                return (root / name).read_bytes()
            except FileNotFoundError:
                raise KeyError(name) from None

        return cls(list_keys, get)

    def topics(self) -> dict[str, str]:
        """Topic ids by name, without the topics that are deleted."""
        deleted = {name.rpartition("/")[2] for name in self.list_keys(f"{self.meta}/deleted/")}
        found = {}
        for key in sorted(self.list_keys(f"{self.meta}/topics/")):
            topic = key.rpartition("/")[2]
            if topic not in deleted:
                try:
                    record = self._json(key, "name", "topic_id")
                except KeyError:  # deleted meanwhile
                    continue
                check(record["topic_id"] == id_bytes(topic).hex(), key, "is the record of another topic")
                found[str(record["name"])] = topic
        own = ("meta/cluster.json", self.meta + "/")
        is_other = not found and any(not name.startswith(own) for name in self.list_keys("meta/"))
        check(
            not is_other, "meta/cluster.json", f"cluster {self.cluster} has nothing here, and another one has"
        )
        return found

    def partitions(self, topic: str) -> list[int]:
        prefix = f"{self.meta}/partitions/{topic}/"
        return sorted({int(key.removeprefix(prefix).split("/")[0]) for key in self.list_keys(prefix)})

    def head(self, topic: str, partition: int) -> Head:
        """The newest copy of it; what it says was so at some moment."""
        folder = self._folder(topic, partition)

        def newest() -> str:
            return max(self.list_keys(f"{folder}/head-"), default=f"{folder}/head")

        name = newest()
        try:
            return decode_head(self.get(name), name)
        except KeyError:  # a newer one has taken its place meanwhile
            name = newest()
            return decode_head(self.get(name), name)

    def entries(self, topic: str, partition: int, head: Head | None = None) -> list[Entry]:
        """The live ones, oldest first: they adjoin, from the head's start or before it up to its end."""
        head = head or self.head(topic, partition)
        paged = self._paged(topic, partition, head) if head.page_index else ()
        live = [entry for entry in (*paged, *head.tail) if entry.end_offset > head.start]
        bounds = [*(entry.base_offset for entry in live), head.end]
        name = f"{self._folder(topic, partition)}/head-{head.sequence:020}"
        check([entry.end_offset for entry in live] == bounds[1:], name, "its entries do not adjoin")
        check(bounds[0] <= head.start, name, f"no entry covers the start {head.start}")
        return live

    def segment(self, topic: str, partition: int, head: Head, entry: Entry) -> Segment:
        """The object of an entry, checked against all that the entry says of it."""
        name = self.segment_name(topic, partition, head, entry)
        data = self.get(name)
        segment = decode_segment(data, name)
        sizes = (len(segment.data), len(segment.data), len(data))
        check(
            sizes == (entry.data_bytes, entry.stored_bytes, entry.object_bytes),
            name,
            "is not of the size listed",
        )
        offsets = (segment.base_offset, segment.end_offset)
        check(offsets == (entry.base_offset, entry.end_offset), name, f"holds the offsets {offsets}")
        if "i" in segment.sections:
            times = (entry.first_timestamp_ms, entry.max_timestamp_ms, entry.created_ms)
            which = (id_bytes(topic), partition, entry.leader_epoch, entry.generation, entry.uuid)
            facts = IDENTITY.pack(*which, entry.data_bytes, *times, entry.last_batch_epoch, entry.flags)
            cluster = name.split("/")[1].encode()
            check(segment.sections["i"] == facts + cluster, name, "says of itself what its entry does not")
        return segment

    def batches(self, topic: str, partition: int) -> Iterator[tuple[Entry, Batch]]:
        """All batches with something to read, oldest first. Of the first one of an entry, skip the records below the
        entry's base offset and below the head's start. Goes on with a newer head where an object is gone."""
        position, failed = 0, -1
        while True:
            head = self.head(topic, partition)
            try:
                for entry in self.entries(topic, partition, head):
                    first = max(position, entry.base_offset, head.start)
                    if first < entry.end_offset:
                        segment = self.segment(topic, partition, head, entry)
                        name = self.segment_name(topic, partition, head, entry)
                        for batch in split_batches(segment.data, name):
                            if batch.last_offset >= first:
                                yield entry, batch
                        position = entry.end_offset
                return
            except KeyError:
                if head.sequence == failed:
                    raise
                failed = head.sequence

    def segment_name(self, topic: str, partition: int, head: Head, entry: Entry) -> str:
        hashed = hashlib.sha256(id_bytes(topic) + struct.pack(">I", partition)).hexdigest()[:4]
        cluster = head.origins[entry.origin - 1] if entry.origin else self.cluster
        name = f"{entry.base_offset:020}-{entry.end_offset:020}-{entry.leader_epoch}-{entry.uuid.hex()}.seg"
        return f"{hashed}/{cluster}/{topic}/{partition}/{name}"

    def _paged(self, topic: str, partition: int, head: Head) -> Iterator[Entry]:
        """The entries of all pages that are not removed, each page checked against what its index says."""
        assert head.page_index is not None
        folder, index = self._folder(topic, partition), head.page_index

        def page_of(row: dict[str, Any]) -> tuple[str, tuple[int, int, int]]:
            name = f"{folder}/{row['sequence']:020}-{row['leader_epoch']}-{row['uuid'].hex()}.page"
            check(name == row["key"], name, f"its index calls it {row['key']}")
            return name, (row["base_offset"], row["end_offset"], row["entry_count"])

        def entry_of(row: dict[str, Any]) -> Entry:
            later = {"stored_bytes": row["data_bytes"], "class_since_ms": row["created_ms"]}
            later |= dict.fromkeys(("storage_class", "generation", "origin", "version_hash"), 0)
            given = later | row
            entry = Entry(**{field: given[field] for field in Entry._fields})
            name = self.segment_name(topic, partition, head, entry)
            check(bool(entry.origin) or name == row["key"], name, f"its page calls it {row['key']}")
            return entry

        pages = self._rows(f"{folder}/{index.name}", topic, partition, page_of)
        check(len(pages) == index.page_count, index.name, f"lists {len(pages)} pages, not {index.page_count}")
        for name, bounds in pages:
            if bounds[1] > head.removed_end:
                entries = self._rows(name, topic, partition, entry_of)
                found = (entries[0].base_offset, entries[-1].end_offset, len(entries)) if entries else None
                check(found == bounds, name, f"holds {found}, and its index says {bounds}")
                yield from entries

    def _rows(
        self, name: str, topic: str, partition: int, value_of: Callable[[dict[str, Any]], T]
    ) -> list[T]:
        data = self.get(name)
        try:
            table = parquet.read_table(io.BytesIO(data), page_checksum_verification=True)
            given = table.schema.metadata
            version, features = int(given[b"tierlog.format_version"]), int(given.get(b"tierlog.features", 0))
            check_version(version, features, name)
            found = tuple(given[b"tierlog." + field] for field in (b"cluster_id", b"topic_id", b"partition"))
            expected = (self.cluster.encode(), id_bytes(topic).hex().encode(), b"%d" % partition)
            check(found == expected, name, f"belongs to another partition: {found}")
            return [value_of(row) for row in table.to_pylist()]
        except Refused:
            raise
        except (
            pyarrow.ArrowException,
            ArithmeticError,
            LookupError,
            OSError,
            TypeError,
            ValueError,
        ) as wrong:
            raise Refused(f"{name}: cannot be read: {str(wrong).splitlines()[:1]}") from wrong

    def _folder(self, topic: str, partition: int) -> str:
        return f"{self.meta}/partitions/{topic}/{partition}"

    def _json(self, name: str, *fields: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.get(name))
        except ValueError as wrong:
            raise Refused(f"{name}: is no JSON: {wrong}") from None
        has_all = isinstance(found, dict) and {"format_version", *fields} <= found.keys()
        check(has_all, name, f"has not all of {('format_version', *fields)}")
        check(found["format_version"] == 1, name, f"format version {found['format_version']} is unknown")
        return found


def id_bytes(topic: str) -> bytes:
    return base64.urlsafe_b64decode(topic + "==")


def describe(bucket: Bucket, only: str | None = None) -> Iterator[str]:
    for name, topic in sorted(bucket.topics().items()):
        for partition in bucket.partitions(topic) if only in (None, name) else ():
            head = bucket.head(topic, partition)
            records = segments = 0
            for entry in bucket.entries(topic, partition, head):
                segments += 1
                segment = bucket.segment(topic, partition, head, entry)
                first = max(entry.base_offset, head.start)
                for batch in split_batches(segment.data, bucket.segment_name(topic, partition, head, entry)):
                    if not batch.is_control:  # of a batch that begins before ``first``, what lies behind it
                        records += max(0, min(batch.record_count, batch.last_offset + 1 - first))
            where = f"{name} ({topic}), partition {partition}"
            yield f"{where}: offsets {head.start} to {head.end}, {records} records in {segments} segments"


if __name__ == "__main__":
    directory, *rest = sys.argv[1:]
    for line in describe(Bucket.of_directory(Path(directory)), rest[0] if rest else None):
        sys.stdout.write(line + "\n")
