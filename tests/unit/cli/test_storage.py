"""Local, remote and duplicated bytes: the broker's view of a real partition, the sums, the bar and the table."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tierlog.admin.storage import total
from tierlog.broker.views.storage import storage_row, storage_view
from tierlog.cli.storage_commands import bar, draw_storage

WHERE = {"object_store": "s3://of/topic"}


class Tier:
    """A ``RemoteView``."""

    def __init__(self, end_offset: int, segment_count: int, size_bytes: int, is_loaded: bool = True) -> None:
        self.is_loaded = is_loaded
        self.store = "s3://of/topic?region=x"
        self.start_offset, self.end_offset = 0, end_offset
        self.segment_count, self.size_bytes = segment_count, size_bytes
        self.future_dated_count = lambda now_ms: 2


class Segments(list[SimpleNamespace]):
    def sealed(self) -> list[SimpleNamespace]:
        return self


def replica(partition: int, tier: Tier | None, *, leads: bool = True) -> Any:
    """Local: three sealed segments of 100 bytes and 10 records, [20, 50), and 5 bytes in the active one."""
    sealed = [SimpleNamespace(end_offset=end, size_bytes=100, max_timestamp=2**60) for end in (30, 40, 50)]
    log = SimpleNamespace(
        directory=Path("/nowhere"),
        segments=Segments(sealed),
        segment_count=4,
        size_bytes=305,
        local_log_start_offset=20,
        log_end_offset=51,
        active_base_offset=50,
    )
    return SimpleNamespace(
        topic_partition=SimpleNamespace(topic="t", partition=partition),
        log=log,
        remote=tier,
        leader=object() if leads else None,
        offline=None,
        log_start_offset=0,
        high_watermark=51,
    )


def test_three_figures() -> None:
    row = storage_row(replica(0, Tier(40, 4, 400)))
    assert row["local"] == {"segments": 4, "bytes": 305}
    assert row["remote"] == {"is_loaded": True, "segments": 4, "bytes": 400, **WHERE}
    assert row["both"] == {"segments": 2, "bytes": 200}
    offsets = ("log_start_offset", "local_log_start_offset", "tiered_end_offset", "high_watermark")
    assert [row[name] for name in offsets] == [0, 20, 40, 51]


def test_a_segment_that_is_partly_remote_does_not_count_as_both() -> None:
    assert storage_row(replica(0, Tier(45, 5, 450)))["both"] == {"segments": 2, "bytes": 200}


def test_what_is_not_known_is_not_told() -> None:
    plain = storage_row(replica(0, None))
    assert (plain["remote"], plain["tiered_end_offset"]) == (None, None)
    loading = storage_row(replica(0, Tier(40, 4, 400, is_loaded=False)))
    assert loading["remote"] == {"is_loaded": False, "segments": 0, "bytes": 0, **WHERE}
    assert (loading["tiered_end_offset"], loading["both"]["bytes"]) == (None, 0)
    follower = storage_row(replica(0, None, leads=False))
    assert (follower["is_leader"], follower["high_watermark"]) == (False, None)


async def test_the_view_lists_partitions_in_order() -> None:
    hosted = [replica(n, None) for n in reversed(range(70))]
    view = storage_view(7, hosted)
    answer: Any = await view.read({"topic": "t"})
    assert answer["node_id"] == 7
    assert [row["partition"] for row in answer["partitions"]] == list(range(70))
    assert await view.read({"topic": "absent"}) is None


def test_sums_count_what_is_on_both_sides_once() -> None:
    sums = total([storage_row(replica(0, Tier(40, 4, 400))), storage_row(replica(1, None))])
    assert sums["local"] == {"segments": 8, "bytes": 610}
    assert sums["remote"] == {"segments": 4, "bytes": 400}
    assert sums["both"] == {"segments": 2, "bytes": 200}
    assert sums["held_once_bytes"] == 610 + 400 - 200
    assert total([])["held_once_bytes"] == 0


def test_the_bar_shows_every_part_that_there_is() -> None:
    sums = {"local": {"bytes": 1}, "remote": {"bytes": 10_000}, "both": {"bytes": 0}}
    drawn = bar(sums, 20)
    assert [str(span.style) for span in drawn.spans] == ["blue", "green"]
    assert str(bar(total([]), 20)) == ""


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_the_table_fits_its_terminal(width: int) -> None:
    rows = [{**storage_row(replica(0, Tier(4_000_000, 40, 4_000_000_000))), "leader": 1}]
    rows[0] |= {"log_end_offset": 5_000_000, "high_watermark": 5_000_000, "local_log_start_offset": 3_999_999}
    stream = io.StringIO()
    draw_storage(Console(file=stream, width=width), {"topic": "t", "partitions": rows, "total": total(rows)})
    text = stream.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for heading in (
        "LOG START",
        "LOCAL START",
        "TIERED END",
        "HIGH WATERMARK",
        "LOG END",
        "LOCAL",
        "REMOTE",
        "BOTH",
    ):
        assert heading in text
