"""The bill of a span: every use with its price, and the same data with no tier beside it. Exact: parts add up to the sum.

Prices by volume are those of the whole cluster: a class's byte-hours over the hours that the rows tell of are its mean
size, and the steps of the price apply to that. Each user of the class then pays the same for a GB. Quantities: storage in
GB-months (2**30 bytes held for the book's ``month_hours``), bytes in GB (2**30), requests one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from tiering.cost.baseline import Keeping, without_tier
from tiering.cost.early import EarlyDeletions
from tiering.cost.exact import exact
from tiering.cost.prices import GB, ZERO, Book
from tiering.cost.usage import EVERYTHING, UNIT_OF, Detail, Item, Unit, Usage, Use
from tiering.ledger.hours import Taker, take
from tiering.ledger.rows import LedgerRow

_GRAIN = Decimal("1e-12")
CATEGORY_OF = {
    Item.DISK: "disk",
    Item.DISK_FREE: "disk",
    Item.STORAGE: "storage",
    Item.OVERHEAD: "storage",
    Item.EARLY: "storage",
    Item.REQUESTS: "requests",
    Item.RETRIEVAL: "retrieval",
    Item.CROSS_ZONE: "network",
    Item.EGRESS: "network",
    Item.STORE_TRANSFER: "network",
}


class Charge(NamedTuple):
    """One use and its price. ``quantity`` is in GB-months, GB or requests; ``list_cost`` is without discounts."""

    use: Use
    quantity: Decimal
    list_cost: Decimal
    cost: Decimal


class Bill(NamedTuple):
    """``hours``: how many the rows tell of. ``baseline``: by item, the same data and traffic with no tier."""

    book: Book
    hours: int
    charges: tuple[Charge, ...]
    baseline: dict[Item, Decimal]
    ingested_gb: Decimal
    retained_gb_months: Decimal
    unknown_zone_bytes: int
    unknown_early_bytes: int
    is_disk_known: bool

    @property
    def total(self) -> Decimal:
        return total_of(self.charges)

    @property
    @exact
    def baseline_total(self) -> Decimal:
        return sum(self.baseline.values(), ZERO)

    @exact
    def per_hours(self, cost: Decimal, hours: int) -> Decimal:
        """What ``cost`` comes to in so many hours at the same pace."""
        return cost * hours / self.hours if self.hours else ZERO


@exact
def make_bill(
    rows: Iterable[LedgerRow], book: Book, detail: Detail = EVERYTHING, *, beside: Sequence[Taker] = ()
) -> Bill:
    """``rows``: in the order of their hours; only some of them are held. ``beside``: who takes them too."""
    usage, keeping = Usage(book, detail), Keeping()
    early = EarlyDeletions(book, usage.add_early)
    take(rows, usage, early, keeping, *beside)
    usage.add_free_disk()
    charges = _priced(usage, book)
    kept = keeping.kept()
    return Bill(
        book,
        usage.hours,
        tuple(charges),
        without_tier(kept, network_of(charges), book, usage.hours),
        Decimal(usage.ingested_bytes) / GB,
        kept.once_byte_hours / GB / book.month_hours,
        usage.unknown_zone_bytes,
        early.unknown_bytes,
        usage.is_disk_known,
    )


@exact
def total_of(charges: Sequence[Charge]) -> Decimal:
    return sum((charge.cost for charge in charges), ZERO)


def network_of(charges: Sequence[Charge]) -> dict[Item, Decimal]:
    """What between zones and to the outside is paid with or without a tier."""
    return {
        item: sum((charge.cost for charge in charges if charge.use.item is item), ZERO)
        for item in (Item.CROSS_ZONE, Item.EGRESS)
    }


def grain(cost: Decimal) -> Decimal:
    """Rounded to the millionth of a millionth: every charge is a whole number of those, so that sums are exact."""
    return cost.quantize(_GRAIN, ROUND_HALF_EVEN)


def share(whole: Decimal, weights: Sequence[Decimal]) -> list[Decimal]:
    """Parts in the ratio of the weights, which add up to exactly ``whole``; the largest takes what division leaves."""
    total = sum(weights, ZERO)
    if not total:
        return [ZERO for _ in weights]
    parts = [(whole * weight / total).quantize(_GRAIN, ROUND_DOWN) for weight in weights]
    largest = max(range(len(weights)), key=weights.__getitem__)
    parts[largest] += whole - sum(parts, ZERO)
    return parts


def quantity_of(item: Item, counted: Decimal, book: Book) -> Decimal:
    """In the unit that its price is of."""
    unit = UNIT_OF[item]
    if unit is Unit.REQUESTS:
        return counted
    return counted / GB / book.month_hours if unit is Unit.BYTE_HOURS else counted / GB


def _priced(usage: Usage, book: Book) -> list[Charge]:
    months = Decimal(usage.hours) / book.month_hours
    groups: dict[tuple[Item, str, str], list[Use]] = defaultdict(list)
    for use, counted in usage.sums.items():
        if counted:
            what = use.what if use.item is Item.REQUESTS else ""
            # Steps of the price go by all that is stored in a class.
            priced_as = Item.STORAGE if use.item is Item.OVERHEAD else use.item
            groups[priced_as, what, use.storage_class].append(use)
    charges: list[Charge] = []
    for (item, what, storage_class), uses in groups.items():
        quantities = [quantity_of(item, usage.sums[use], book) for use in uses]
        listed = grain(list_price(item, what, storage_class, sum(quantities, ZERO), book, months))
        net = grain(listed * book.factor(CATEGORY_OF[item]))
        for use, quantity, list_part, part in zip(
            uses, quantities, share(listed, quantities), share(net, quantities), strict=True
        ):
            charges.append(Charge(use, quantity, list_part, part))
    return sorted(charges, key=lambda charge: charge.use)


def list_price(
    item: Item, what: str, storage_class: str, quantity: Decimal, book: Book, months: Decimal
) -> Decimal:
    """Of so much of one thing in so many months, without discount."""
    in_class, network = book.class_of(storage_class), book.network
    if item is Item.STORAGE:
        return in_class.storage.of(quantity, months)
    if item is Item.EGRESS:
        return network.egress.of(quantity, months)
    per_unit = {
        Item.DISK: book.disk_per_gb_month,
        Item.DISK_FREE: book.disk_per_gb_month,
        Item.EARLY: in_class.storage.first,
        Item.REQUESTS: in_class.request(what),
        Item.RETRIEVAL: in_class.retrieval_per_gb,
        Item.CROSS_ZONE: network.zone_out_per_gb + network.zone_in_per_gb,
        Item.STORE_TRANSFER: network.store_per_gb,
    }
    return quantity * per_unit[item]
