"""What has happened since it was last asked, as rows of the ledger.

A new kind of count is one more ``Source`` in the list that ``tierlog.broker.offload.ledger.opening`` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from tiering.keys import topic_id_text
from tiering.ledger.rows import Direction, Kind, LedgerRow
from tiering.metering.accounts import Accounts
from tierlog.broker.network.client_traffic import PRODUCE, ClientTraffic
from tierlog.broker.network.tallies import Counted, Tally


class Source(Protocol):
    """Counts something; ``hour_ms`` and ``broker_id`` of its rows are set by whoever asks."""

    def drain(self) -> Iterable[LedgerRow | None]:
        """What was counted since the last drain, None where the caller may pause. Counting goes on meanwhile."""


class TrafficRows:
    """What clients and followers have sent and were sent. ``rack``: this broker's."""

    def __init__(self, traffic: ClientTraffic, rack: str) -> None:
        self._traffic = traffic
        self._rack = rack

    def drain(self) -> Iterator[LedgerRow | None]:
        return (None if each is None else self._row(*each) for each in self._traffic.drain())

    def _row(self, about: Counted, tally: Tally) -> LedgerRow:
        is_produce = about.direction == PRODUCE
        return LedgerRow(
            0,
            0,
            Kind.TRAFFIC,
            topic_id_text(about.topic_id),
            about.topic,
            direction=Direction(about.direction),
            principal=about.principal,
            client_id=about.client_id,
            host=about.host,
            from_rack=about.rack if is_produce else self._rack,
            to_rack=self._rack if is_produce else about.rack,
            records=tally.records,
            sent_bytes=0 if is_produce else tally.size_bytes,
            received_bytes=tally.size_bytes if is_produce else 0,
        )


class RequestRows:
    """What was asked of object stores, by this process and its workers. ``name_of``: topic id as in keys → name."""

    def __init__(self, accounts: Accounts, name_of: Callable[[str], str]) -> None:
        self._accounts = accounts
        self._name_of = name_of

    def drain(self) -> Iterator[LedgerRow]:
        return self._accounts.drain(self._name_of)
