"""Price books: those that come along, mistakes in others, prices by volume."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiering.cost.bill import share
from tiering.cost.owners import parse_rules, rule_for
from tiering.cost.prices import CLASSES, Price, Step, WrongBook, parse_book
from tiering.cost.shipped import DEFAULT, names, shipped

BOOK = """
name = "mine"
provider = "own"
region = "cellar"
currency = "EUR"
as_of = 2026-11-01
source = "the invoice"
[classes.standard]
storage_per_gb_month = 0.002
[disk]
per_gb_month = 0.004
"""
STEPS = Price((Step(Decimal(10), Decimal(3)), Step(Decimal(30), Decimal(2)), Step(None, Decimal(1))))


def test_every_shipped_book_is_right_and_says_from_when() -> None:
    assert {DEFAULT, "aws-us-east-2", "aws-us-west-2", "aws-eu-west-1", "aws-eu-central-1"} <= set(names())
    assert {"gcs-us-central1", "gcs-europe-west3", "own-hardware"} <= set(names())
    for name in names():
        book = shipped(name)
        assert (book.name, book.age_days(date(2027, 1, 1)) > 180) == (name, True)
        assert set(book.classes) == ({"standard"} if book.provider == "own" else set(CLASSES))
        colder = [book.classes[each].storage.first for each in book.classes]
        assert colder == sorted(colder, reverse=True)
    with pytest.raises(WrongBook, match=r"no price book aws-mars-1; .*aws-us-east-1"):
        shipped("aws-mars-1")


def test_a_small_book_is_enough() -> None:
    book = parse_book(BOOK, "mine.toml")
    assert (book.month_hours, book.disk_fill_percent, book.factor("storage")) == (744, 70, 1)
    assert book.class_of("infrequent").storage.first == Decimal("0.002")
    assert book.class_of("").request("put") == 0


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('currency = "EUR"', 'currency = "euros"', "mine.toml: currency: 'euros' is no currency; write three"),
        ('currency = "EUR"', "", "mine.toml: currency: is missing; write currency ="),
        ("as_of = 2026-11-01", 'as_of = "May"', "mine.toml: as_of: May is no day; write it as 2026-05-15"),
        ('"own"', '"azure"', "mine.toml: provider: 'azure' is unknown; write one of s3, gcs, own"),
        ("0.002", "-1", "mine.toml: classes.standard.storage_per_gb_month: -1 is out of range; write a number"),
        ("0.002", "nan", "mine.toml: classes.standard.storage_per_gb_month: NaN is no number; write"),
        ("0.002", "1e999", "storage_per_gb_month: 1E+999 is out of range; write a number from 0 to 1000000000"),
        ("0.002", '"1"', "mine.toml: classes.standard.storage_per_gb_month: 1 is no number; write"),
        ("0.002", "[]", "mine.toml: classes.standard.storage_per_gb_month: the volumes do not ascend"),
        ("0.002", "[{price = 1}, {price = 2}]", "the volumes do not ascend to a last step without up_to_gb"),
        ("0.002", "[1]", "mine.toml: classes.standard.storage_per_gb_month[1]: is no table"),
        ("classes.standard", "classes.glacier", "mine.toml: classes.glacier: is not a key here; there are"),
        ("[disk]", "[discounts]\nstorage = 101\n[disk]", "discounts.storage: 101 is out of range; write a number"),
        ("[disk]", "[discounts]\nlunch = 10\n[disk]", "discounts.lunch: is not a key here; there are all, disk"),
        ("[disk]", "[[disk]]", "mine.toml: disk: is no table; write [disk]"),
        ("[disk]", "month_hours = 0\n[disk]", "classes.standard.month_hours: is not a key here"),
        ('name = "mine"', 'name = "mine', "mine.toml: it is no TOML: "),
    ],
)  # fmt: skip
def test_mistakes_are_lines_with_a_remedy(old: str, new: str, line: str) -> None:
    assert old in BOOK
    with pytest.raises(WrongBook) as error:
        parse_book(BOOK.replace(old, new), "mine.toml")
    assert any(line in told for told in error.value.lines), error.value.lines
    assert all("\n" not in told and "; " in told for told in error.value.lines)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(WrongBook) as error:
        parse_book('name = ""\nextra = 1\n', "b.toml")
    assert len(error.value.lines) >= 8


@given(st.decimals(0, 100, places=3), st.decimals("0.1", 3, places=2))
def test_volume_prices_never_fall_with_the_volume(quantity: Decimal, months: Decimal) -> None:
    cost = STEPS.of(quantity, months)
    assert quantity <= cost <= 3 * quantity
    assert STEPS.of(quantity + 1, months) > cost
    if quantity <= 10 * months:
        assert cost == 3 * quantity


def test_volume_prices() -> None:
    assert [STEPS.of(Decimal(n)) for n in (0, 10, 11, 30, 31)] == [0, 30, 32, 70, 71]


@given(
    st.decimals(0, 10**9, places=6),
    st.lists(st.decimals(0, 10**6, places=3), min_size=1, max_size=30),
)
def test_shares_add_up_to_the_whole(whole: Decimal, weights: list[Decimal]) -> None:
    parts = share(whole, weights)
    assert sum(parts) == (whole if any(weights) else 0)
    assert all(part >= 0 for part in parts)


def test_rules_of_owners() -> None:
    rules = parse_rules(
        '[[owner]]\npattern = "flights-*"\nowner = "ops"\ncost_center = "7"\n'
        '[[owner]]\npattern = "*"\nowner = "rest"\n',
        "o.toml",
    )
    told = {topic: rule_for(rules, topic) for topic in ("flights-1", "x")}
    assert {topic: (rule.owner, rule.cost_center) for topic, rule in told.items() if rule} == {
        "flights-1": ("ops", "7"),
        "x": ("rest", ""),
    }
    for text, line in (
        ("", "o.toml: owner: there is no rule"),
        ('[[owner]]\npattern="x"', "owner[1].owner: is missing"),
    ):
        with pytest.raises(WrongBook, match=line.replace("[", r"\[")):
            parse_rules(text, "o.toml")
