"""What clients and disks say is what the ledger in the bucket says, however and in how many pieces it was written."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as parquet
import pytest

from tests.bucket_reader import Bucket
from tests.e2e.test_metered_requests import samples
from tests.e2e.tiered import (
    Row,
    await_tiered,
    create,
    delete,
    get,
    hurried,
    produce,
    read,
    storage,
    topic_id,
    until,
)
from tests.servers.tierlog import BrokerProcess
from tierlog.broker.offload.bucket import examined
from tierlog.cli.app import run

SUMS = ("requests", "failed", "records", "sent_bytes", "received_bytes", "byte_hours")
STATES = ("held_bytes", "duplicated_bytes", "capacity_bytes", "objects")
VALUE_BYTES = 1_000


def ledger_of(bucket: Path) -> list[dict[str, Any]]:
    """The rows in a directory, added up: a reader that knows docs/ledger.md alone."""
    pieces = []
    for path in bucket.glob("meta/*/ledger/*/*/*/*.parquet"):
        metadata = parquet.read_metadata(path).metadata
        assert metadata[b"tierlog.ledger.version"] == b"1"
        pieces.append((int(metadata[b"written_ms"]), parquet.read_table(path).to_pylist()))
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    told_by: dict[tuple[Any, ...], int] = {}
    newest: dict[tuple[int, int], int] = {}
    for number, (_, rows) in enumerate(sorted(pieces, key=lambda piece: piece[0])):
        for row in rows:
            about = tuple(value for name, value in row.items() if name not in (*SUMS, *STATES))
            before = found.get(about, dict.fromkeys(SUMS, 0))
            found[about] = row | {name: before[name] + row[name] for name in SUMS}
            told_by[about] = number
            if row["kind"] in ("stored", "local", "disk"):
                newest[row["hour_ms"], row["broker_id"]] = number
    for about, row in found.items():
        if told_by[about] < newest.get((row["hour_ms"], row["broker_id"]), -1):
            row |= dict.fromkeys(STATES, 0)  # given up since
    return list(found.values())


def total(rows: list[dict[str, Any]], figure: str, **wanted: str) -> Any:
    """Of the rows that have these values; states of the last hour only."""
    mine = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    if figure in STATES:
        newest = max((row["hour_ms"] for row in rows), default=0)
        mine = [row for row in mine if row["hour_ms"] == newest]
    return sum(row[figure] for row in mine)


def log_bytes(broker: BrokerProcess, topic: str) -> int:
    """``.log`` files on the disk, deleted ones not counted."""
    return sum(path.stat().st_size for path in broker.log_dir.glob(f"{topic}-*/*.log"))


def sent_to(rows: list[Row]) -> int:
    return sum(len(row.value) + len(row.key) for row in rows)


class Told(NamedTuple):
    code: int
    out: str
    errors: str


def command(*arguments: str, verb: str = "ledger show") -> Told:
    """``tierlog VERB`` in this process, which has imported what it needs."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tierlog", *verb.split(), *arguments])
        with pytest.raises(SystemExit) as ended:
            run()
    return Told(int(ended.value.code or 0), out.getvalue(), errors.getvalue())


def shown(*arguments: str) -> list[dict[str, Any]]:
    told = command("--format", "json", *arguments)
    assert told.code == 0, told.errors
    rows: list[dict[str, Any]] = json.loads(told.out)
    return rows


