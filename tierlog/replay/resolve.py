"""A request for a range becomes a plan: asks brokers and buckets once, and decides nothing afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from tiering.catalog import Catalog
from tiering.errors import TieringError
from tierlog.admin.errors import no_such_topic
from tierlog.errors import UserError
from tierlog.replay.bounds import Bound, Kind
from tierlog.replay.bucket import Bucket
from tierlog.replay.cluster import EARLIEST, LATEST, Cluster
from tierlog.replay.ledger import Caller, Place, ReplayLedger
from tierlog.replay.plan import PartitionPlan, Plan, partition_plan
from tierlog.types import TopicPartition


class Request(NamedTuple):
    """What is to be replayed, as it was asked for. ``partitions``: None is all."""

    topics: tuple[str, ...]
    start: Bound
    end: Bound
    partitions: tuple[int, ...] | None = None


class Held(NamedTuple):
    """A partition as it is: records with offsets in [start, end), those of the catalog in the bucket."""

    start: int
    end: int
    bucket: Bucket | None
    topic_id: bytes
    catalog: Catalog | None
    local_bytes_per_offset: float


class Origin:
    """Where records come from: buckets, brokers, or both. Keeps what it has opened until it is closed; ``caller`` pays."""

    def __init__(
        self,
        bootstrap: str | None,
        bucket_url: str | None,
        *,
        is_committed: bool = True,
        caller: Caller = Caller(),
    ) -> None:
        self._bootstrap = bootstrap
        self._bucket_url = bucket_url
        self.is_committed = is_committed
        self._client_id = caller.client_id
        self._ledger = ReplayLedger(caller, self._ledger_place)
        self.cluster: Cluster | None = None
        self._buckets: dict[str, Bucket] = {}
        self._topic_ids: dict[str, dict[str, bytes]] = {}

    async def start(self) -> None:
        """Raises UserError."""
        if self._bootstrap is not None:
            self.cluster = await asyncio.to_thread(
                Cluster, self._bootstrap, client_id=self._client_id, is_committed=self.is_committed
            )
        elif self._bucket_url is None:
            raise UserError(
                "name the cluster with --bootstrap-server HOST:PORT, or its bucket with --bucket URL"
            )
        self._ledger.start()
        if self._bucket_url is not None:
            await self.bucket(self._bucket_url)

    async def bucket(self, url: str) -> Bucket:
        found = self._buckets.get(url)
        if found is None:
            found = self._buckets[url] = await Bucket.opened(url, self._ledger)
            cluster = self.cluster
            if cluster is not None and cluster.cluster_id != found.cluster_id:
                raise UserError(
                    f"the bucket belongs to cluster {found.cluster_id}, {self._bootstrap} to {cluster.cluster_id}; "
                    "name the bucket of this cluster with --bucket"
                )
        return found

    async def close(self) -> None:
        await self._ledger.close()
        for bucket in self._buckets.values():
            await bucket.close()
        if self.cluster is not None:
            self.cluster.close()

    async def _ledger_place(self) -> Place | None:
        """The brokers' own bucket, whatever bucket a topic has; as it was named, where that is the same one."""
        named, cluster = self._bucket_url, self.cluster
        if cluster is None:
            found = None if named is None else self._buckets.get(named)
            return None if found is None else Place(found.url, found.cluster_id)
        told = await asyncio.to_thread(cluster.brokers_store_url)
        if told is None:
            return None
        is_named = named is not None and urlsplit(named)[:3] == urlsplit(told)[:3]
        return Place(named if is_named and named is not None else told, cluster.cluster_id)

    # plans ------------------------------------------------------------------------------------------------

    async def plan(self, request: Request) -> Plan:
        """Raises UserError."""
        made: list[PartitionPlan] = []
        try:
            for topic in request.topics:
                made += await self._plan_topic(topic, request)
        except TieringError as error:
            raise UserError(f"{error}; the bucket cannot be read as it is") from None
        plan = Plan(tuple(made))
        if not plan.offsets and request.start.kind is not Kind.END:
            raise UserError(f"{', '.join(request.topics)}: there are no records {_missed(request)}")
        return plan

    async def reads_of(self, where: TopicPartition, start: int, end: int) -> PartitionPlan:
        """The plan for what is left of a range whose objects have changed meanwhile. Raises UserError."""
        held = await self.held(where)
        if start < held.start:
            raise _deleted(where, start, held.start)
        return self.of_held(where, held, start, end)

    async def _plan_topic(self, topic: str, request: Request) -> list[PartitionPlan]:
        known = await self.partitions(topic)
        if not known:
            raise UserError(
                f"nothing of {topic} has been tiered yet; read it from brokers with --bootstrap-server"
            )
        chosen = known if request.partitions is None else request.partitions
        missing = [number for number in chosen if number not in known]
        if missing:
            has = f"it has {len(known)}, from {known[0]} to {known[-1]}"
            raise UserError(f"{topic} has no partition {missing[0]}; {has}")
        found = []
        for number in chosen:
            where = TopicPartition(topic, number)
            held = await self.held(where)
            start = await self._offset(where, held, request.start, "--from")
            end = await self._offset(where, held, request.end, "--to")
            if start > end:
                both_offsets = request.start.kind is request.end.kind is Kind.OFFSET
                if both_offsets or request.start.kind is request.end.kind is Kind.TIME:
                    raise UserError(f"{where}: --from {request.start} is behind --to {request.end}")
                start = end
            found.append(self.of_held(where, held, start, end))
        return found

    async def topics(self) -> list[str]:
        """Names of all topics; without brokers, of those that anything has been tiered of."""
        if self.cluster is not None:
            return await asyncio.to_thread(self.cluster.topic_names)
        assert self._bucket_url is not None
        return list(await self._ids(await self.bucket(self._bucket_url)))

    async def partitions(self, topic: str) -> Sequence[int]:
        if self.cluster is not None:
            return sorted((await asyncio.to_thread(self.cluster.topic, topic)).leaders)
        assert self._bucket_url is not None
        bucket = await self.bucket(self._bucket_url)
        return await bucket.partitions(await self._topic_id(bucket, topic))

    async def topic_id(self, topic: str) -> bytes:
        """Raises UserError if there is no such topic."""
        if self.cluster is not None:
            return (await asyncio.to_thread(self.cluster.topic, topic)).topic_id
        assert self._bucket_url is not None
        return await self._topic_id(await self.bucket(self._bucket_url), topic)

    async def _topic_id(self, bucket: Bucket, topic: str) -> bytes:
        if self.cluster is not None:
            found = self.cluster.topic(topic).topic_id
        else:
            ids = await self._ids(bucket)
            if topic not in ids:
                raise no_such_topic(topic, ids)
            found = ids[topic]
        self._ledger.name(topic, found)
        return found

    async def _ids(self, bucket: Bucket) -> dict[str, bytes]:
        if bucket.url not in self._topic_ids:
            self._topic_ids[bucket.url] = await bucket.topics()
        return self._topic_ids[bucket.url]

    async def remote(self, where: TopicPartition) -> tuple[Bucket | None, bytes, Catalog | None]:
        """The bucket of a partition, if there is one, the topic's id, and all live segments, if there are any."""
        url = self._bucket_url
        if url is None and self.cluster is not None:
            url = await asyncio.to_thread(self.cluster.store_url, where.topic)
        if url is None:
            return None, bytes(16), None
        bucket = await self.bucket(url)
        topic_id = await self._topic_id(bucket, where.topic)
        return bucket, topic_id, await bucket.catalog(topic_id, where.partition)

    async def held(self, where: TopicPartition) -> Held:
        """What there is of a partition now."""
        cluster = self.cluster
        bucket, topic_id, catalog = await self.remote(where)
        if cluster is None:
            start, end = (0, 0) if catalog is None else (catalog.start, catalog.end)
            return Held(start, end, bucket, topic_id, catalog, 0.0)
        start = await asyncio.to_thread(cluster.offset_at, where, EARLIEST)
        end = await asyncio.to_thread(cluster.offset_at, where, LATEST)
        sizes = await asyncio.to_thread(cluster.local_bytes_per_offset, where.topic)
        return Held(start, end, bucket, topic_id, catalog, sizes.get(where.partition, 0.0))

    async def _offset(self, where: TopicPartition, held: Held, bound: Bound, option: str) -> int:
        match bound.kind:
            case Kind.EARLIEST:
                return held.start
            case Kind.END:
                return held.end
            case Kind.OFFSET:
                if bound.value < held.start:
                    raise _deleted(where, bound.value, held.start, option)
                if bound.value > held.end:
                    raise UserError(
                        f"{where} ends at offset {held.end}: {option} {bound.value} is behind it; use end"
                    )
                return bound.value
            case Kind.TIME:
                return await self.offset_of_time(where, held, bound.value)

    async def offset_of_time(self, where: TopicPartition, held: Held, timestamp_ms: int) -> int:
        if self.cluster is not None:
            found: int | None = await asyncio.to_thread(self.cluster.offset_at, where, timestamp_ms)
        elif held.catalog is not None and held.bucket is not None:
            found = await held.bucket.offset_at(held.topic_id, where.partition, held.catalog, timestamp_ms)
        else:
            found = None
        return held.end if found is None or found < 0 else min(found, held.end)

    @staticmethod
    def of_held(where: TopicPartition, held: Held, start: int, end: int) -> PartitionPlan:
        segments = (
            held.bucket.segments(where, held.topic_id, held.catalog, start)
            if (held.bucket is not None and held.catalog is not None)
            else ()
        )
        return partition_plan(where, start, end, segments, held.local_bytes_per_offset)


def _missed(request: Request) -> str:
    """Where none is, and where to look."""
    if request.start.kind is not Kind.EARLIEST:
        return f"from {request.start} to {request.end}; look with --from earliest"
    return "yet" if request.end.kind is Kind.END else f"before {request.end}; choose a later end"


def _deleted(where: TopicPartition, offset: int, start: int, option: str = "offset") -> UserError:
    return UserError(
        f"{where} begins at offset {start}: {option} {offset} has been deleted; use {option} earliest, or {start}"
        if option != "offset"
        else f"{where} begins at offset {start} by now: {offset} has been deleted meanwhile; use --from {start}"
    )
