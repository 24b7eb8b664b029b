"""Charges of no topic as parts that topics pay, in the form of FOCUS 1.3's split cost allocation.

The parts of a charge add up to it: costs, quantities, and ratios, which add up to one. They are shared in the same ratios as
``division`` has for topics. Where nothing belongs to a topic, such a charge stays whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from json import dumps
from typing import Any, NamedTuple

from tiering.cost.bill import Bill, Charge, share
from tiering.cost.division import Weights, topic_weights
from tiering.cost.prices import ZERO
from tiering.cost.usage import Item

BY_DISK = "tierlog/held-on-disk"
BY_COST = "tierlog/direct-cost"
"""As ``docs/cost.md`` explains them."""
COLUMNS = (
    "AllocatedMethodDetails",
    "AllocatedMethodId",
    "AllocatedResourceId",
    "AllocatedResourceName",
    "AllocatedTags",
)


class Part(NamedTuple):
    """What a topic pays of a charge. ``held_gb_months``: on disks, where that is what it is shared by."""

    topic: str
    method: str
    ratio: Decimal
    held_gb_months: Decimal | None


class Allocated(NamedTuple):
    """``charge`` is what is paid here; ``origin`` is that charge, or the one that it is a part of."""

    charge: Charge
    origin: Charge
    part: Part | None


def allocated(bill: Bill) -> Iterator[Allocated]:
    """All charges of the bill, in order; those of no topic in their parts."""
    weights, held = topic_weights(bill), _held_by_topic(bill)
    for charge in bill.charges:
        shares = () if charge.use.topic else _shares(charge, weights, held)
        if not shares:
            yield Allocated(charge, charge, None)
            continue
        ratios = [part.ratio for part in shares]
        figures = zip(*(_cut(figure, ratios) for figure in charge[1:]), strict=True)
        for part, (quantity, list_cost, cost) in zip(shares, figures, strict=True):
            yield Allocated(Charge(charge.use, quantity, list_cost, cost), charge, part)


def _shares(charge: Charge, weights: Weights, held: dict[str, Decimal]) -> list[Part]:
    is_disk = charge.use.item is Item.DISK_FREE and any(weights.on_disk)
    ratios = share(Decimal(1), weights.on_disk if is_disk else weights.direct)
    method = BY_DISK if is_disk else BY_COST
    return [
        Part(name, method, ratio, held[name] if is_disk else None)
        for name, ratio in zip(weights.names, ratios, strict=True)
        if ratio
    ]


def _cut(figure: Decimal, ratios: list[Decimal]) -> list[Decimal]:
    return share(figure, ratios) if figure else [ZERO] * len(ratios)


def _held_by_topic(bill: Bill) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for charge in bill.charges:
        if charge.use.item is Item.DISK:
            found[charge.use.topic] = found.get(charge.use.topic, ZERO) + charge.quantity
    return found


def allocation_columns(part: Part | None, tags: str | None) -> dict[str, Any]:
    """``tags``: those of the topic, as FOCUS writes them."""
    if part is None:
        return dict.fromkeys(COLUMNS)
    element: dict[str, Any] = {"AllocatedRatio": float(part.ratio)}
    if part.held_gb_months is not None:
        element |= {"UsageUnit": "GiB-Months", "UsageQuantity": float(part.held_gb_months)}
    return {
        "AllocatedMethodDetails": dumps({"Elements": [element]}),
        "AllocatedMethodId": part.method,
        "AllocatedResourceId": f"topic/{part.topic}",
        "AllocatedResourceName": part.topic,
        "AllocatedTags": tags,
    }
