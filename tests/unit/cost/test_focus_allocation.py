"""FOCUS 1.3's columns of split costs, by our own reading of their rules: parts of charges that belong to no topic."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.cost.rows import small_cluster
from tiering.cost.allocation import BY_COST, BY_DISK, COLUMNS
from tiering.cost.bill import Bill, make_bill
from tiering.cost.division import Names, divide
from tiering.cost.focus import Account, focus_rows
from tiering.cost.payers import By
from tiering.cost.shipped import shipped
from tiering.ledger.rows import Kind, LedgerRow

SUMMABLE = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingQuantity", "ConsumedQuantity",
            "PricingCurrencyEffectiveCost")  # fmt: skip
OWNERS = {"flights": ("ops", "7")}
ACCOUNT = Account("acme", "ACME")


def bill_of(rows: list[LedgerRow]) -> Bill:
    return make_bill(rows, shipped("aws-eu-central-1"))


@pytest.fixture(scope="module")
def bill() -> Bill:
    return bill_of(small_cluster(50))


@pytest.fixture(scope="module")
def rows(bill: Bill) -> list[dict[str, Any]]:
    return focus_rows(bill, ACCOUNT, OWNERS)


def elements(row: dict[str, Any]) -> list[dict[str, Any]]:
    details = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal)
    assert details.keys() == {"Elements"}
    return list(details["Elements"])


def dimensions(row: dict[str, Any]) -> tuple[Any, ...]:
    """All that a part has in common with its charge: unit prices too."""
    return tuple(value for name, value in row.items() if name not in (*SUMMABLE, *COLUMNS))


def test_nulls(rows: list[dict[str, Any]]) -> None:
    assert rows[0].keys() >= set(COLUMNS)
    for row in rows:
        is_part = row["AllocatedMethodId"] is not None
        assert is_part is (row["ResourceId"] is None), "what has a topic is not split, all else is"
        if is_part:
            assert row["AllocatedResourceId"] == f"topic/{row['AllocatedResourceName']}"
            assert all(row[name] != "" for name in COLUMNS)
        else:
            assert [name for name in COLUMNS if row[name] is not None] == []


def test_parts_add_up_to_their_charge(bill: Bill, rows: list[dict[str, Any]]) -> None:
    parts: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["AllocatedMethodId"]:
            parts[dimensions(row)].append(row)
    origins = [charge for charge in bill.charges if not charge.use.topic]
    assert len(parts) == len(origins) > 2
    assert sorted(sum(row["BilledCost"] for row in split) for split in parts.values()) == sorted(
        charge.cost for charge in origins
    )
    assert sorted(sum(row["PricingQuantity"] for row in split) for split in parts.values()) == sorted(
        charge.quantity.quantize(Decimal("1e-18")) for charge in origins
    )
    for split in parts.values():
        assert len({row["AllocatedResourceId"] for row in split}) == len(split)
        assert sum((each["AllocatedRatio"] for row in split for each in elements(row)), Decimal(0)) == 1
        for row in split:
            assert abs(row["ListUnitPrice"] * row["PricingQuantity"] - row["ListCost"]) < Decimal("1e-9")


def test_methods(rows: list[dict[str, Any]]) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["AllocatedMethodId"] is None:
            continue
        found[row["AllocatedMethodId"]].add(row["x_Item"])
        (element,) = elements(row)
        has_usage = row["AllocatedMethodId"] == BY_DISK
        assert element.keys() == {"AllocatedRatio"} | ({"UsageUnit", "UsageQuantity"} if has_usage else set())
    assert found == {BY_DISK: {"disk-free"}, BY_COST: {"overhead", "requests"}}


def test_parts_are_those_of_the_report(bill: Bill, rows: list[dict[str, Any]]) -> None:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["AllocatedResourceName"]:
            sums[row["AllocatedResourceName"]] += row["BilledCost"]
    reported = {part.name: part.shared for part in divide(bill, By.TOPIC, Names())}
    assert sums.keys() == reported.keys()
    for name, cost in sums.items():
        assert cost == pytest.approx(reported[name], abs=Decimal("1e-9"))


def test_tags_are_those_of_the_topic(rows: list[dict[str, Any]]) -> None:
    tags = {
        (row["AllocatedResourceName"], row["AllocatedTags"]) for row in rows if row["AllocatedResourceId"]
    }
    assert tags == {("flights", '{"owner": "ops", "cost_center": "7"}'), ("old", None)}
    assert {row["Tags"] for row in rows if row["AllocatedResourceId"]} == {None}


def test_nothing_to_share_with() -> None:
    disks = [row for row in small_cluster(2) if row.kind == Kind.DISK]
    (row,) = focus_rows(bill_of(disks), ACCOUNT, {})
    assert (row["x_Item"], [row[name] for name in COLUMNS]) == ("disk-free", [None] * len(COLUMNS))
