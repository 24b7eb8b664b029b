"""Three bills made by hand, in docs/cost.md with their calculations: the machine's are equal to the cent."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest

from tests.unit.cost.worked import Worked, worked_bills
from tiering.cost.bill import make_bill

CENT = Decimal("0.01")
BILLS = worked_bills()


def test_there_are_three() -> None:
    assert [worked.book.name for worked in BILLS] == ["first", "second", "third"]


@pytest.mark.parametrize("worked", BILLS, ids=lambda worked: worked.book.name)
def test_equal_to_the_cent(worked: Worked) -> None:
    bill = make_bill(worked.rows, worked.book)
    found: dict[str, Decimal] = defaultdict(Decimal)
    for charge in bill.charges:
        found[charge.use.item] += charge.cost
    found = {name: cost.quantize(CENT) for name, cost in found.items() if cost}
    expected = dict(worked.by_hand)
    assert expected.pop("total") == bill.total.quantize(CENT)
    assert expected.pop("without_tier") == bill.baseline_total.quantize(CENT)
    if per_gb := expected.pop("per_gb_ingested", None):
        assert per_gb == (bill.total / bill.ingested_gb).quantize(Decimal("0.0001"))
    assert found == expected