def asked_in(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Requests to the store by operation and cause."""
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        found[row["operation"], row["cause"]] += row["requests"]
    return +found


def asked_by(broker: BrokerProcess) -> Counter[tuple[str, str]]:
    """The same, as the broker's metrics say."""
    found: Counter[tuple[str, str]] = Counter()
    for name, labels, value in samples(broker):
        if name == "tierlog_object_store_requests_total":
            found[labels["operation"], labels["cause"]] += value
    return +found


def check_bills(topic: str, *where: str) -> None:
    """What was asked and held has its price, and the disk is known."""
    told = command(*where, "-o", "json", verb="cost report")
    assert told.code == 0, told.errors
    bill = json.loads(told.out)
    (mine,) = [row for row in bill["parts"] if row["name"] == topic]
    assert float(mine["per_month"]) > 0
    told = command(*where, "-o", "json", verb="capacity report")
    assert told.code in (0, 3), told.errors
    (disk,) = json.loads(told.out)["disks"]
    assert disk["local_bytes"] > 0


def ledgered(directory: Path, **overrides: str) -> BrokerProcess:
    return hurried(directory, tierlog_ledger_enable="true", **overrides)


@pytest.mark.parametrize("interval_ms", ["3600000", "1000"])
def test_the_bucket_tells_what_was_sent_read_and_held(tmp_path: Path, interval_ms: str) -> None:
    topic = "counted"
    with ledgered(tmp_path, tierlog_ledger_flush_interval_ms=interval_ms, broker_rack="r1") as broker:
        create(broker, topic, 2)
        produced = [*produce(broker, topic, 300, partitions=2)]
        await_tiered(broker, topic)
        for client in ("one", "two"):
            read(broker, topic, 300, {0: 0, 1: 0}, client_id=client, client_rack="r2")
        produced += produce(broker, topic, 100, partitions=2)
        rows = await_tiered(broker, topic)
        # The running hour is told by the broker, and joined with what the bucket has.
        live = shown("-b", broker.bootstrap)
        log_end = sum(row["log_end_offset"] for row in rows)
        assert total(live, "records", kind="traffic", direction="produce") == log_end == len(produced)
        segments = sum(
            path.stat().st_size for path in broker.objects.glob(f"*/*/{topic_id(broker, topic)}/*/*.seg")
        )
        in_log = sum(row["remote"]["bytes"] + row["local"]["bytes"] - row["both"]["bytes"] for row in rows)
        assert total(live, "held_bytes", kind="stored") == segments
        local = log_bytes(broker, topic)
        until(lambda: asked_by(broker) == asked_in(shown("-b", broker.bootstrap)))
        check_bills(topic, "-b", broker.bootstrap)
        read_each = {client: total(live, "sent_bytes", client_id=client) for client in ("one", "two")}
    written = ledger_of(broker.objects)
    assert {"start", "copy", "commit", "fetch"} <= {cause for _, cause in asked_in(written)}
    assert total(written, "requests", kind="requests", cause="copy", topic=topic) > 0
    assert total(written, "received_bytes", kind="traffic", direction="produce", to_rack="r1") == in_log
    assert sent_to(produced) < in_log < 1.2 * sent_to(produced)
    assert total(written, "records", client_id="rdkafka") == len(produced)
    for client, sent_bytes in read_each.items():
        mine = {
            "kind": "traffic",
            "client_id": client,
            "host": "127.0.0.1",
            "from_rack": "r1",
            "to_rack": "r2",
        }
        remote = total(written, "sent_bytes", direction="consume-remote", **mine)
        near = total(written, "sent_bytes", direction="consume", **mine)
        assert near + remote == sent_bytes
        assert remote > near > 0
    assert total(written, "held_bytes", kind="stored", storage_class="standard", topic=topic) == segments
    assert total(written, "held_bytes", kind="local", topic=topic) == local
    assert total(written, "duplicated_bytes", kind="local", topic=topic) == 0
    assert total(written, "held_bytes", kind="disk") == total(written, "held_bytes", kind="local")
    assert total(written, "capacity_bytes", kind="disk") == shutil.disk_usage(broker.log_dir).total
    for kind in ("stored", "local"):
        assert (
            0 < total(written, "byte_hours", kind=kind) < total(written, "held_bytes", kind=kind) + segments
        )
    # It is in nobody's way: neither for a reader of records, nor for the doctor.
    assert topic in Bucket.of_directory(broker.objects).topics()
    found = asyncio.run(examined(f"dir:{broker.objects}", "", ""))
    assert [each for each in found if each.check in ("cluster", "neighbours") and each.level != "ok"] == []
    # The program's own readers, without any broker.
    check_bills(topic, "--bucket", f"dir:{broker.objects}")
    assert by_identity(shown("--bucket", f"dir:{broker.objects}")) == by_identity(written)


def lying(bucket: Path, ledger: bool = False) -> int:
    """Bytes of what a listing of the bucket has beside segments: of the ledger, or of all else."""
    size_bytes = 0
    for path in bucket.rglob("meta/**/*"):
        with suppress(FileNotFoundError):  # deleted meanwhile
            if path.is_file() and ("/ledger/" in str(path)) is ledger:
                size_bytes += path.stat().st_size
    return size_bytes


def test_all_that_a_listing_shows_is_held(tmp_path: Path) -> None:
    """Segments, pages, heads, markers and the ledger itself: as they are written, deleted, and met again after a restart."""
    with ledgered(tmp_path) as broker:
        create(broker, "paged", internal_segment_bytes="21000")
        create(broker, "brief", 2)
        produce(broker, "paged", 1_500)
        produce(broker, "brief", 400, partitions=2)
        for topic in ("paged", "brief"):
            await_tiered(broker, topic)

        def held(cause: str, topic: str = "", kind: str = "overhead") -> int:
            return int(
                total(shown("-b", broker.bootstrap), "held_bytes", kind=kind, topic=topic, cause=cause)
            )

        def is_all_told() -> bool:
            rows = shown("-b", broker.bootstrap)
            beside = Counter[str]()
            for row in rows:
                if row["kind"] == "overhead":
                    beside[row["cause"]] += row["held_bytes"]
            segments = sum(path.stat().st_size for path in broker.objects.rglob("*.seg"))
            if total(rows, "held_bytes", kind="stored") != segments:
                return False
            # With what is written meanwhile, it must have been all there was at some time.
            ledger = beside.pop("ledger", 0)
            return beside.total() == lying(broker.objects) and ledger == lying(broker.objects, ledger=True)

        until(is_all_told)
        assert held("commit", "paged") > held("commit", "brief") > 0
        assert list(broker.objects.rglob("*.page")) and list(broker.objects.rglob("*.index"))
        delete(broker, "brief")
        until(lambda: "purged a deleted topic" in broker.log.read_text())
        until(is_all_told)
        assert held("delete") > 0
        broker.stop()
        broker.start()
        until(is_all_told)
        assert held("commit", "paged") > 0 and held("ledger") > 0
    written = ledger_of(broker.objects)
    by_cause = {row["cause"] for row in written if row["kind"] == "overhead" and row["byte_hours"] > 0}
    assert by_cause == {"commit", "start", "delete", "ledger"}


def by_identity(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        tuple(value for name, value in row.items() if name not in (*SUMS, *STATES)): row
        | {"byte_hours": round(row["byte_hours"], 3)}
        for row in rows
    }


def test_kill_9_takes_what_was_not_written(tmp_path: Path) -> None:
    broker = ledgered(tmp_path, tierlog_ledger_flush_interval_ms="1000").start()
    create(broker, "t")
    produce(broker, "t", 200)

    def records() -> int:
        return int(total(ledger_of(broker.objects), "records", direction="produce"))

    until(lambda: records() == 200)
    produce(broker, "t", 50)
    broker.kill()
    assert records() in (200, 250)
    with broker:
        produce(broker, "t", 30)
        log_end = storage(broker, "t")[0]["log_end_offset"]
    assert log_end - 50 <= records() <= log_end


def test_a_store_that_is_away_loses_nothing(tmp_path: Path) -> None:
    """A directory that may not be written to; the pieces wait, and are told over HTTP meanwhile."""
    with ledgered(tmp_path, tierlog_ledger_flush_interval_ms="1000") as broker:
        create(broker, "t", local_retention_bytes="-1")
        until(lambda: list(broker.objects.glob("meta/*/ledger")))
        (ledger,) = broker.objects.glob("meta/*/ledger")
        aside = tmp_path / "aside"
        ledger.rename(aside)
        ledger.write_text("in the way")
        produce(broker, "t", 100)
        until(lambda: len(get(broker, "/v1/ledger")["pieces"]) > 3)
        assert broker.metrics()["tierlog_ledger_objects_waiting"] >= 3
        assert total(shown("-b", broker.bootstrap), "records", direction="produce") == 100
        ledger.unlink()
        aside.rename(ledger)
        until(lambda: len(get(broker, "/v1/ledger")["pieces"]) == 1)
        assert broker.metrics()["tierlog_ledger_rows_lost_total"] == 0
    assert total(ledger_of(broker.objects), "records", direction="produce") == 100


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "meta/c/ledger/2026/11/30"
    damaged.mkdir(parents=True)
    (tmp_path / "meta/cluster.json").write_text('{"cluster_id": "c", "format_version": 1}')
    (damaged / f"13-1-{'0' * 32}.parquet").write_bytes(b"PAR1 and no more")
    bucket = ("--bucket", f"dir:{tmp_path}")
    told = command(*bucket, "--since", "2026-11-30", "--until", "2026-12-01")
    assert told.code == 1
    assert f"left out: meta/c/ledger/2026/11/30/13-1-{'0' * 32}.parquet: no ledger of tierlog" in told.errors
    for arguments, why in (
        (
            (*bucket, "--kind", "x"),
            "--kind x: expected one of requests, stored, overhead, local, traffic, disk",
        ),
        ((*bucket, "--by", "y"), "--by y: expected some of hour_ms, broker_id, kind"),
        ((*bucket, "--since", "soon"), "--since soon: expected a time, as 2026-11-01"),
        (("--bucket", f"dir:{tmp_path}/absent"), "no cluster has claimed this bucket"),
        (("--bucket", "ftp://x"), "ftp://x: "),
    ):
        told = command(*arguments)
        assert (told.code, told.out, len(told.errors.splitlines())) == (1, "", 1), told
        assert why in told.errors
