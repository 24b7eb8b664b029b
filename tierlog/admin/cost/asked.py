"""One question of a user about cost: rows, prices and names are gathered for it, and the bill is made."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tiering.cost.bill import Bill, make_bill
from tiering.cost.division import Names
from tiering.cost.focus import VERSION, Account, focus_rows
from tiering.cost.payers import By
from tiering.cost.prices import Book
from tiering.cost.usage import EVERYTHING, Detail
from tiering.ledger.rows import LedgerRow
from tierlog.admin import ledger
from tierlog.admin.client import Client
from tierlog.admin.cost.names import groups_of, owners_of
from tierlog.admin.cost.price_books import book_of, described, owner_rules
from tierlog.admin.cost.question import Question
from tierlog.admin.cost.report import Span, cost_report
from tierlog.admin.cost.rows import rows_in
from tierlog.admin.cost.spans import span_ms
from tierlog.admin.cost.watched import Watched
from tierlog.errors import UserError

_DETAIL = {
    By.TOPIC: Detail(day=False, partition=False, client=False),
    By.PARTITION: Detail(day=False, client=False),
    By.OWNER: Detail(day=False, partition=False, client=False),
    By.PRINCIPAL: Detail(day=False, partition=False),
    By.GROUP: Detail(day=False, partition=False),
}
CLIENT = ("principal", "client_id", "host")


class Asked(NamedTuple):
    """What a question is answered from. ``rows`` come in the order of their hours, once, and raise UserError, where there
    are none too."""

    span: Span
    rows: Iterator[LedgerRow]
    book: Book


class Answer(NamedTuple):
    """``value``: as programs get it."""

    value: dict[str, Any]
    bill: Bill
    watched: Watched


def gathered(question: Question, without: Collection[str] = CLIENT) -> Asked:
    """``without``: columns that nobody looks at, where the ledger is read. Raises UserError."""
    book = book_of(question.price_book, question.today)
    return Asked(*rows_of(question, without), book)


def rows_of(question: Question, without: Collection[str]) -> tuple[Span, Iterator[LedgerRow]]:
    """As in ``Asked``. Raises UserError."""
    span = Span(*span_ms(question.since, question.until, question.now_ms))
    if question.rows is None:
        rows = _from_ledger(question, span, without)
    else:
        rows = rows_in(question.rows, *span)
    return span, _any_of(rows, question)


def _any_of(rows: Iterator[LedgerRow], question: Question) -> Iterator[LedgerRow]:
    first = next(rows, None)
    if first is None:
        raise UserError(_nothing(question))
    yield first
    yield from rows


def _nothing(question: Question) -> str:
    """Why there is no row."""
    when = f"from {question.since} until {question.until}"
    if question.warnings:
        first, *others = question.warnings
        more = f", and {len(others)} more" if others else ""
        return f"the ledger has no row {when} that can be read: {first}{more}"
    hint = "" if question.rows is not None else ", or have brokers write one (tierlog.ledger.enable=true)"
    return f"the ledger has no row {when}; name an earlier --since{hint}"


def _from_ledger(question: Question, span: Span, without: Collection[str]) -> Iterator[LedgerRow]:
    with cluster(question) as client:
        if client is not None:
            found = ledger.of_cluster(client, question.bucket, question.timeout_s)
        else:
            assert question.bucket is not None
            found = ledger.of_bucket(question.bucket)
    for of_hour in ledger.hours_of(found, *span, without):
        yield from of_hour
    question.warnings.extend(found.warnings)


def report(
    question: Question, by: str, owners: Path | None, budget: Decimal | None, is_single: bool
) -> Answer:
    """``cost report``; ``is_single``: every single charge is wanted. Raises UserError."""
    rules = owner_rules(owners)
    detail = EVERYTHING if is_single else _DETAIL[By(by)]
    asked = gathered(question, () if detail.client else CLIENT)
    watched = Watched()
    bill = make_bill(asked.rows, asked.book, detail, beside=[watched])
    with cluster(question) as client:
        known = owners_of(client, watched.topics, rules)
        groups = groups_of(client) if client is not None and by == By.GROUP else {}
    names = Names(groups, {topic: owner for topic, (owner, _) in known.items()})
    value = cost_report(watched, bill, asked.span, By(by), names, question.today, budget)
    if by == By.GROUP and not groups:
        why = "no cluster was asked (-b)" if question.bootstrap is None else "none has a member now"
        value["method"].append(f"No group is known: {why}.")
    return Answer(value, bill, watched)


class Export(NamedTuple):
    """Flat rows, and the price book that they rest on."""

    rows: list[dict[str, Any]]
    book: dict[str, Any]


def focus_export(question: Question, owners: Path | None, version: str, account: str) -> Export:
    """``cost export``. Raises UserError."""
    if version != VERSION:
        raise UserError(f"--focus {version}: this tierlog writes FOCUS {VERSION}")
    rules = owner_rules(owners)
    asked = gathered(question, ())
    watched = Watched()
    bill = make_bill(asked.rows, asked.book, beside=[watched])
    with cluster(question) as client:
        known = owners_of(client, watched.topics, rules)
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
