"""``cost report``: the bill of a span, divided, as plain values. Money is text with six decimals: no float rounds it."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from tiering.cost.bill import Bill, Charge, total_of
from tiering.cost.division import METHODS, Names, Part, divide
from tiering.cost.exact import exact
from tiering.cost.payers import By
from tiering.cost.prices import ZERO
from tiering.cost.usage import UNIT_OF, Item, Unit
from tiering.ledger.rows import HOUR_MS
from tierlog.admin.cost.price_books import described, money
from tierlog.admin.cost.spans import iso
from tierlog.admin.cost.watched import Watched

UNIT_NAMES = {Unit.BYTE_HOURS: "GB-month", Unit.BYTES: "GB", Unit.REQUESTS: "requests"}


class Span(NamedTuple):
    """Half-open, in whole hours."""

    since_ms: int
    until_ms: int


@exact
def cost_report(
    watched: Watched,
    bill: Bill,
    span: Span,
    by: By,
    names: Names,
    today: date,
    budget: Decimal | None,
) -> dict[str, Any]:
    """``watched``: the rows that the bill is of. ``budget``: of a month at this pace."""
    book, total = bill.book, bill.total
    parts = divide(bill, by, names)
    month = bill.per_hours(total, book.month_hours)
    return {
        "book": described(book, today),
        "since": iso(span.since_ms),
        "until": iso(span.until_ms),
        "hours": bill.hours,
        "hours_in_span": (span.until_ms - span.since_ms) // HOUR_MS,
        "total": _paces(bill, total),
        "items": _items(bill, total),
        "requests": _requests(bill),
        "by": str(by),
        "parts": [_part(bill, part, total) for part in parts],
        "method": list(METHODS[by]),
        "unit_costs": {
            "per_gb_ingested": _quotient(total, bill.ingested_gb),
            "per_gb_month_retained": _quotient(total, bill.retained_gb_months),
            "ingested_gb": money(bill.ingested_gb),
            "retained_gb_months": money(bill.retained_gb_months),
        },
        "without_tier": {
            **_paces(bill, bill.baseline_total),
            "items": {str(item): money(cost) for item, cost in bill.baseline.items() if cost},
            "disk_fill_percent": str(book.disk_fill_percent),
            "saved": money(bill.baseline_total - total),
        },
        "idle_topics": watched.idle_topics(),
        "unknown": {
            "zone_bytes": bill.unknown_zone_bytes,
            "early_deletion_bytes": bill.unknown_early_bytes,
            "is_disk_known": bill.is_disk_known,
        },
        "budget": None if budget is None else _budget(budget, month),
    }


def _budget(budget: Decimal, month: Decimal) -> dict[str, Any]:
    return {"per_month": money(budget), "is_crossed": month > budget}


def _paces(bill: Bill, cost: Decimal) -> dict[str, str]:
    return {
        "cost": money(cost),
        "per_day": money(bill.per_hours(cost, 24)),
        "per_month": money(bill.per_hours(cost, bill.book.month_hours)),
    }


def _quotient(cost: Decimal, quantity: Decimal) -> str | None:
    return money(cost / quantity) if quantity else None


def _percent(cost: Decimal, total: Decimal) -> float:
    return round(float(100 * cost / total), 1) if total else 0.0


def _items(bill: Bill, total: Decimal) -> list[dict[str, Any]]:
    """By item, with the class of what is stored or read, the direction of what crosses zones, the cause of overhead."""
    groups: dict[tuple[Item, str], list[Charge]] = defaultdict(list)
    for charge in bill.charges:
        use = charge.use
        detail = use.storage_class
        if use.item in (Item.CROSS_ZONE, Item.EGRESS):
            detail = use.what
        elif use.item is Item.OVERHEAD:
            detail = use.cause
        groups[use.item, detail].append(charge)
    rows = []
    for (item, detail), charges in sorted(groups.items(), key=lambda group: list(Item).index(group[0][0])):
        cost = total_of(charges)
        rows.append(
            {
                "item": str(item),
                "of": detail,
                "quantity": money(sum((charge.quantity for charge in charges), ZERO)),
                "unit": UNIT_NAMES[UNIT_OF[item]],
                **_paces(bill, cost),
                "percent": _percent(cost, total),
            }
        )
    return rows


def _requests(bill: Bill) -> list[dict[str, Any]]:
    """Requests by operation and cause, and their share of what all requests cost."""
    groups: dict[tuple[str, str], list[Charge]] = defaultdict(list)
    for charge in bill.charges:
        if charge.use.item is Item.REQUESTS:
            groups[charge.use.what, charge.use.cause].append(charge)
    total = sum((total_of(charges) for charges in groups.values()), ZERO)
    rows = [
        {
            "operation": operation,
            "cause": cause,
            "requests": int(sum(charge.quantity for charge in charges)),
            "cost": money(total_of(charges)),
            "percent": _percent(total_of(charges), total),
        }
        for (operation, cause), charges in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row["requests"], row["operation"], row["cause"]))


def _part(bill: Bill, part: Part, total: Decimal) -> dict[str, Any]:
    return {
        "name": part.name,
        **_paces(bill, part.cost),
        "direct": money(part.cost - part.shared),
        "shared": money(part.shared),
        "percent": _percent(part.cost, total),
        "items": {str(item): money(cost) for item, cost in part.direct.items() if cost},
    }


def charge_rows(bill: Bill) -> list[dict[str, Any]]:
    """Every charge as a flat row: for CSV and Parquet."""
    return [
        {
            "day": date.fromordinal(charge.use.day + date(1970, 1, 1).toordinal()).isoformat(),
            "item": str(charge.use.item),
            "what": charge.use.what,
            "storage_class": charge.use.storage_class,
            "cause": charge.use.cause,
            "topic": charge.use.topic,
            "partition": charge.use.partition,
            "principal": charge.use.principal,
            "client_id": charge.use.client_id,
            "host": charge.use.host,
            "quantity": charge.quantity,
            "unit": UNIT_NAMES[UNIT_OF[charge.use.item]],
            "list_cost": charge.list_cost,
            "cost": charge.cost,
            "currency": bill.book.currency,
        }
        for charge in bill.charges
    ]
