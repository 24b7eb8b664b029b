"""Sums of what clients send and are sent, as connections keep them; ``client_traffic`` adds to them."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from tierlog.types import TopicPartition


class Counted(NamedTuple):
    """What a tally is of. ``rack``: the client's, or the follower's; empty where it is not known."""

    direction: str
    topic_id: bytes
    topic: str
    principal: str = ""
    client_id: str = ""
    host: str = ""
    rack: str = ""


class Tally:
    """Sums since the last drain."""

    __slots__ = ("records", "size_bytes")

    def __init__(self) -> None:
        self.records = 0
        self.size_bytes = 0


Table: TypeAlias = dict[Counted, Tally]


class ConnectionTraffic:
    """Whose connection it is, and the tallies that it adds to, by topic id; those of ``table``."""

    __slots__ = (
        "client_id",
        "consumed",
        "consumed_remote",
        "host",
        "principal",
        "produced",
        "rack",
        "table",
    )

    def __init__(self, table: Table, principal: str, client_id: str, host: str, rack: str) -> None:
        self.table = table
        self.principal = principal
        self.client_id = client_id
        self.host = host
        self.rack = rack
        self.produced: dict[bytes, Tally] = {}
        self.consumed: dict[bytes, Tally] = {}
        self.consumed_remote: dict[bytes, Tally] = {}


NOBODY = ConnectionTraffic({}, "", "", "", "")


class Appended(Protocol):
    """What a partition counts by itself, and how far that is counted for a client."""

    bytes_in: int
    messages_in: int
    producer: ConnectionTraffic
    """Whose connection has appended since ``counted_bytes_in``; ``NOBODY``: no client's."""
    counted_bytes_in: int
    counted_messages_in: int


class Hosted(Protocol):
    """A hosted partition, as clients' traffic is counted."""

    topic_id: bytes
    topic_partition: TopicPartition

    @property
    def traffic(self) -> Appended: ...
