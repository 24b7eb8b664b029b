"""One question of a user about cost: rows, prices and names are gathered for it, and the bill is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tiering.cost.bill import Bill, make_bill
from tiering.cost.division import By, Names
from tiering.cost.focus import VERSION, Account, focus_rows
from tiering.cost.prices import Book
from tiering.ledger.rows import LedgerRow
from tierlog.admin import ledger
from tierlog.admin.client import Client
from tierlog.admin.cost.names import groups_of, owners_of
from tierlog.admin.cost.price_books import book_of, described, owner_rules
from tierlog.admin.cost.question import Question
from tierlog.admin.cost.report import Span, cost_report
from tierlog.admin.cost.rows import rows_in
from tierlog.admin.cost.spans import span_ms
from tierlog.errors import UserError


class Asked(NamedTuple):
    """What a question is answered from."""

    span: Span
    rows: list[LedgerRow]
    book: Book


class Answer(NamedTuple):
    """``value``: as programs get it. ``owners``: owner and cost centre by topic."""

    value: dict[str, Any]
    bill: Bill
    rows: Sequence[LedgerRow]
    owners: dict[str, tuple[str, str]]


def gathered(question: Question) -> Asked:
    """Raises UserError."""
    book = book_of(question.price_book)
    return Asked(*rows_of(question), book)


def rows_of(question: Question) -> tuple[Span, list[LedgerRow]]:
    """Raises UserError, where there are none too."""
    span = Span(*span_ms(question.since, question.until, question.now_ms))
    rows = _from_ledger(question, span) if question.rows is None else rows_in(question.rows, *span)
    if not rows:
        raise UserError(
            f"the ledger has no row from {question.since} until {question.until}; name an earlier --since"
        )
    return span, rows


def _from_ledger(question: Question, span: Span) -> list[LedgerRow]:
    with cluster(question) as client:
        if client is not None:
            found = ledger.of_cluster(client, question.bucket, question.timeout_s)
        else:
            assert question.bucket is not None
            found = ledger.of_bucket(question.bucket)
    rows = ledger.rows_of(found, *span)
    question.warnings.extend(found.warnings)
    return rows


def report(question: Question, by: str, owners: Path | None, budget: Decimal | None) -> Answer:
    """``cost report``. Raises UserError."""
    rules = owner_rules(owners)
    asked = gathered(question)
    topics = {row.topic for row in asked.rows if row.topic}
    with cluster(question) as client:
        known = owners_of(client, topics, rules)
        groups = groups_of(client) if client is not None and by == By.GROUP else {}
    bill = make_bill(asked.rows, asked.book)
    names = Names(groups, {topic: owner for topic, (owner, _) in known.items()})
    value = cost_report(asked.rows, bill, asked.span, By(by), names, question.today, budget)
    if by == By.GROUP and not groups:
        why = "no cluster was asked (-b)" if question.bootstrap is None else "none has a member now"
        value["method"].append(f"No group is known: {why}.")
    return Answer(value, bill, asked.rows, known)


class Export(NamedTuple):
    """Flat rows, and the price book that they rest on."""

    rows: list[dict[str, Any]]
    book: dict[str, Any]


def focus_export(question: Question, owners: Path | None, version: str, account: str) -> Export:
    """``cost export``. Raises UserError."""
    if version != VERSION:
        raise UserError(f"--focus {version}: this tierlog writes FOCUS {VERSION}")
    rules = owner_rules(owners)
    asked = gathered(question)
    with cluster(question) as client:
        known = owners_of(client, {row.topic for row in asked.rows if row.topic}, rules)
    bill = make_bill(asked.rows, asked.book)
    rows = focus_rows(bill, Account(account, account), known)
    return Export(rows, described(asked.book, question.today))


@contextmanager
def cluster(question: Question) -> Iterator[Client | None]:
    """None where nobody named a cluster."""
    if question.bootstrap is None:
        yield None
        return
    with Client(question.bootstrap, question.timeout_s) as client:
        yield client
