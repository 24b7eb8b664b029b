"""Who pays: every way of dividing adds up to the bill; shares, groups and owners as docs/cost.md says."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cost.rows import GIB, START_MS, small_cluster
from tiering.cost.bill import Bill, make_bill
from tiering.cost.division import (
    NO_CONSUMER,
    NO_OWNER,
    NO_PRINCIPAL,
    SHARED,
    UNKNOWN_GROUP,
    Names,
    divide,
)
from tiering.cost.early import EarlyDeletion, EarlyDeletions
from tiering.cost.payers import By
from tiering.cost.shipped import DEFAULT, shipped
from tiering.cost.usage import Item
from tiering.ledger.hours import take
from tiering.ledger.rows import HOUR_MS, Cause, Kind, LedgerRow, Operation

NAMES = Names({("reader", "10.0.0.9"): "night-jobs"}, {"flights": "ops"})


@pytest.fixture(scope="module")
def bill() -> Bill:
    return make_bill(small_cluster(), shipped(DEFAULT))


@pytest.mark.parametrize("by", By)
def test_every_division_adds_up(bill: Bill, by: By) -> None:
    parts = divide(bill, by, NAMES)
    assert sum(part.cost for part in parts) == bill.total
    assert [part.cost for part in parts] == sorted((part.cost for part in parts), reverse=True)


def test_topics_share_what_is_of_no_topic(bill: Bill) -> None:
    parts = {part.name: part for part in divide(bill, By.TOPIC, NAMES)}
    assert parts.keys() == {"flights", "old"}
    free = sum(charge.cost for charge in bill.charges if charge.use.item is Item.DISK_FREE)
    lists = sum(charge.cost for charge in bill.charges if charge.use.cause == Cause.SWEEP)
    ledger = sum(charge.cost for charge in bill.charges if charge.use.cause == Cause.LEDGER)
    assert (free > 0, lists > 0, ledger > 0) == (True, True, True)
    assert parts["flights"].shared + parts["old"].shared == free + lists + ledger
    # 1 of 21 GiB on the disks, and nearly nothing of the direct costs.
    assert free / 21 < parts["old"].shared < free / 21 + (lists + ledger) / 10


def test_what_lies_beside_segments_is_a_line_of_its_own(bill: Bill) -> None:
    """Of the price of what is stored, in the topic's part where it has one."""
    of: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for charge in bill.charges:
        if charge.use.item is Item.OVERHEAD:
            of[charge.use.cause, charge.use.topic] += charge.cost
    months = Decimal(48) / bill.book.month_hours
    assert of.keys() == {(Cause.COMMIT, "flights"), (Cause.LEDGER, "")}
    for cost in of.values():
        assert cost == pytest.approx(months * bill.book.class_of("standard").storage.first)
    (flights,) = [part for part in divide(bill, By.TOPIC, NAMES) if part.name == "flights"]
    assert flights.direct[Item.OVERHEAD] == of[Cause.COMMIT, "flights"]


def test_volume_steps_count_what_lies_beside_segments() -> None:
    """A step that ends between the two."""
    row = LedgerRow(START_MS, 1, Kind.STORED, topic="t", partition=0, byte_hours=744.0 * 51_200 * GIB)
    beside = row._replace(kind=Kind.OVERHEAD, byte_hours=row.byte_hours / 2)
    both = make_bill([row, beside], shipped(DEFAULT)).total
    assert both == make_bill([row._replace(byte_hours=1.5 * row.byte_hours)], shipped(DEFAULT)).total


def test_owners_groups_and_principals(bill: Bill) -> None:
    owners = {part.name for part in divide(bill, By.OWNER, NAMES)}
    groups = {part.name: part for part in divide(bill, By.GROUP, NAMES)}
    principals = {part.name: part for part in divide(bill, By.PRINCIPAL, NAMES)}
    assert owners == {"ops", NO_OWNER}
    # The stray client's traffic has no zone, so nothing of it is billed.
    assert groups.keys() == {"night-jobs", NO_CONSUMER}
    assert set(groups["night-jobs"].direct) == {Item.CROSS_ZONE, Item.REQUESTS}
    assert principals.keys() == {"User:ann", "User:pat", NO_PRINCIPAL}
    assert principals["User:pat"].cost == Decimal("0.96")  # 48 GB × 0.02
    unknown = {part.name for part in divide(bill, By.GROUP, Names())}
    assert unknown == {UNKNOWN_GROUP, NO_CONSUMER}
    anywhere = divide(bill, By.GROUP, Names({("reader", ""): "night-jobs"}))
    assert {part.name for part in anywhere} == {"night-jobs", NO_CONSUMER}


def test_what_nobody_causes_stands_alone() -> None:
    disk = LedgerRow(START_MS, 1, Kind.DISK, log_dir="/d", capacity_bytes=GIB)
    (part,) = divide(make_bill([disk], shipped(DEFAULT)), By.TOPIC, NAMES)
    assert (part.name, part.shared > 0) == (SHARED, True)


