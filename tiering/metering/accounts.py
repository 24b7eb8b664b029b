"""Sums of requests to the object store. Pure.

Bounds: ``ROWS_MAX`` accounts between two drains, and ``TOPIC_ROWS_MAX`` sums by topic for metrics. A request that finds no
room is counted under no topic and client, with the cause ``other``: one more account for each operation and class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from tiering.ledger.rows import ALL, Cause, Kind, LedgerRow

ROWS_MAX = 20_000
TOPIC_ROWS_MAX = 5_000
Told: TypeAlias = list[str | int]
"""One account with its sums, as processes tell it to each other."""


class Account(NamedTuple):
    """What distinguishes sums. ``topic_id`` as in keys."""

    topic_id: str
    partition: int
    cause: str
    operation: str
    storage_class: str
    client_id: str = ""
    host: str = ""

    def without_owner(self) -> Account:
        """Where it falls when there is no room."""
        return Account("", ALL, Cause.OTHER, self.operation, self.storage_class)


class Sums:
    """Of one account."""

    __slots__ = ("failed", "received_bytes", "requests", "sent_bytes")

    def __init__(self) -> None:
        self.requests = self.failed = self.sent_bytes = self.received_bytes = 0

    def add(self, requests: int, failed: int, sent_bytes: int, received_bytes: int) -> None:
        self.requests += requests
        self.failed += failed
        self.sent_bytes += sent_bytes
        self.received_bytes += received_bytes

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        return self.requests, self.failed, self.sent_bytes, self.received_bytes


class TotalOf(NamedTuple):
    operation: str
    cause: str
    storage_class: str


class TopicTotalOf(NamedTuple):
    topic_id: str
    operation: str
    cause: str


class _Line:
    """An account's own sums, and the totals that it is a part of."""

    __slots__ = ("of_topic", "own", "total")

    def __init__(self, total: Sums, of_topic: TopicTotalOf | None) -> None:
        self.own = Sums()
        self.total = total
        self.of_topic = of_topic


class Accounts:
    """The sums since the last drain, and totals since the start."""

    def __init__(self, rows_max: int = ROWS_MAX, topic_rows_max: int = TOPIC_ROWS_MAX) -> None:
        self.totals: dict[TotalOf, Sums] = {}
        self.by_topic: dict[TopicTotalOf, int] = {}
        """Requests."""
        self.folded_count = 0
        """Requests that found no room in an account of their own."""
        self.on_news: Callable[[], object] | None = None
        """Told of the first request after a drain."""
        self._rows_max = rows_max
        self._topic_rows_max = topic_rows_max
        self._lines: dict[Account, _Line] = {}

    def add(
        self,
        account: Account,
        requests: int = 1,
        failed: int = 0,
        sent_bytes: int = 0,
        received_bytes: int = 0,
    ) -> None:
        """So many requests, with the bytes of objects in their bodies."""
        line = self._lines.get(account)
        if line is None:
            if not self._lines and self.on_news is not None:
                self.on_news()
            line = self._new_line(account, requests)
        line.own.add(requests, failed, sent_bytes, received_bytes)
        line.total.add(requests, failed, sent_bytes, received_bytes)
        topic = line.of_topic
        if topic is not None and (topic in self.by_topic or len(self.by_topic) < self._topic_rows_max):
            self.by_topic[topic] = self.by_topic.get(topic, 0) + requests

    def _new_line(self, account: Account, requests: int) -> _Line:
        """Where there is no room, its own sums are those of an account without an owner; the totals are its own."""
        line = self._line_of(account)
        if len(self._lines) < self._rows_max:
            self._lines[account] = line
            return line
        self.folded_count += requests
        rest = account.without_owner()
        line.own = self._lines.setdefault(rest, self._line_of(rest)).own
        return line

    def _line_of(self, account: Account) -> _Line:
        total = TotalOf(account.operation, account.cause, account.storage_class)
        of_topic = TopicTotalOf(account.topic_id, account.operation, account.cause)
        return _Line(self.totals.setdefault(total, Sums()), of_topic if account.topic_id else None)

    def forget_topics(self, topic_ids: Iterable[str]) -> None:
        """They are gone: their totals make room for others."""
        gone = frozenset(topic_ids)
        self.by_topic = {key: count for key, count in self.by_topic.items() if key.topic_id not in gone}

    # -- the ledger

    def drain(self, name_of: Callable[[str], str]) -> Iterator[LedgerRow]:
        """The sums since the last drain, which begin anew. ``name_of``: topic id, as in keys → name, empty if not known.
        The hour and the broker are whose book the rows come into.

        Made one by one, so that the caller may pause; what is counted meanwhile is the next drain's."""
        lines, self._lines = self._lines, {}
        return (
            LedgerRow(
                0,
                0,
                Kind.REQUESTS,
                topic_id=account.topic_id,
                topic=name_of(account.topic_id) if account.topic_id else "",
                partition=account.partition,
                cause=account.cause,
                operation=account.operation,
                storage_class=account.storage_class,
                client_id=account.client_id,
                host=account.host,
                requests=each.requests,
                failed=each.failed,
                sent_bytes=each.sent_bytes,
                received_bytes=each.received_bytes,
            )
            for account, each in ((account, line.own) for account, line in lines.items())
        )

    # -- between processes

    def tell(self) -> list[Told]:
        """As ``drain``, for another process to ``hear``."""
        lines, self._lines = self._lines, {}
        return [[*account, *line.own.numbers] for account, line in lines.items()]

    def hear(self, told: Sequence[Told]) -> None:
        """Adds what another process has told."""
        for row in told:
            topic_id, partition, cause, operation, storage_class, client_id, host = row[
                : len(Account._fields)
            ]
            numbers = map(int, row[len(Account._fields) :])
            self.add(
                Account(
                    str(topic_id),
                    int(partition),
                    str(cause),
                    str(operation),
                    str(storage_class),
                    str(client_id),
                    str(host),
                ),
                *numbers,
            )
