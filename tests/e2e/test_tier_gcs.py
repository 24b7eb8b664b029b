"""The tier on Google Cloud Storage: a broker with a service account, and a server that holds its objects before our eyes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
from crc32c import crc32c

from tests.bucket_reader import Bucket
from tests.e2e.test_tier_s3 import PARTITIONS, check_bucket
from tests.e2e.tiered import (
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

LADDER = "standard:1s,infrequent:forever"
TOPIC, PREFIX = "flights", "some/where"


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


def bucket_of(server: GcsServer) -> Bucket:
    """What the server holds, without a request to it."""

    def list_keys(text: str) -> Iterator[str]:
        names = list(server.holds().live)
        return (name.removeprefix(f"{PREFIX}/") for name in names if name.startswith(f"{PREFIX}/{text}"))

    def get(name: str) -> bytes:
        return server.holds().live[f"{PREFIX}/{name}"].data

    return Bucket(list_keys, get)


def segments(server: GcsServer) -> list[str]:
    return [name for name in list(server.holds().live) if name.endswith(".seg")]


def test_the_way_to_google_and_back(tmp_path: Path, server: GcsServer) -> None:
    with on_gcs(tmp_path, server) as broker:
        create(broker, TOPIC, PARTITIONS)
        written = produce(broker, TOPIC, 1200, partitions=PARTITIONS, codec="lz4")
        written += produce(broker, TOPIC, 800, partitions=PARTITIONS, seed=2)
        written.sort()
        rows = await_tiered(broker, TOPIC)
        starts = dict.fromkeys(range(PARTITIONS), 0)
        assert read(broker, TOPIC, len(written), starts) == written
        which = topic_id(broker, TOPIC)
        until(lambda: '"bucket examined"' in broker.log.read_text())
        text = broker.log.read_text()
        assert "conditional writes: ok" in text and "checksums: ok" in text
        assert "soft delete is on" in text
        check_bill(server)

        broker.kill()
        broker.start()
        assert read(broker, TOPIC, len(written), starts) == written
        check_bucket(bucket_of(server), which, rows, written)  # its heads are copied again at the start
        check_versions(server, which)
        low = delete_records(broker, TOPIC, storage(broker, TOPIC)[0]["tiered_end_offset"])
        until(lambda: {key.removeprefix(f"{PREFIX}/").split("/")[3] for key in segments(server)} == {"1"})
        assert read(broker, TOPIC, 10, {0: low}) == [row for row in written if row[:2] >= (0, low)][:10]
        delete(broker, TOPIC)
        until(lambda: not segments(server))


def test_old_segments_lie_in_a_colder_class_and_are_read_there(tmp_path: Path, server: GcsServer) -> None:
    """They are written into it: the records were an hour old when they came."""
    with on_gcs(tmp_path, server) as broker:
        create(broker, TOPIC, internal_segment_bytes="200000", tierlog_tiers=LADDER)
        hour_ago_ms = int(time.time() * 1000) - 3_600_000
        written = produce(broker, TOPIC, 900, timestamps=repeat(hour_ago_ms))
        await_tiered(broker, TOPIC)
        assert classes(server) == {"NEARLINE"}
        assert read(broker, TOPIC, len(written), {0: 0}) == written


def classes(server: GcsServer) -> set[str]:
    """Of the segments."""
    return {server.holds().live[name].storage_class for name in segments(server)}


def check_versions(server: GcsServer, which: str) -> None:
    """An entry knows its object by the generation, and by its checksum the server has what was sent."""
    bucket = bucket_of(server)
    head = bucket.head(which, 0)
    for entry in bucket.entries(which, 0, head):
        stored = server.holds().live[f"{PREFIX}/{bucket.segment_name(which, 0, head, entry)}"]
        assert stored.crc32c == base64_of(crc32c(stored.data))
        hashed = hashlib.sha256(str(stored.generation).encode()).digest()[:8]
        assert entry.version_hash == int.from_bytes(hashed, "big") >> 1


def check_bill(server: GcsServer) -> None:
    """Every segment cost one write; nothing was overwritten without a condition or asked without a token."""
    log = server.state.log
    assert log.kinds["storage.objects.insert"] >= len(segments(server))
    odd = [row.status for row in log.rows if row.status not in (200, 204, 206, 404, 412)]
    assert sorted(odd) == [400, 501, 501], "the look at the bucket: a wrong checksum; twice, what time it is"
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
