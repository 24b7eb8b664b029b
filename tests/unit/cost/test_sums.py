"""Random price books, random usage: whoever is asked to pay, the parts add up to the bill, which is rounded once."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cost.rows import GIB, START_MS
from tiering.cost.bill import CATEGORY_OF, Bill, list_price, make_bill
from tiering.cost.division import Names, divide
from tiering.cost.focus import Account, focus_rows
from tiering.cost.payers import By
from tiering.cost.prices import CATEGORIES, CLASSES, Book, ClassPrice, Network, Price, Step
from tiering.cost.usage import EVERYTHING, Detail, Item
from tiering.ledger.rows import HOUR_MS, Cause, Direction, Kind, LedgerRow, Operation
from tierlog.admin.cost.export import csv_text
from tierlog.admin.cost.report import Span, charge_rows, cost_report
from tierlog.admin.cost.watched import Watched

TOPICS = ("", "flights", "old", "bays")
CENT = Fraction(1, 100)
prices = st.decimals(0, 10**9, places=6) | st.decimals(0, 1, places=9)
percents = st.decimals(0, 100, places=2)
counts = st.integers(0, 1 << 62) | st.integers(0, 1 << 20)


def volume(bounds: Iterable[Decimal], of: Iterable[Decimal], last: Decimal) -> Price:
    steps = [Step(bound, price) for bound, price in zip(sorted(bounds), of, strict=False)]
    return Price((*steps, Step(None, last)))


volumes = st.builds(
    volume,
    st.sets(st.decimals("0.01", 10**6, places=2), max_size=3),
    st.lists(prices, max_size=3),
    prices,
)
class_prices = st.builds(
    ClassPrice,
    volumes,
    st.integers(0, 90),
    st.sampled_from([0, 131_072]),
    prices,
    st.dictionaries(st.sampled_from([str(each) for each in Operation]), prices),
)
books = st.builds(
    Book,
    st.just("b"),
    st.sampled_from(["s3", "gcs", "own"]),
    st.just("r"),
    st.just("EUR"),
    st.just(date(2026, 5, 1)),
    st.just("made"),
    st.integers(1, 744),
    st.fixed_dictionaries({"standard": class_prices}, optional=dict.fromkeys(CLASSES[1:], class_prices)),
    prices,
    st.decimals(1, 100, places=1),
    st.builds(Network, prices, prices, volumes, st.just(("x*",)), prices),
    st.dictionaries(st.sampled_from([*CATEGORIES, "all"]), percents),
)
rows = st.builds(
    LedgerRow,
    hour_ms=st.integers(0, 60).map(lambda hour: START_MS + hour * HOUR_MS),
    broker_id=st.integers(1, 2),
    kind=st.sampled_from(Kind),
    topic=st.sampled_from(TOPICS),
    partition=st.integers(-1, 2),
    cause=st.sampled_from(["", *Cause]),
    operation=st.sampled_from(Operation),
    storage_class=st.sampled_from(["", *CLASSES]),
    direction=st.sampled_from(Direction),
    principal=st.sampled_from(["", "User:ann"]),
    client_id=st.sampled_from(["", "reader", "stray"]),
    host=st.sampled_from(["", "10.0.0.9"]),
    from_rack=st.sampled_from(["", "a", "b"]),
    to_rack=st.sampled_from(["", "a", "x1"]),
    requests=counts,
    sent_bytes=counts,
    received_bytes=counts,
    held_bytes=counts,
    objects=counts,
    capacity_bytes=counts,
    byte_hours=st.integers(0, 1 << 62).map(float),
)
ledgers = st.lists(rows, max_size=12).map(lambda some: sorted(some, key=lambda row: row.hour_ms))
NAMES = Names({("reader", "10.0.0.9"): "night-jobs"}, {"flights": "ops", "bays": "ops"})


def unrounded(bill: Bill) -> Fraction:
    """What the bill comes to without any rounding."""
    quantities: dict[tuple[Item, str, str], Fraction] = defaultdict(Fraction)
    for charge in bill.charges:
        use = charge.use
        item = Item.STORAGE if use.item is Item.OVERHEAD else use.item
        what = use.what if item is Item.REQUESTS else ""
        quantities[item, what, use.storage_class] += Fraction(charge.quantity)
    found, months = Fraction(0), Fraction(bill.hours, bill.book.month_hours)
    for (item, what, storage_class), quantity in quantities.items():
        left = Fraction(bill.book.factor(CATEGORY_OF[item]))
        in_class, network = bill.book.class_of(storage_class), bill.book.network
        steps = {Item.STORAGE: in_class.storage, Item.EGRESS: network.egress}.get(item)
        if steps is None:
            one = list_price(item, what, storage_class, Decimal(1), bill.book, Decimal(1))
            found += left * quantity * Fraction(one)
            continue
        below = Fraction(0)
        for step in steps.steps:
            end = quantity if step.up_to_gb is None else min(quantity, Fraction(step.up_to_gb) * months)
            found += left * max(end - below, Fraction(0)) * Fraction(step.per_gb)
            below = max(below, end)
    return found


@given(books, ledgers, st.sampled_from(By))
def test_parts_of_a_bill_add_up_to_it(book: Book, ledger: list[LedgerRow], by: By) -> None:
    watched = Watched()
    bill = make_bill(ledger, book, beside=[watched])
    total = sum((Fraction(charge.cost) for charge in bill.charges), Fraction(0))
    assert Fraction(bill.total) == total
    for each in By:
        parts = divide(bill, each, NAMES)
        assert sum(Fraction(part.cost) for part in parts) == total, each
        assert len({part.name for part in parts}) == len(parts)
    exported = focus_rows(bill, Account("a", "a"), {"flights": ("ops", "4711")})
    assert sum(Fraction(row["BilledCost"]) for row in exported) == total
    listed = sum(Fraction(charge.list_cost) for charge in bill.charges)
    assert sum(Fraction(row["ListCost"]) for row in exported) == listed
    check_rounded_once(bill, book, ledger)
    told = cost_report(watched, bill, Span(START_MS, START_MS + 61 * HOUR_MS), by, NAMES, book.as_of, None)
    for shown in (told["items"], told["parts"]):
        assert abs(sum(Fraction(row["cost"]) for row in shown) - Fraction(told["total"]["cost"])) < CENT


def check_rounded_once(bill: Bill, book: Book, ledger: list[LedgerRow]) -> None:
    """However finely it is told: what is of one price is rounded to 1e-12, and nothing else is."""
    groups = len({(charge.use.item, charge.use.what, charge.use.storage_class) for charge in bill.charges})
    assert abs(Fraction(bill.total) - unrounded(bill)) <= Fraction(groups + 1, 10**12)
    for detail in (Detail(day=False), Detail(False, False, False), EVERYTHING):
        assert abs(make_bill(ledger, book, detail).total - bill.total) <= groups * Decimal("1e-11")


def test_the_largest_bill_adds_up_too() -> None:
    """With the highest price that a book may have, and the largest figures of a row."""
    price = Decimal("999999999.123457")
    standard = ClassPrice(Price((Step(None, price),)), 0, 0, price, {"get": price})
    book = Book("b", "own", "r", "EUR", date(2026, 5, 1), "made", 1, {"standard": standard}, price,
                Decimal(70), Network(), {})  # fmt: skip
    request = LedgerRow(START_MS, 1, Kind.REQUESTS, partition=0, operation="get")
    ledger = [
        request._replace(topic=topic, requests=2**63 - number, received_bytes=2**63 - number)
        for number, topic in enumerate(TOPICS)
    ]
    bill = make_bill(ledger, book)
    total = sum((Fraction(charge.cost) for charge in bill.charges), Fraction(0))
    assert total > 10**25
    assert all(sum(Fraction(part.cost) for part in divide(bill, by, NAMES)) == total for by in By)
    watched = Watched()
    again = make_bill(ledger, book, beside=[watched])
    told = cost_report(watched, again, Span(START_MS, START_MS + HOUR_MS), By.TOPIC, NAMES, book.as_of, None)
    assert abs(Fraction(told["total"]["cost"]) - total) < Fraction(1, 10**6)
    text = csv_text(charge_rows(bill))
    assert sum(Fraction(row["cost"]) for row in csv.DictReader(text.splitlines())) == total


@pytest.mark.parametrize("parts", [1, 7, 1000])
def test_a_third_of_a_cent_is_rounded_once(parts: int) -> None:
    """One GB of three cents less a third, in as many topics as there may be: a thousand roundings would show."""
    price = Price((Step(None, Decimal("0.0333333333333333")),))
    standard = ClassPrice(price, 0, 0, Decimal(0), {})
    book = Book("b", "own", "r", "EUR", date(2026, 5, 1), "made", 1, {"standard": standard}, Decimal(0),
                Decimal(70), Network(), {"storage": Decimal("33.3")})  # fmt: skip
    ledger = [
        LedgerRow(START_MS, 1, Kind.STORED, topic=f"t{n}", partition=0, byte_hours=GIB / parts)
        for n in range(parts)
    ]
    bill = make_bill(ledger, book)
    assert bill.total == Decimal("0.022233333333")
    assert sum(part.cost for part in divide(bill, By.TOPIC, NAMES)) == bill.total
