"""Commits whose outcome is unknown, that meet others, and what outlives them: over a REST catalog that breaks off."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.expressions import EqualTo

from tests.e2e.tiered import figure
from tests.replay_bucket import BucketMaker, Shape
from tests.servers.rest_catalog import RestCatalog
from tierlog.errors import UserError
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.iceberg import data_files
from tierlog.replay.iceberg.catalogs import open_catalog, shown
from tierlog.replay.iceberg.commits import append, expire, offsets_of
from tierlog.replay.iceberg.compaction import Compaction, live_files
from tierlog.replay.iceberg.following import Follower, Progress, Source
from tierlog.replay.iceberg.leftovers import leftovers, remove_leftovers
from tierlog.replay.iceberg.offsets import OFFSETS, Refused
from tierlog.replay.iceberg.running import made
from tierlog.replay.iceberg.schema import table_schema
from tierlog.replay.iceberg.tables import opened
from tierlog.replay.reading import Chunk
from tierlog.types import TopicPartition

WHERE = TopicPartition("flights", 0)
RECORDS = 300


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestCatalog]:
    with RestCatalog(tmp_path_factory.mktemp("rest")) as served:
        yield served


@pytest.fixture
def bucket(tmp_path: Path) -> BucketMaker:
    maker = BucketMaker(tmp_path / "bucket")
    maker.fill("flights", 0, 2, RECORDS, Shape(40, 50))
    return maker


class Run:
    """A follower of its own, by the catalog's wire."""

    def __init__(self, rest: RestCatalog, bucket: BucketMaker, name: str, *, is_new: bool = False) -> None:
        self.source = Source("flights", None, bucket.url)
        self.catalog = open_catalog(rest.uri, {})
        table = made(self.catalog, name, self.source) if is_new else opened(self.catalog, name, "flights")
        self.told: list[Progress] = []
        self.follower = Follower(table, self.source, tell=self.told.append)

    def round(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self.follower, name, value)
        asyncio.run(self.follower.round(asyncio.Event()))

    @property
    def table(self) -> Any:
        return self.follower.table.refresh()

    @property
    def offsets(self) -> list[int]:
        return sorted(self.table.scan(selected_fields=("offset",)).to_arrow()["offset"].to_pylist())


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"tests.{request.node.name}".replace("[", "_").replace("]", "")


@pytest.fixture
def run(rest: RestCatalog, bucket: BucketMaker, name: str) -> Run:
    return Run(rest, bucket, name, is_new=True)


def test_an_answer_that_is_lost_after_the_commit(rest: RestCatalog, run: Run) -> None:
    rest.lose_next = "after"
    run.round()
    assert run.offsets == list(range(2 * RECORDS))
    assert len(run.table.snapshots()) == 1
    run.round()
    assert len(run.table.snapshots()) == 1, "nothing is new"


def test_a_commit_that_never_came(rest: RestCatalog, run: Run) -> None:
    rest.lose_next = "before"
    with pytest.raises(UserError, match="go on with the same command"):
        run.round()
    assert run.table.current_snapshot() is None
    run.round()
    assert run.offsets == list(range(2 * RECORDS))


def test_the_second_of_two_followers_ends(
    rest: RestCatalog, bucket: BucketMaker, run: Run, name: str
) -> None:
    """Whether it meets the other one's commit in its own, or before."""
    run.round()
    other = Run(rest, bucket, name)
    other.round()
    bucket.repeat("flights", 0)
    bucket.publish()
    stale = run.catalog.load_table(name)
    run.round()
    with pytest.raises(
        Refused, match=r"another writer: flights-0 is at offset 900 there, not at 600; this one"
    ):
        other.round()
    files = len(live_files(run.table))
    with pytest.raises(Refused, match="another writer"):
        append(stale, [], {WHERE: [(0, 600)]}, {WHERE: [(0, 700)]})
    assert len(live_files(run.table)) == files
    assert run.offsets == list(range(3 * RECORDS))
    run.round()


