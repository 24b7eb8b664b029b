"""A price book: what a provider asks in one region, from when it is and where it was read. Parsed from TOML, exact.

A GB is 2**30 bytes and a month has ``month_hours`` (744 unless the book says otherwise), as in AWS's own worked examples:
a GB-month is 2**30 bytes held for so many hours. Prices are decimals as they are written; discounts are percents off them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

from tiering.cost.toml_keys import Keys
from tiering.errors import TieringError
from tiering.ledger.rows import Operation

GB = 2**30
MONTH_HOURS = 744
STALE_DAYS = 180
"""A book that is older is warned about."""
ZERO = Decimal(0)
CLASSES = ("standard", "infrequent", "cold", "archive-instant")
CATEGORIES = ("disk", "storage", "requests", "retrieval", "network")
"""What discounts may name; ``all`` is for those that are not named."""

WRITE, LIST, READ, FREE = "write", "list", "read", "free"
KINDS = (WRITE, LIST, READ)
KIND_OF = {
    Operation.PUT: WRITE,
    Operation.CREATE_UPLOAD: WRITE,
    Operation.PART: WRITE,
    Operation.COMPLETE_UPLOAD: WRITE,
    Operation.COPY: WRITE,
    Operation.LIST: LIST,
    Operation.LIST_UPLOADS: LIST,
    Operation.GET: READ,
    Operation.HEAD: READ,
    Operation.DESCRIBE: READ,
    Operation.DELETE: FREE,
    Operation.ABORT_UPLOAD: FREE,
}
"""How providers group requests; a book may price an operation by its own name as well."""


class WrongBook(TieringError):
    """Every mistake of a price book, a line each."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Step(NamedTuple):
    """Of a price by volume: what lies below ``up_to_gb`` (None: all the rest) and above the step before."""

    up_to_gb: Decimal | None
    per_gb: Decimal


class Price(NamedTuple):
    """A volume price of the GB; one step where the volume makes no difference."""

    steps: tuple[Step, ...] = (Step(None, ZERO),)

    @property
    def first(self) -> Decimal:
        return self.steps[0].per_gb

    def of(self, quantity_gb: Decimal, months: Decimal = Decimal(1)) -> Decimal:
        """What ``quantity_gb`` cost in so many months: the steps are of one month."""
        cost, below = ZERO, ZERO
        for step in self.steps:
            end = quantity_gb if step.up_to_gb is None else min(quantity_gb, step.up_to_gb * months)
            cost += max(end - below, ZERO) * step.per_gb
            below = max(below, end)
        return cost


FREE_OF_CHARGE = Price()


@dataclass(frozen=True, slots=True)
class ClassPrice:
    """Of one storage class. ``per_1000``: requests by operation."""

    storage: Price
    min_days: int
    min_object_bytes: int
    retrieval_per_gb: Decimal
    per_1000: Mapping[str, Decimal] = field(repr=False)

    def request(self, operation: str) -> Decimal:
        """The price of one; nothing for an operation that no book knows."""
        return self.per_1000.get(operation, ZERO) / 1000


@dataclass(frozen=True, slots=True)
class Network:
    """``zone_out_per_gb`` and ``zone_in_per_gb``: both are paid for a byte from one zone to another. ``outside_racks``:
    patterns of racks that are not in the region; bytes to them are egress. ``store_per_gb``: for each byte read from
    the object store, where it lies in another region."""

    zone_out_per_gb: Decimal = ZERO
    zone_in_per_gb: Decimal = ZERO
    egress: Price = FREE_OF_CHARGE
    outside_racks: tuple[str, ...] = ()
    store_per_gb: Decimal = ZERO

    def is_outside(self, rack: str) -> bool:
        return any(fnmatchcase(rack, pattern) for pattern in self.outside_racks)


