"""Storage classes by age on real S3 servers: what a ladder says is told before, then every object is where it should be."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from tests.e2e.test_cli import tierlog
from tests.e2e.test_tier_s3 import on_s3, server  # noqa: F401
from tests.e2e.tiered import alter, await_tiered, create, produce, read, until
from tests.servers.processes import S3Server, minio_client

DAY_MS = 86_400_000
SEGMENT_BYTES = 300_000


def classes(server: S3Server, prefix: str) -> set[str]:  # noqa: F811
    found = minio_client(server).list_objects(server.bucket, prefix=prefix + "/", recursive=True)
    return {str(each.storage_class) for each in found if str(each.object_name).endswith(".seg")}


def test_segments_lie_where_their_age_puts_them(tmp_path: Path, server: S3Server) -> None:  # noqa: F811
    topic, prefix = "aged", f"e2e/{uuid.uuid4().hex[:8]}"
    now_ms = time.time_ns() // 1_000_000
    with on_s3(tmp_path, server, prefix) as broker:
        ladder = "standard:30d,infrequent:1y,archive-instant:forever"
        create(broker, topic, internal_segment_bytes=str(SEGMENT_BYTES))
        # Forty days old: standard without a ladder, infrequent with one.
        times = range(now_ms - 40 * DAY_MS, now_ms - 40 * DAY_MS + 1500)
        written = produce(broker, topic, 1500, timestamps=times)
        await_tiered(broker, topic)
        assert classes(server, prefix) == {"STANDARD"}

        asked = tierlog("tier", "plan", topic, "--tiers", ladder, "-o", "json", bootstrap=broker.bootstrap)
        assert asked.code == 0, asked.err
        (due,) = asked.json["due"]
        assert (due["from"], due["to"]) == ("standard", "infrequent")
        refused = tierlog("tier", "plan", topic, "--tiers", "glacier:3d", bootstrap=broker.bootstrap)
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert "there is no class glacier; there are standard, infrequent" in refused.err
        assert classes(server, prefix) == {"STANDARD"}

        alter(broker, topic, tierlog_tiers=ladder)
        until(lambda: classes(server, prefix) == {"STANDARD_IA"})
        until(lambda: told(broker.bootstrap, topic) == [("infrequent", due["segments"], due["bytes"])])
        assert broker.metrics()["kafka_server_brokertopicmetrics_remoteclassmoves_total"] == due["segments"]
        assert read(broker, topic, len(written), {0: 0}) == written

        # What is copied from now on goes to its class at once, and all is read after a kill.
        old = produce(
            broker, topic, 900, timestamps=range(now_ms - 400 * DAY_MS, now_ms - 400 * DAY_MS + 900)
        )
        await_tiered(broker, topic)
        broker.kill()
        broker.start()
        await_tiered(broker, topic)
        until(lambda: classes(server, prefix) == {"STANDARD_IA", "GLACIER_IR"})
        rows = read(broker, topic, len(written) + len(old), {0: 0})
        assert [row.value for row in rows] == [row.value for row in (*written, *old)]


def told(bootstrap: str, topic: str) -> list[tuple[str, int, int]]:
    answer = tierlog("tier", "status", topic, "-o", "json", bootstrap=bootstrap).json
    return [(row["class"], row["segments"], row["bytes"]) for row in answer["held"]]