def test_others_commits_do_not_end_a_follower(run: Run, name: str) -> None:
    """A property that is set, rows that are deleted, snapshots that expire: the offsets outlive them."""
    run.round()
    stale = run.catalog.load_table(name)
    with run.table.transaction() as transaction:
        transaction.set_properties(owner="somebody")
    run.table.delete(EqualTo("offset", 5))
    assert OFFSETS not in run.table.current_snapshot().summary.additional_properties
    assert offsets_of(run.table) == {WHERE: [(0, 600)]}, "by the snapshot before"
    for snapshot in run.table.snapshots():
        if snapshot.snapshot_id != run.table.current_snapshot().snapshot_id:
            run.table.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()
    assert offsets_of(run.table) == {WHERE: [(0, 600)]}, "by the table's property"
    table = append(stale, [], {WHERE: [(0, 600)]}, {WHERE: [(0, 601)]})
    assert offsets_of(table) == {WHERE: [(0, 601)]}, "of a stale table, tried again"
    assert table.scan().count() == 599


def test_merged_while_others_write(rest: RestCatalog, bucket: BucketMaker, run: Run, name: str) -> None:
    run.round(_commit_bytes=1)
    assert len(live_files(run.table)) == 2
    first, second = Compaction(run.table), Compaction(run.table)
    bucket.repeat("flights", 0)
    bucket.publish()
    run.round()
    rest.lose_next = "after"
    done = first.run(threading.Event(), lambda _: None)
    assert (done.merged_files, done.new_files, done.left_files) == (2, 1, 0)
    before = set(data_paths(run))
    with pytest.raises(UserError, match="another compaction was faster"):
        second.run(threading.Event(), lambda _: None)
    assert set(data_paths(run)) == before, "its own files are removed"
    assert offsets_of(run.table) == {WHERE: [(0, 900)]}
    assert run.offsets == list(range(900))
    assert [file.record_count for file in live_files(run.table)] in ([600, 300], [300, 600])
    run.round()


def test_files_that_no_snapshot_names(run: Run) -> None:
    run.round(_commit_bytes=1)
    (old, *_) = [file.file_path for file in live_files(run.table)]
    Compaction(run.table).run(threading.Event(), lambda _: None)
    killed = old.replace("0.parquet", "1.parquet") if old.endswith("0.parquet") else old[:-9] + "0.parquet"
    others = old.rpartition("/")[0] + "/somebody.parquet"
    for path in (killed, others):
        Path(path.removeprefix("file://")).write_bytes(b"x")
    for path in data_paths(run):
        os.utime(path, (0, 0))
    now_ms = int(datetime.now(UTC).timestamp() * 1_000)
    assert [each.path for each in leftovers(run.table, now_ms)] == [killed]
    assert leftovers(run.table, 0) == []
    table = expire(run.table, now_ms + 60_000)
    assert len(table.snapshots()) == 1
    found = leftovers(table, now_ms)
    assert {killed, old} <= {each.path for each in found} and len(found) == 3
    remove_leftovers(table, found)
    assert run.offsets == list(range(600))
    assert sorted(path.name for path in data_paths(run)) == sorted(
        ["somebody.parquet", *(Path(file.file_path).name for file in live_files(run.table))]
    )


