"""The tier on Google Cloud Storage: a broker with a service account, and a server that holds its objects before our eyes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from tests.e2e.test_tier_s3 import records
from tests.e2e.tiered import (
    Row,
    await_tiered,
    create,
    delete,
    delete_records,
    hurried,
    produce,
    read,
    storage,
    topic_id,
    until,
)
from tests.patience import PATIENT_S
from tests.servers.gcs.asking import TOKEN, key_file
from tests.servers.gcs.bucket import base64_of
from tests.servers.gcs.serving import GcsServer, gcs
from tests.servers.tierlog import BrokerProcess

TOPIC, PREFIX, PARTITIONS = "flights", "some/where", 2


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with gcs() as running:
        running.state.tokens = {TOKEN}
        yield running


def on_gcs(directory: Path, server: GcsServer, **env: str) -> BrokerProcess:
    directory.mkdir(parents=True, exist_ok=True)
    given = {"GOOGLE_APPLICATION_CREDENTIALS": str(key_file(directory, server))}
    url = f"gs://{server.bucket}/{PREFIX}?endpoint={server.endpoint}"
    return hurried(directory, env=given | env, tierlog_object_store=url)


def segments(server: GcsServer) -> dict[str, bytes]:
    """Key without the prefix → bytes; the server's own, so no request is made."""
    live = dict(server.holds().live)
    return {
        name.removeprefix(f"{PREFIX}/"): found.data for name, found in live.items() if name.endswith(".seg")
    }


def test_the_way_to_google_and_back(tmp_path: Path, server: GcsServer) -> None:
    with on_gcs(tmp_path, server) as broker:
        create(broker, TOPIC, PARTITIONS)
        written = produce(broker, TOPIC, 1200, partitions=PARTITIONS, codec="lz4")
        written += produce(broker, TOPIC, 800, partitions=PARTITIONS, seed=2)
        written.sort()
        rows = await_tiered(broker, TOPIC)
        starts = dict.fromkeys(range(PARTITIONS), 0)
        assert read(broker, TOPIC, len(written), starts) == written
        check_objects(server, topic_id(broker, TOPIC), rows, written)
        marker = json.loads(server.holds().live[f"{PREFIX}/meta/cluster.json"].data)
        assert marker["format_version"] == 1
        until(lambda: "bucket preflight done" in broker.log.read_text())
        text = broker.log.read_text()
        assert "if-absent: ok" in text and "permissions: ok" in text
        assert "soft delete is on" in text
        check_bill(server)

        broker.kill()
        broker.start()
        assert read(broker, TOPIC, len(written), starts) == written
        low = delete_records(broker, TOPIC, storage(broker, TOPIC)[0]["tiered_end_offset"])
        until(lambda: {key.split("/")[3] for key in segments(server)} == {"1"})
        assert read(broker, TOPIC, 10, {0: low}) == [row for row in written if row[:2] >= (0, low)][:10]
        delete(broker, TOPIC)
        until(lambda: not segments(server))


def check_objects(server: GcsServer, which: str, rows: list[dict[str, object]], written: list[Row]) -> None:
    found: list[Row] = []
    for name, data in segments(server).items():
        _, _, topic, partition, file = name.split("/")
        assert topic == which
        base, end = (int(text) for text in file.split("-")[:2])
        found += records(batches_of(data, base, end), int(partition))
        stored = server.holds().live[f"{PREFIX}/{name}"]
        assert (stored.storage_class, stored.crc32c) == ("STANDARD", base64_of(crc32c(data)))
    ends = {row["partition"]: row["tiered_end_offset"] for row in rows}
    assert sorted(found) == [row for row in written if row.offset < ends[row.partition]]  # type: ignore[operator]


def batches_of(data: bytes, base: int, end: int) -> bytes:
    """Kafka's bytes at the front of a segment object: batches as long as they hold offsets of its own."""
    at = 0
    while at + 12 <= len(data):
        offset, size_bytes = struct.unpack_from(">qi", data, at)
        if not base <= offset < end:
            break
        at += 12 + size_bytes
    return data[:at]


def check_bill(server: GcsServer) -> None:
    """Every segment cost one write; nothing was overwritten without a condition or asked without a token."""
    log = server.state.log
    assert log.kinds["storage.objects.insert"] >= len(segments(server))
    assert {row.status for row in log.rows} <= {200, 204, 206, 404, 412}
    assert log.billed["A"] < 10 * len(segments(server))


def test_what_the_user_got_wrong_is_one_line(tmp_path: Path, server: GcsServer) -> None:
    given = f"endpoint={server.endpoint}"
    wrong = {
        "bucket": ({"tierlog.object.store": f"gs://no-such-bucket/p?{given}"}, {}, "there is no bucket no-such-bucket"),
        "anonymous": (
            {"tierlog.object.store": f"gs://{server.bucket}/p?{given}&anonymous=true"},
            {},
            "wants credentials, and anonymous=true sends none",
        ),
        "absent": ({}, {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such/file"}, "the credentials cannot be read"),
    }  # fmt: skip
    for name, (overrides, env, words) in wrong.items():
        broker = on_gcs(tmp_path / name, server, **env)
        broker.overrides |= overrides
        broker.launch()
        assert broker.process is not None
        assert broker.process.wait(PATIENT_S) == 1
        broker.process = None
        text = broker.log.read_text()
        assert words in text, text
        assert "Traceback" not in text
        assert len(text.strip().splitlines()) == 1, text
