"""Price books by name or from a file, and rules of owners from a file; mistakes as lines for the user."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from tiering.cost import shipped
from tiering.cost.exact import exact
from tiering.cost.importers.aws import aws_prices
from tiering.cost.importers.book_text import book_text
from tiering.cost.importers.gcp import gcp_prices
from tiering.cost.owners import Rule, parse_rules
from tiering.cost.prices import STALE_DAYS, Book, WrongBook, parse_book
from tierlog.config.problems import WrongConfig
from tierlog.errors import UserError

BY_PROVIDER = {"s3": shipped.DEFAULT, "gcs": "gcs-us-central1"}
_MICRO = Decimal("0.000001")


@exact
def money(value: Decimal) -> str:
    """Text with six decimals: a float would round it."""
    return str(value.quantize(_MICRO, ROUND_HALF_EVEN))


def book_of(name_or_file: str, today: date | None = None) -> Book:
    """A name of a shipped book, ``s3`` and ``gcs`` for those of one region, or a file. One that is of a later day than
    tomorrow is refused, where it is known what day it is. Raises UserError."""
    book = _parsed_book(name_or_file)
    if today is not None and book.age_days(today) < -1:
        raise UserError(
            f"{name_or_file}: as_of: {book.as_of.isoformat()} is in the future; write the day that its prices are of"
        )
    return book


def _parsed_book(name_or_file: str) -> Book:
    name = BY_PROVIDER.get(name_or_file, name_or_file)
    try:
        if name.endswith(".toml"):
            return parse_book(read_text(Path(name)), name)
        return shipped.shipped(name)
    except WrongBook as error:
        raise WrongConfig(error.lines) from None


def imported(provider: str, lists: Sequence[Path], region: str | None) -> tuple[str, list[str]]:
    """The text of a book made from a provider's price lists, and what they lack. Raises UserError."""
    documents = [(str(file), _parsed(file)) for file in lists]
    try:
        found = (aws_prices if provider == "aws" else gcp_prices)(documents, region)
        text = book_text(found)
        parse_book(text, "the imported book")
    except WrongBook as error:
        raise WrongConfig(error.lines) from None
    return text, found.missing


def _parsed(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise UserError(f"{file}: it is no JSON: {error}") from None


def shelf(today: date) -> list[dict[str, Any]]:
    """The books that come along."""
    return [described(shipped.shipped(name), today) for name in shipped.names()]


def owner_rules(file: Path | None) -> tuple[Rule, ...]:
    """Raises UserError."""
    try:
        return () if file is None else parse_rules(read_text(file), str(file))
    except WrongBook as error:
        raise WrongConfig(error.lines) from None


def read_text(file: Path) -> str:
    """Raises UserError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def described(book: Book, today: date) -> dict[str, Any]:
    """What every report says of the book that it was made with."""
    age_days = book.age_days(today)
    return {
        "name": book.name,
        "provider": book.provider,
        "region": book.region,
        "currency": book.currency,
        "as_of": book.as_of.isoformat(),
        "age_days": age_days,
        "is_stale": age_days > STALE_DAYS,
        "source": book.source,
        "month_hours": book.month_hours,
    }
