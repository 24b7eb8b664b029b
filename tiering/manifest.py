"""Pages, page indexes and head copies in the bucket.

Pages and indexes are Parquet, so that DuckDB or Spark can query a bucket; they are encoded and decoded by a
worker process (``tiering.manifest_worker``) that starts when needed and ends after ``IDLE_S`` without work, so
that this process never imports pyarrow. A head copy is the bytes of the metadata store's value.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from tiering.catalog import EMPTY_COLUMNS, EntryColumns
from tiering.errors import CorruptObject, NotFound, TieringError
from tiering.formats import FIRST_VERSION, FORMAT_VERSION, check_format
from tiering.head_codec import decode_head, encode_head
from tiering.keys import PartitionKeys
from tiering.model import MetaObject, PageIndexRef, SegmentEntry, TierHead
from tiering.objects.port import LIST_LIMIT_MAX, ObjectStore
from tiering.pages import PageChange, PageRow, Pages, lost_entry, lost_index_row

IDLE_S = 10.0
HEAD_READS_MAX = 5
FRAME_BYTES_MAX = 256 << 20
PAGE_LOADS_AT_ONCE = 8
_LENGTH = struct.Struct("<I")
LOST = (NotFound, CorruptObject)
"""What is wrong with a page for good, as far as this release can tell."""
_ENDED = (ConnectionError, asyncio.IncompleteReadError)
SECOND_COLUMNS = (
    "stored_bytes",
    "storage_class",
    "class_since_ms",
    "generation",
    "origin",
    "version_hash",
)
"""Columns of a page since version 2."""
FIRST_COLUMNS = tuple(n for n in SegmentEntry._fields if n != "uuid" and n not in SECOND_COLUMNS)
_INDEX_COLUMNS = (
    "sequence",
    "leader_epoch",
    "base_offset",
    "end_offset",
    "entry_count",
    "data_bytes",
    "max_timestamp_ms",
)


class ManifestWorkerFailed(TieringError):
    """The worker process ended in the middle of a request, and so did the one that replaced it."""


class Table(NamedTuple):
    """Integer columns and a uuid per row."""

    columns: dict[str, array[int]]
    uuids: bytes


class ManifestWorker:
    """The worker process, one request at a time."""

    def __init__(self, *, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._process: asyncio.subprocess.Process | None = None
        # Processes that were told to end and may still be running.
        self._ending: list[asyncio.subprocess.Process] = []
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def encode(self, table: Table, texts: dict[str, list[str]], metadata: dict[str, str]) -> bytes:
        """Parquet bytes."""
        header = {
            "op": "encode",
            "rows": len(table.uuids) // 16,
            "columns": list(table.columns),
            "texts": texts,
            "metadata": metadata,
        }
        body = b"".join(column.tobytes() for column in table.columns.values()) + table.uuids
        return (await self._call(header, body))[1]

    async def decode(
        self, data: bytes, names: Sequence[str], key: str, optional: Sequence[str] = ()
    ) -> Table:
        """The columns ``names``, and those of ``optional`` that are there. Raises ``CorruptObject`` or
        ``UnsupportedFormat``."""
        request = {"op": "decode", "columns": list(names), "optional": list(optional)}
        header, body = await self._call(request, data)
        if "error" in header:
            raise CorruptObject(f"{key}: {header['error']}")
        told = header["metadata"]
        try:
            version, features = int(told["format_version"]), int(told.get("features", "0"))
        except (KeyError, ValueError):
            raise CorruptObject(f"{key}: no table of a tier") from None
        check_format(key, version, features)
        if header.get("missing"):
            raise CorruptObject(f"{key}: no column {', '.join(header['missing'])}")
        rows, found = header["rows"], header["columns"]
        columns = {}
        for number, name in enumerate(found):
            columns[name] = array("q", body[8 * rows * number : 8 * rows * (number + 1)])
        return Table(columns, body[8 * rows * len(found) :])

    async def encode_ledger(self, header: dict[str, Any], body: bytes) -> bytes:
        """Parquet bytes of what ``tiering.ledger.columns`` has made."""
        told, data = await self._call(header, body)
        if "error" in told:
            raise ManifestWorkerFailed(told["error"])
        return data

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()
            for process in self._ending:
                await process.wait()
            self._ending.clear()

    async def _call(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            try:
                try:
                    return await self._exchange(header, body)
                except _ENDED:
                    await self._end()  # it was killed, or ended while idle: try once more with a fresh one
                    return await self._exchange(header, body)
            except _ENDED as e:
                await self._end()
                raise ManifestWorkerFailed(f"the manifest worker ended twice: {e}") from None
            except BaseException:
                await self._end()  # part of a reply may be under way: the next request needs a fresh process
                raise
            finally:
                if self._process is not None:
                    loop = asyncio.get_running_loop()
                    self._idle = loop.call_later(self._idle_s, self._end_when_idle, self._process)

    async def _exchange(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tiering.manifest_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        encoded = json.dumps(header).encode()
        process.stdin.writelines([_LENGTH.pack(len(encoded)), encoded, _LENGTH.pack(len(body)), body])
        await process.stdin.drain()
        reply = json.loads(await _exactly(process.stdout))
        return reply, await _exactly(process.stdout)

    def _end_when_idle(self, process: asyncio.subprocess.Process) -> None:
        if process is self._process and not self._turn.locked() and process.stdin is not None:
            process.stdin.close()  # it ends by itself; the next request starts another one
            self._ending = [each for each in self._ending if each.returncode is None]
            self._ending.append(process)
            self._process = None

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


async def _exactly(stream: asyncio.StreamReader) -> bytes:
    (size,) = _LENGTH.unpack(await stream.readexactly(4))
    assert size <= FRAME_BYTES_MAX
    return await stream.readexactly(size)


class Manifests:
    """Reads and writes the manifest objects of any partition."""

    def __init__(self, store: ObjectStore, worker: ManifestWorker) -> None:
        self._store = store
        self._worker = worker

    async def write(
        self, keys: PartitionKeys, change: PageChange, format_version: int = FORMAT_VERSION
    ) -> None:
        """Put the pages, then the index; none is visible before the head names the index."""
        columns = FIRST_COLUMNS if format_version == FIRST_VERSION else (*FIRST_COLUMNS, *SECOND_COLUMNS)
        for row, entries in change.written:
            names = [keys.segment(entry) for entry in entries]
            table = Table({n: entries.column(n) for n in columns}, entries.uuids)
            await self._put(keys, keys.page(row.name), table, {"key": names}, format_version)
        rows = change.pages.rows
        table = Table(
            {n: array("q", (_row_field(row, n) for row in rows)) for n in _INDEX_COLUMNS},
            b"".join(row.name.uuid for row in rows),
        )
        page_keys = [keys.page(row.name) for row in rows]
        index_key = keys.page_index(change.index_ref.name)
        await self._put(keys, index_key, table, {"key": page_keys}, format_version)

    async def load(self, keys: PartitionKeys, head: TierHead) -> Pages:
        """All pages of the head. Pages that are gone or damaged are ``lost`` in the result: the bucket lost them, or the
        head is out of date (read it again). Raises ``UnsupportedFormat``, other ``ObjectStoreError``."""
        ref = head.page_index
        if ref is None:
            return Pages()
        lost: list[PageRow] = []
        try:
            rows = await self._load_index(keys, ref)
        except LOST:
            row = lost_index_row(ref)
            return Pages((row,), EntryColumns.of([lost_entry(row, head)]), (row,))
        rows = tuple(row for row in rows if row.end_offset > head.removed_end)
        turns = asyncio.Semaphore(PAGE_LOADS_AT_ONCE)

        async def load_page(row: PageRow) -> EntryColumns:
            try:
                async with turns:
                    return await self._load_page(keys, row)
            except LOST:
                lost.append(row)
                return EntryColumns.of([lost_entry(row, head)])

        parts = await asyncio.gather(*(load_page(row) for row in rows))
        columns = EntryColumns.concat(parts) if parts else EMPTY_COLUMNS
        return Pages(rows, columns, tuple(row for row in rows if row in lost))

    async def put_head(self, keys: PartitionKeys, head: TierHead) -> None:
        """Put a copy of a committed head. However late it arrives, readers keep to a newer one (``tiering.keys``)."""
        data = encode_head(head)
        await self._store.put(keys.head_copy(head.sequence), data, size_bytes=len(data))

    async def get_head(self, keys: PartitionKeys) -> TierHead:
        """The newest copy of the head; ``NotFound``, ``CorruptObject``, ``UnsupportedFormat``."""
        for _ in range(HEAD_READS_MAX):
            key = await self._newest_head_copy(keys)
            try:
                _, data = await self._store.get(key)
            except NotFound:
                if key == keys.unordered_head_copy:
                    raise
                continue  # a newer copy exists by now
            return decode_head(bytes(data), key)
        raise NotFound(f"replaced {HEAD_READS_MAX} times while it was read", key=keys.meta_prefix)

    async def _newest_head_copy(self, keys: PartitionKeys) -> str:
        newest = start_after = keys.unordered_head_copy
        while True:
            page = await self._store.list(keys.meta_prefix, start_after=start_after)
            copies = [info.key for info in page if keys.parse_head_copy(info.key) is not None]
            newest = max(copies, default=newest)
            if len(page) < LIST_LIMIT_MAX:
                return newest
            start_after = page[-1].key

    async def _put(
        self,
        keys: PartitionKeys,
        key: str,
        table: Table,
        texts: dict[str, list[str]],
        format_version: int,
    ) -> None:
        metadata = {
            "format_version": str(format_version),
            "cluster_id": keys.cluster_id,
            "topic_id": keys.topic_id.hex(),
            "partition": str(keys.partition),
        }
        if format_version > FIRST_VERSION:
            metadata["features"] = "0"  # Those that the table uses.
        data = await self._worker.encode(table, texts, metadata)
        await self._store.put(key, data, size_bytes=len(data))

    async def _load_index(self, keys: PartitionKeys, ref: PageIndexRef) -> tuple[PageRow, ...]:
        key = keys.page_index(ref.name)
        _, data = await self._store.get(key)
        table = await self._worker.decode(bytes(data), _INDEX_COLUMNS, key)
        c = table.columns
        rows = tuple(
            PageRow(
                MetaObject(c["sequence"][i], c["leader_epoch"][i], table.uuids[16 * i : 16 * i + 16]),
                c["base_offset"][i],
                c["end_offset"][i],
                c["entry_count"][i],
                c["data_bytes"][i],
                c["max_timestamp_ms"][i],
            )
            for i in range(len(c["sequence"]))
        )
        if len(rows) != ref.page_count or rows[-1].end_offset != ref.end_offset:
            raise CorruptObject(f"{key}: not the index that the head names")
        return rows

    async def _load_page(self, keys: PartitionKeys, row: PageRow) -> EntryColumns:
        key = keys.page(row.name)
        _, data = await self._store.get(key)
        table = await self._worker.decode(bytes(data), FIRST_COLUMNS, key, SECOND_COLUMNS)
        columns = EntryColumns(_completed(table.columns), table.uuids)
        bounds = (row.base_offset, row.end_offset, row.entry_count)
        last = len(columns) - 1
        if last < 0 or (columns[0].base_offset, columns[last].end_offset, len(columns)) != bounds:
            raise CorruptObject(f"{key}: not the page that the index lists")
        return columns


def _completed(columns: dict[str, array[int]]) -> dict[str, array[int]]:
    """With what pages of the first version do not tell."""
    nothing = array("q", bytes(8 * len(columns["base_offset"])))
    told_by_others = {"stored_bytes": columns["data_bytes"], "class_since_ms": columns["created_ms"]}
    absent = {name: told_by_others.get(name, nothing) for name in SECOND_COLUMNS if name not in columns}
    return columns | absent


def _row_field(row: PageRow, name: str) -> int:
    value = getattr(row.name, name) if name in ("sequence", "leader_epoch") else getattr(row, name)
    return int(value)
