"""What the moves of a ladder cost, and a month in the classes before and after them."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from tiering.cost.prices import GB, ZERO, Book
from tierlog.admin.cost.price_books import money

MOVES_PER_COMMIT = 16
REQUESTS_PER_COMMIT = 3  # A page, a page index, a copy of the head.
REQUESTS_PER_MOVE = {"s3": 3, "own": 3, "gcs": 2}  # A look before it, the copy, and at S3 a look after it.


def ladder_cost(sums: dict[str, list[dict[str, Any]]], book: Book) -> dict[str, Any]:
    """By list price, first volume step, discounts of the book taken off. ``requests``: those that the moves take, commits
    included."""
    moves = [*sums["due"], *sums["later"]]
    copies = sum(row["segments"] for row in moves)
    after = defaultdict(int, {row["class"]: row["bytes"] for row in sums["held"]})
    for row in moves:
        after[row["from"]] -= row["bytes"]
        after[row["to"]] += row["bytes"]
    before = {row["class"]: row["bytes"] for row in sums["held"]}
    return {
        "price_book": book.name,
        "currency": book.currency,
        "as_of": book.as_of.isoformat(),
        "copies": copies,
        "requests": REQUESTS_PER_MOVE[book.provider] * copies
        + REQUESTS_PER_COMMIT * -(-copies // MOVES_PER_COMMIT),
        "moves": money(sum((_move(book, row) for row in moves), ZERO)),
        "month_before": money(_month(book, before)),
        "month_after": money(_month(book, after)),
    }


def _month(book: Book, held: dict[str, int]) -> Decimal:
    rows = ((book.class_of(name).storage.first, held_bytes) for name, held_bytes in held.items())
    return book.factor("storage") * sum((price * held_bytes / GB for price, held_bytes in rows), ZERO)


def _move(book: Book, move: dict[str, Any]) -> Decimal:
    """Copies into ``to``, a look at each object in ``from``, and the bytes that are taken out there."""
    source, target = book.class_of(move["from"]), book.class_of(move["to"])
    requests = move["segments"] * (target.request("copy") + source.request("head"))
    retrieved = source.retrieval_per_gb * move["bytes"] / GB
    cost: Decimal = book.factor("requests") * requests + book.factor("retrieval") * retrieved
    return cost
