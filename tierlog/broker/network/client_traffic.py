"""Counts what clients send and are sent, by topic and client, for the ledger.

Each connection keeps the tallies that it adds to, so that a request costs a look-up per partition. A drain begins new
tallies: a connection sees that its own are of an earlier drain by the table that they are from.

Bounds: ``TALLIES_MAX`` tallies between two drains; beyond that clients are counted together, by topic and direction. A
connection keeps those of ``KEPT_TOPICS_MAX`` topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.tallies import ConnectionTraffic, Counted, Table, Tally
from tierlog.types import TopicPartition

TALLIES_MAX = 4_000
KEPT_TOPICS_MAX = 64
CLIENT_ID_CHARS_MAX = 128

PRODUCE = "produce"
CONSUME = "consume"
CONSUME_REMOTE = "consume-remote"
REPLICATE = "replicate"


class PartitionOf(Protocol):
    """A hosted partition, as it is counted here."""

    topic_id: bytes
    topic_partition: TopicPartition


class ClientTraffic:
    """One per broker."""

    def __init__(self) -> None:
        self._table: Table = {}
        self.together_count = 0
        """Tallies that were refused one of their own, and counted together with others."""

    def produced(self, ctx: RequestContext, partition: PartitionOf, size_bytes: int, records: int) -> None:
        """A batch was appended, or was there already."""
        mine = ctx.session.traffic
        if mine is None or mine.table is not self._table or mine.client_id != ctx.client_id:
            mine = self._begin(ctx, "")
        tally = mine.produced.get(partition.topic_id)
        if tally is None:
            tally = self._keep(mine.produced, PRODUCE, ctx, partition, "")
        tally.size_bytes += size_bytes
        tally.records += records

    def consumed(
        self, ctx: RequestContext, partition: PartitionOf, size_bytes: int, rack: str, is_remote: bool
    ) -> None:
        """Records were sent. ``is_remote``: they came from the object store, or from a cache of it."""
        mine = ctx.session.traffic
        if (
            mine is None
            or mine.table is not self._table
            or mine.client_id != ctx.client_id
            or mine.rack != rack
        ):
            mine = self._begin(ctx, rack)
        kept = mine.consumed_remote if is_remote else mine.consumed
        tally = kept.get(partition.topic_id)
        if tally is None:
            tally = self._keep(kept, CONSUME_REMOTE if is_remote else CONSUME, ctx, partition, rack)
        tally.size_bytes += size_bytes

    def replicated(self, partition: PartitionOf, size_bytes: int, rack: str) -> None:
        """Records were sent to a follower in ``rack``."""
        about = Counted(REPLICATE, partition.topic_id, partition.topic_partition.topic, rack=rack)
        tally = self._table.get(about)
        if tally is None:
            tally = self._table[about] = Tally()  # as many as topics and racks
        tally.size_bytes += size_bytes

    def drain(self) -> Iterator[tuple[Counted, Tally]]:
        """What was counted since the last drain; begins anew at once."""
        table, self._table = self._table, {}
        return iter(table.items())

    def _begin(self, ctx: RequestContext, rack: str) -> ConnectionTraffic:
        mine = ctx.session.traffic = ConnectionTraffic(self._table, ctx.client_id, rack)
        return mine

    def _keep(
        self, kept: dict[bytes, Tally], direction: str, ctx: RequestContext, partition: PartitionOf, rack: str
    ) -> Tally:
        topic_id, topic = partition.topic_id, partition.topic_partition.topic
        client_id = (ctx.client_id or "")[:CLIENT_ID_CHARS_MAX]
        about = Counted(direction, topic_id, topic, ctx.principal, client_id, ctx.peer_host, rack)
        tally = self._table.get(about)
        if tally is None and len(self._table) >= TALLIES_MAX:
            self.together_count += 1
            about = Counted(direction, topic_id, topic)
            tally = self._table.get(about)
        if tally is None:
            tally = self._table[about] = Tally()
        if len(kept) >= KEPT_TOPICS_MAX:
            kept.clear()
        kept[topic_id] = tally
        return tally
