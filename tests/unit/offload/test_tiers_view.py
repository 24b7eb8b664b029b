"""What HTTP tells of a topic's storage classes is what the ladder then does; and how the command line shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.offload.brokers import World, until
from tests.unit.offload.test_class_moves import Clock, Interrupting, on, pass_over, produce_now
from tiering.objects.classes import S3_CLASSES
from tiering.objects.memory import MemoryStore
from tierlog.admin.cost.ladders import ladder_cost
from tierlog.admin.cost.price_books import book_of
from tierlog.admin.tiers import KEYS, _summed
from tierlog.broker.offload.outlook import outlook
from tierlog.broker.views.tiers import tiers_views
from tierlog.cli.output import console
from tierlog.cli.tier_commands import draw_plan, draw_status
from tierlog.config.tiers import parse_tiers

DAY_MS = 86_400_000
TIERS = "standard:30d,infrequent:1y,archive-instant:forever"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path, monkeypatch)
    world.objects = Interrupting(MemoryStore())  # type: ignore[assignment]
    monkeypatch.setattr("tierlog.broker.offload.service.class_names_of", lambda url: S3_CLASSES)
    monkeypatch.setattr("tiering.ladder.BILLED_BYTES_MIN", 0)
    return world


async def test_a_plan_is_told_before_it_is_set_and_then_carried_out(world: World) -> None:
    clock = Clock()
    async with world.broker() as running:
        on(running, clock)
        partition = await running.create()
        produce_now(partition, 30)
        tier = await running.tiered(partition)
        count, size = len(tier.catalog), sum(entry.object_bytes for entry in tier.catalog)
        clock.ahead_ms = 31 * DAY_MS
        assert (await row_of(running, partition, None, clock))["due"] == []
        told = await row_of(running, partition, TIERS, clock)
        assert [(each["from"], each["to"], each["segments"], each["bytes"]) for each in told["due"]] == [
            ("standard", "infrequent", count, size)
        ]
        assert [(each["month"], each["to"], each["segments"]) for each in told["later"]] == [
            (11, "archive-instant", count)
        ]
        answer = summed([told])
        assert answer["cost"]["copies"] == 2 * count
        assert store_copies(world) == 0, "asking changes nothing"

        partition = await running.create("u", tierlog_tiers=TIERS)
        produce_now(partition, 30)
        tier = await running.tiered(partition)
        pass_over(tier)
        await until(lambda: tier.counters.class_moves == len(tier.catalog))
        after = await row_of(running, partition, None, clock)
        assert (after["due"], after["waiting"], after["hindered"]) == ([], [], None)
        assert [each["class"] for each in after["held"]] == ["infrequent"]


async def row_of(running: Any, partition: Any, tiers: str | None, clock: Clock) -> dict[str, Any]:
    rungs = None if tiers is None else parse_tiers(tiers)
    row = await outlook(running.tiering, partition, rungs, clock())
    assert row is not None
    return row


def store_copies(world: World) -> int:
    assert isinstance(world.objects, Interrupting)
    return world.objects.copies.total()


def summed(rows: list[dict[str, Any]], provider: str = "s3") -> dict[str, Any]:
    sums = {name: _summed(rows, name, keys) for name, keys in KEYS.items()}
    return {
        "topic": "t",
        "tiers": TIERS,
        "hindered": None,
        "without_answer": [],
        **sums,
        "cost": ladder_cost(sums, book_of(provider)),
    }


async def test_the_view_answers_for_the_topics_that_are_led_here(world: World) -> None:
    async with world.broker() as running:
        tier = await running.tiered(await running.create(tierlog_tiers=TIERS))
        await until(lambda: tier.is_loaded)
        plain, asked = tiers_views(1, running.broker.replicas, lambda: running.tiering)
        answer: Any = await plain.read({"topic": "t"})
        assert [row["partition"] for row in answer["partitions"]] == [0]
        assert await plain.read({"topic": "nope"}) is None
        refused: Any = await asked.read({"topic": "t", "ladder": "glacier:3d"})
        assert "there is no class glacier" in refused["refused"]
        assert await tiers_views(1, running.broker.replicas, lambda: None)[0].read({"topic": "t"}) is None


def amount(segments: int, **more: Any) -> dict[str, Any]:
    return {"segments": segments, "bytes": segments * 2**30, "due_ms": 0, **more}


ROW = {
    "held": [amount(10, **{"class": "standard"}), amount(4, **{"class": "infrequent"})],
    "due": [amount(3, **{"from": "standard", "to": "infrequent"})],
    "waiting": [
        amount(
            2, **{"from": "infrequent", "to": "archive-instant", "why": "waits", "due_ms": 1_900_000_000_000}
        )
    ],
    "later": [amount(5, **{"month": 2, "from": "standard", "to": "infrequent"})],
    "early": [amount(1, **{"class": "infrequent"})],
}


def test_sums_and_costs() -> None:
    answer = summed([ROW, ROW])
    assert answer["held"][0] == amount(20, **{"class": "standard"})
    assert answer["waiting"][0]["due_ms"] == 1_900_000_000_000
    cost = answer["cost"]
    assert (cost["copies"], cost["requests"]) == (16, 51)
    assert (cost["month_before"], cost["month_after"]) == ("0.560000", "0.392000")  # 20 × 0.023 + 8 × 0.0125
    assert (cost["moves"], cost["currency"], cost["as_of"]) == ("0.000166", "USD", "2026-05-01")


def test_people_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    answer = summed([ROW])
    draw_status(console(), answer)
    draw_plan(console(), answer | {"hindered": "versioning of bucket b is on"})
    shown = capsys.readouterr().out
    for words in (
        "infrequent",
        "now",
        "waits, until 2030-03-17",
        "month 3",
        "8 copies within the store",
        "a month",
        "before the minimum time of infrequent is over",
        "Nothing moves: versioning of bucket b is on",
    ):
        assert words in shown, words