def test_a_file_system_of_two_log_directories_is_paid_once() -> None:
    disk = LedgerRow(
        START_MS,
        1,
        Kind.DISK,
        log_dir="/d/a",
        held_bytes=GIB,
        duplicated_bytes=2 * GIB,
        capacity_bytes=9 * GIB,
    )
    fellow = disk._replace(log_dir="/d/b", held_bytes=2 * GIB, duplicated_bytes=GIB)
    other = disk._replace(log_dir="/e", duplicated_bytes=0)
    book = shipped(DEFAULT)
    once = make_bill([disk], book).total
    assert make_bill([disk, fellow], book).total == once
    assert make_bill([disk, other], book).total == pytest.approx(2 * once)


def test_no_rows_cost_nothing() -> None:
    empty = make_bill([], shipped(DEFAULT))
    assert (empty.total, empty.baseline_total, empty.hours) == (0, 0, 0)


def test_what_the_ledger_cannot_tell_is_told(bill: Bill) -> None:
    assert bill.unknown_zone_bytes == 48 * GIB
    assert bill.is_disk_known
    no_disks = [row for row in small_cluster(1) if row.kind != Kind.DISK]
    assert not make_bill(no_disks, shipped(DEFAULT)).is_disk_known


class TestEarlyDeletion:
    """Infrequent bills 30 days; each object is 2 GiB."""

    @staticmethod
    def stored(hour: int, objects: int) -> LedgerRow:
        return LedgerRow(
            START_MS + hour * HOUR_MS,
            1,
            Kind.STORED,
            topic="t",
            partition=0,
            storage_class="infrequent",
            objects=objects,
            held_bytes=objects * 2 * GIB,
        )

    @staticmethod
    def moved(hour: int, objects: int) -> LedgerRow:
        return LedgerRow(
            START_MS + hour * HOUR_MS,
            1,
            Kind.REQUESTS,
            topic="t",
            partition=0,
            storage_class="infrequent",
            cause=Cause.CLASS_MOVE,
            operation=Operation.COPY,
            requests=objects + 1,
            failed=1,
        )

    @staticmethod
    def told(rows: list[LedgerRow]) -> tuple[list[EarlyDeletion], EarlyDeletions]:
        found: list[EarlyDeletion] = []
        made = EarlyDeletions(shipped(DEFAULT), found.append)
        take(rows, made)
        return found, made

    def test_the_oldest_leave_first(self) -> None:
        rows = [
            self.moved(0, 3),
            self.stored(0, 3),
            self.moved(24, 2),
            self.stored(24, 5),
            self.stored(48, 1),
        ]
        found, early = self.told(rows)
        # At hour 48 three of 48 hours' age and one of 24 hours'.
        hours = 3 * (720 - 48) + (720 - 24)
        assert [(each.hour_ms, each.byte_hours) for each in found] == [
            (START_MS + 48 * HOUR_MS, hours * 2 * GIB)
        ]
        assert early.unknown_bytes == 0

    def test_arrivals_and_departures_of_one_hour_are_both_seen(self) -> None:
        rows = [self.moved(0, 3), self.stored(0, 3), self.moved(10, 3), self.stored(10, 3)]
        ((found,), _) = self.told(rows)
        assert found.byte_hours == 3 * 710 * 2 * GIB

    def test_what_was_there_before_the_ledger_is_of_unknown_age(self) -> None:
        rows = [self.stored(0, 4), self.stored(100, 3), self.stored(720, 1)]
        found, early = self.told(rows)
        assert (found, early.unknown_bytes) == ([], 2 * GIB)

    def test_who_stayed_long_enough_pays_nothing_more(self) -> None:
        rows = [self.moved(0, 4), self.stored(0, 4), self.stored(720, 0)]
        assert self.told(rows)[0] == []

    @given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 400), st.integers(0, 600)), max_size=12))
    def test_it_is_what_a_queue_of_objects_says(self, steps: list[tuple[int, int, int]]) -> None:
        """Hours since the one before, objects that came, and objects at the hour's end."""
        rows, queue, hour, expected, mean = list[LedgerRow](), list[int](), 0, Decimal(0), 0
        for passed, came, objects in steps:
            hour += passed
            rows += [self.moved(hour, came), self.stored(hour, objects)]
            if len(rows) == 2:
                queue = [-1_000_000] * max(objects - came, 0)
            queue += [hour] * max(came, objects - len(queue))
            left, queue = queue[: len(queue) - objects], queue[len(queue) - objects :]
            expected += mean * sum(max(720 - (hour - since), 0) for since in left)
            mean = 2 * GIB if objects else mean
        found, _ = self.told(rows)
        assert sum((each.byte_hours for each in found), Decimal(0)) == expected

    def test_hours_that_nobody_pays_for_any_more_are_forgotten(self) -> None:
        hours = 2_000
        rows = [row for hour in range(hours) for row in (self.moved(hour, 1), self.stored(hour, hour + 1))]
        # All leave at once: those of the last 720 hours pay, each an hour less than the one behind it.
        ((found,), _) = self.told([*rows, self.stored(hours, 0)])
        assert found.byte_hours == sum(range(720)) * 2 * GIB
        assert len(self.told(rows)[1]._classes["infrequent"].arrivals) <= 721
