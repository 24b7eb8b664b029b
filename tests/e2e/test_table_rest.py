"""A table in a REST catalog and a bucket that others made: SeaweedFS serves both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from tests.replay_bucket import BucketMaker, Shape
from tests.servers.ports import free_ports
from tests.servers.seaweedfs import ACCESS_KEY_ID, SECRET_ACCESS_KEY, seaweedfs
from tierlog.replay.iceberg.catalogs import open_catalog
from tierlog.replay.iceberg.commits import append, expire, offsets_of
from tierlog.replay.iceberg.compaction import Compaction, live_files
from tierlog.replay.iceberg.following import Follower, Source
from tierlog.replay.iceberg.leftovers import leftovers
from tierlog.replay.iceberg.offsets import Refused
from tierlog.replay.iceberg.running import made
from tierlog.types import TopicPartition

RECORDS = 500
NAME = "tierlog.flights"
LATER_MS = 2**42


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    (port,) = free_ports(1)
    with seaweedfs(tmp_path / "weed", f"-s3.port.iceberg={port}", "-tableBucket=lake") as server:
        uri = f"http://127.0.0.1:{port}"
        given = {
            "oauth2-server-uri": f"{uri}/v1/oauth/tokens",
            "credential": f"{ACCESS_KEY_ID}:{SECRET_ACCESS_KEY}",
            "warehouse": "s3://lake",
            "s3.endpoint": server.endpoint,
            "s3.access-key-id": ACCESS_KEY_ID,
            "s3.secret-access-key": SECRET_ACCESS_KEY,
            "s3.region": server.region,
        }
        yield open_catalog(uri, given)


def test_a_table_over_the_wire(catalog: Catalog, tmp_path: Path) -> None:
    bucket = BucketMaker(tmp_path / "bucket")
    for partition in (0, 1):
        bucket.fill("flights", partition, 1, RECORDS, Shape(40, 50))
    source = Source("flights", None, bucket.url)
    follower = Follower(made(catalog, NAME, source), source, tell=lambda _: None)

    def follow() -> None:
        for partition in (0, 1):
            bucket.repeat("flights", partition)
        bucket.publish()
        asyncio.run(follower.round(asyncio.Event()))

    follow()
    stale, first = catalog.load_table(NAME), follower.table.snapshots()[0]
    before = offsets_of(stale)
    follow()
    assert offsets_of(catalog.load_table(NAME)) == {
        TopicPartition("flights", partition): [(0, 3 * RECORDS)] for partition in (0, 1)
    }
    with pytest.raises(Refused, match="has another writer: flights-0 is at offset 1500 there, not at 1000"):
        append(stale, [], before, before | {TopicPartition("flights", 0): [(0, 1001)]})
    assert len(live_files(follower.table)) == 4
    merging = Compaction(catalog.load_table(NAME))
    follow()
    done = merging.run(threading.Event(), lambda _: None)
    assert (done.merged_files, done.new_files) == (4, 2)
    follow()
    table = catalog.load_table(NAME)
    assert len(live_files(table)) == 6
    rows = table.scan(selected_fields=("partition", "offset")).to_arrow().sort_by("offset")
    assert sorted(zip(*rows.to_pydict().values(), strict=True)) == [
        (partition, offset) for partition in (0, 1) for offset in range(5 * RECORDS)
    ]
    assert table.scan(snapshot_id=first.snapshot_id).count() == 4 * RECORDS, "time travel"
    table = expire(table, LATER_MS)
    assert len(table.snapshots()) == 1
    assert len(leftovers(table, LATER_MS)) == 4, "those that were merged"
    assert table.scan().count() == 10 * RECORDS