@dataclass(frozen=True, slots=True)
class Book:
    """One provider, one region, one day."""

    name: str
    provider: str
    region: str
    currency: str
    as_of: date
    source: str
    month_hours: int
    classes: Mapping[str, ClassPrice]
    disk_per_gb_month: Decimal
    disk_fill_percent: Decimal
    """How full disks are planned to be: what else would be bought without a tier."""
    network: Network
    discounts: Mapping[str, Decimal]

    def factor(self, category: str) -> Decimal:
        """What is left of a price after its discount."""
        percent = self.discounts.get(category, self.discounts.get("all", ZERO))
        return 1 - percent / 100

    def class_of(self, name: str) -> ClassPrice:
        """An empty name is the standard class, as in stores that name none."""
        return self.classes.get(name or "standard", self.classes["standard"])

    def age_days(self, today: date) -> int:
        return (today - self.as_of).days


def parse_book(text: str, where: str) -> Book:
    """``where`` begins each line of a mistake. Raises WrongBook."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise WrongBook((f"{where}: it is no TOML: {error}; see docs/cost.md for the form",)) from None
    keys = Keys(document, where)
    classes = {name: _class(part) for name, part in keys.tables("classes", CLASSES).items()}
    if "standard" not in classes:
        keys.wrong("classes.standard", "is missing", "write [classes.standard] with its prices")
    disk, network = keys.table("disk"), keys.table("network")
    discounts = keys.table("discounts")
    book = Book(
        name=keys.text("name"),
        provider=keys.text("provider", ("s3", "gcs", "own")),
        region=keys.text("region"),
        currency=keys.currency("currency"),
        as_of=keys.day("as_of"),
        source=keys.text("source"),
        month_hours=keys.whole("month_hours", MONTH_HOURS, 1, MONTH_HOURS),
        classes=classes,
        disk_per_gb_month=disk.decimal("per_gb_month"),
        disk_fill_percent=disk.decimal("fill_percent", Decimal(70), low=Decimal(1), high=Decimal(100)),
        network=Network(
            network.decimal("zone_out_per_gb", ZERO),
            network.decimal("zone_in_per_gb", ZERO),
            _price(network, "egress_per_gb", ZERO),
            tuple(network.texts("outside_racks")),
            network.decimal("store_per_gb", ZERO),
        ),
        discounts={
            name: discounts.decimal(name, high=Decimal(100)) for name in discounts.known(("all", *CATEGORIES))
        },
    )
    keys.finish()
    if keys.mistakes:
        raise WrongBook(tuple(keys.mistakes))
    return book


def _class(keys: Keys) -> ClassPrice:
    requests = keys.table("requests_per_1000")
    named = {
        name: requests.decimal(name) for name in requests.known((*KINDS, *(str(each) for each in Operation)))
    }
    per_1000 = {
        str(operation): named.get(operation, named.get(kind, ZERO)) for operation, kind in KIND_OF.items()
    }
    return ClassPrice(
        storage=_price(keys, "storage_per_gb_month", None),
        min_days=keys.whole("min_days", 0, 0, 3650),
        min_object_bytes=keys.whole("min_object_bytes", 0, 0, 1 << 30),
        retrieval_per_gb=keys.decimal("retrieval_per_gb", ZERO),
        per_1000=per_1000,
    )


def _price(keys: Keys, name: str, default: Decimal | None) -> Price:
    """A number, or a list of ``{up_to_gb, price}`` whose last one has no bound."""
    if not keys.is_list(name):
        return Price((Step(None, keys.decimal(name, default)),))
    steps: list[Step] = []
    for part in keys.parts(name):
        bound = part.optional("up_to_gb")
        steps.append(Step(bound, part.decimal("price")))
    bounds = [step.up_to_gb for step in steps]
    firsts = [bound for bound in bounds[:-1] if bound is not None]
    if len(firsts) < len(bounds) - 1 or bounds[-1:] != [None] or firsts != sorted(set(firsts)):
        keys.wrong(name, "the volumes do not ascend to a last step without up_to_gb", "order them so")
    return Price(tuple(steps) or (Step(None, ZERO),))
