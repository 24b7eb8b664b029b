"""What HTTP tells of each segment's retention: local and remote rows of a broker that runs, and as many as are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.offload.brokers import Running, World, produce, until
from tierlog.broker.clock import wall_clock_ms
from tierlog.broker.views.retention import retention_view
from tierlog.cli.output import console
from tierlog.cli.retention import draw_retention


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def asked(running: Running, ahead_ms: int = 0) -> dict[str, Any]:
    view = retention_view(
        1, running.broker.replicas, lambda: running.tiering, lambda: wall_clock_ms() + ahead_ms
    )
    for topic, partition in (("nope", "0"), ("t", "1"), ("t", "zero")):
        assert await view.read({"topic": topic, "partition": partition}) is None
    answer: Any = await view.read({"topic": "t", "partition": "0"})
    return answer  # type: ignore[no-any-return]


async def test_each_copy_of_each_segment_has_a_row(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with world.broker() as running:
        partition = await running.create(local_retention_bytes="-1", local_retention_ms="-1")
        produce(partition, 30)
        tier = await running.tiered(partition)
        row = await asked(running)
        where = [each["where"] for each in row["segments"]]
        assert where == ["remote"] * len(tier.catalog) + ["local"] * partition.log.segment_count
        assert {each["rule"] for each in row["segments"] if each["where"] == "remote"} == {
            "no limit by time or size"
        }
        assert row["is_remote_known"] and not row["left_out"]
        draw_retention(console(), {"topic": "t", "partitions": [row], "without_answer": []})
        shown = capsys.readouterr().out
        for words in ("standard", "local", "kept", "no limit by time or size", "1970-01-01"):
            assert words in shown, words


async def test_what_was_said_to_go_goes(world: World) -> None:
    async with world.broker() as running:
        partition = await running.create(local_retention_bytes="-1", local_retention_ms="-1")
        produce(partition, 30)
        await running.tiered(partition)
        low = partition.log.segments[1].end_offset
        assert partition.log.advance_log_start_offset(low)
        rows = (await asked(running))["segments"]
        gone = [each for each in rows if each["where"] == "local" and each["verdict"] == "removed"]
        assert [each["end_offset"] for each in gone][-1] == low
        assert all("DeleteRecords" in each["rule"] for each in gone)
        await running.broker.housekeeping.retain()
        await until(lambda: partition.log.segments.first.base_offset == low)


async def test_only_so_many_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.broker.views.retention.ROWS_MAX", 2)
    async with world.broker() as running:
        partition = await running.create(local_retention_bytes="-1", local_retention_ms="-1")
        produce(partition, 50)
        tier = await running.tiered(partition)
        row = await asked(running)
        assert [each["where"] for each in row["segments"]] == ["remote", "remote", "local", "local"]
        assert row["left_out"] == len(tier.catalog) + partition.log.segment_count - 4
        assert "active" not in row["segments"][-1]["rule"], "it is one of those left out"
