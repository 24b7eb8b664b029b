"""Sums of what clients send and are sent, as connections keep them; ``client_traffic`` adds to them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


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
    """The tallies that one connection adds to, by topic id; those of ``table``."""

    __slots__ = ("client_id", "consumed", "consumed_remote", "produced", "rack", "table")

    def __init__(self, table: Table, client_id: str | None, rack: str) -> None:
        self.table = table
        self.client_id = client_id
        self.rack = rack
        self.produced: dict[bytes, Tally] = {}
        self.consumed: dict[bytes, Tally] = {}
        self.consumed_remote: dict[bytes, Tally] = {}
