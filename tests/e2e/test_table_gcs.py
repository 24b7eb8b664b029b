"""``tierlog table`` with its warehouse on Google Cloud Storage: a server that refuses what Google refuses."""

from __future__ import annotations

import time
from pathlib import Path

from pyiceberg.catalog import load_catalog
from typer.testing import CliRunner

from tests.replay_bucket import BucketMaker, Shape
from tests.servers.gcs.asking import OBJECTS, TOKEN, ask
from tests.servers.gcs.serving import gcs_apart
from tierlog.cli.app import app
from tierlog.replay.iceberg.commits import offsets_of
from tierlog.types import TopicPartition


def test_a_table_on_google(tmp_path: Path) -> None:
    """Made, followed, merged, read with pyiceberg alone, and dropped with all of its objects. The server is a process of its
    own: Arrow's client never gets the answers of one in this process."""
    bucket = BucketMaker(tmp_path / "bucket")
    bucket.fill("flights", 0, 2, 300, Shape(40, 50))
    with gcs_apart(tmp_path / "server") as server:
        given = {
            "gcs.service.host": server.endpoint,
            "gcs.oauth2.token": TOKEN,
            "gcs.oauth2.token-expires-at": str(int(time.time() * 1_000) + 3_600_000),
        }
        catalog = ["--iceberg", f"sqlite:///{tmp_path}/catalog.db"]
        catalog += [f"--catalog-property={name}={value}" for name, value in given.items()]

        def table(verb: str, *more: str) -> None:
            done = CliRunner().invoke(app, ["table", verb, "flights", *catalog, *more])
            assert done.exit_code == 0, done.exception

        source = ("--bucket", bucket.url, "--once", "--progress", "none")
        table("create", *source, "--warehouse", f"gs://{server.bucket}/house")
        bucket.repeat("flights", 0)
        bucket.publish()
        table("follow", *source)
        table("compact", "--remove-leftovers", "24h")
        with load_catalog("default", uri=catalog[1], **given) as opened:
            found = opened.load_table("tierlog.flights")
            assert found.scan().to_arrow()["offset"].to_pylist() == list(range(900))
            assert offsets_of(found) == {TopicPartition("flights", 0): [(0, 900)]}
            assert len(list(found.scan().plan_files())) == 1
        held = ask(server, "GET", OBJECTS).row["items"]
        assert all(row["name"].startswith("house/tierlog/flights/") for row in held)
        table("drop", "--purge", "--yes")
        assert "items" not in ask(server, "GET", OBJECTS).row