def test_rows_in_memory_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten partitions are written to in turns: few files are open, and what waits in them is little."""
    monkeypatch.setattr(data_files, "WAITING_BYTES_MAX", 4_000)
    files = data_files.OpenFiles(run.table)
    schema = table_schema(SCHEMA)
    for number in range(100):
        where = TopicPartition("flights", number % 10)
        row = dict.fromkeys(schema.names) | {
            "partition": where.partition,
            "offset": number,
            "value": b"v" * 500,
        }
        batch = pa.RecordBatch.from_pylist([row], schema)
        files.write(Chunk(where, batch, number, number + 1, 1, 500))
        assert len(files._open) <= data_files.OPEN_FILES_MAX
        assert sum(file.waiting_bytes for file in files._open.values()) < 4_000
    for number in range(10):
        row = dict.fromkeys(schema.names) | {"partition": 3, "offset": number, "value": b"v" * 500}
        files.write(Chunk(WHERE, pa.RecordBatch.from_pylist([row], schema), number, number + 1, 1, 500))
        assert sum(file.waiting_bytes for file in files._open.values()) < 4_000
    assert sum(file.record_count for file in files.finish()) == 110


def data_paths(run: Run) -> list[Path]:
    return list(Path(run.table.location().removeprefix("file://")).glob("data/*.parquet"))


def test_records_that_were_deleted_unread(bucket: BucketMaker, run: Run) -> None:
    run.round()
    bucket.repeat("flights", 0)
    bucket.repeat("flights", 0)
    bucket.raise_start("flights", 0, 900)
    bucket.publish()
    with pytest.raises(Refused, match="600 to 899 were deleted before they were written; --skip-deleted"):
        run.round()
    run.round(_skips_deleted=True)
    assert offsets_of(run.table) == {WHERE: [(0, 600), (900, 1200)]}
    assert run.offsets == [*range(600), *range(900, 1200)]


def test_a_partition_that_is_added(bucket: BucketMaker, run: Run) -> None:
    run.round()
    bucket.fill("flights", 4, 1, 10, Shape(40, 50))
    run.round()
    assert offsets_of(run.table)[TopicPartition("flights", 4)] == [(0, 10)]
    assert (run.told[-1].commits, run.told[-1].records, run.told[-1].lag_offsets) == (2, 610, 0)


def test_mistakes_are_one_line(rest: RestCatalog, bucket: BucketMaker, run: Run, name: str) -> None:
    catalog = run.catalog
    with pytest.raises(UserError, match=f"there is a table {name} already; go on with tierlog table follow"):
        made(catalog, name, run.source)
    with pytest.raises(UserError, match=r"there is no table tests\.none; make it with tierlog table create"):
        opened(catalog, "tests.none", "flights")
    with pytest.raises(UserError, match=r"expected NAMESPACE\.NAME"):
        opened(catalog, "flights", "flights")
    with pytest.raises(UserError, match="is of topic flights; name another one with --table"):
        opened(catalog, name, "other")
    with run.table.update_schema() as update:
        update.delete_column("headers")
    with pytest.raises(Refused, match="a table that is followed keeps its columns"):
        run.round()
    with pytest.raises(UserError, match=r"no answer from 127\.0\.0\.1:1: Connection refused; check"):
        open_catalog("http://127.0.0.1:1", {})
    with pytest.raises(UserError, match=r"^there is no catalog nowhere; check it in"):
        open_catalog("nowhere", {})
    assert shown("postgresql+psycopg2://me:secret@host/db?password=x") == "postgresql+psycopg2://host/db"


def test_commits_of_very_many_partitions(run: Run) -> None:
    """Each snapshot keeps its offsets in the description of the table, which each commit writes anew."""
    table, commits, rng = run.table, 5, random.Random(3)
    after = {TopicPartition("flights", number): [(0, rng.randrange(2**30))] for number in range(10_000)}
    before, sizes, begun = {}, [], time.monotonic()
    for _ in range(commits):
        table = append(table, [], before, after)
        before = after
        after = {where: [(0, spans[0][1] + rng.randrange(1, 2**16))] for where, spans in after.items()}
        sizes.append(Path(table.metadata_location.removeprefix("file://")).stat().st_size)
    each_s = (time.monotonic() - begun) / commits
    assert offsets_of(table.refresh()) == before
    grown = (sizes[-1] - sizes[0]) // (commits - 1)
    figure(f"{grown:,} bytes a snapshot, {each_s * 1_000:.0f} ms a commit")
    assert grown <= 80_000
