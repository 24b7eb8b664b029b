"""The remote tier in the simulation: production planner, heads, catalog, pages and orphan rules, and the real commit.

A leader's turns are those of ``tests.model.tiering_world``, on the bucket of ``tests.model.tiering_bucket``, with all that
it does to them; here they run against the cluster's metadata store, with the guards of ``metadata.commits``, on the
simulated logs. Objects have contents, so that every live entry can be compared with what was committed to the log.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from tests.model.tiering_bucket import TierBucket
from tests.model.tiering_world import GRACE_MS, SEGMENT_BYTES, Refused, Unknown, name_of
from tests.model.tiering_world import Leader as TierLeader
from tests.sim.disk import Record, SimLog
from tests.sim.store import Call
from tiering.catalog import Catalog
from tiering.head_codec import decode_head, encode_head
from tiering.keys import SegmentName
from tiering.lifecycle import Attempts
from tiering.model import TierHead
from tiering.pages import Pages
from tiering.planner import LocalSegment
from tierlog.metadata import keys, records
from tierlog.metadata.commits import tier_head_change
from tierlog.metadata.transactions import TxnResult

if TYPE_CHECKING:
    from tests.sim.replica import SimReplica
    from tests.sim.world import World

RETENTION_BYTES = 8 * SEGMENT_BYTES
CLEAN_STEPS = 1000


class Content(NamedTuple):
    """An object: Kafka's records, and the footer behind them."""

    records: tuple[Record, ...]
    lineage: tuple[tuple[int, int], ...]
    producer_snapshot: bytes


class Bucket(TierBucket[Content]):
    """The objects of one partition, shared by all brokers."""

    def __init__(self, world: World, partition: int) -> None:
        super().__init__(world.rng, lambda why: world.checker.fail(why), faults=0.3)
        self.world = world
        self.partition = partition
        self.head_key = keys.tier_head(world.topic_id, partition)
        self._named_revision = 0
        self.later_ms = 0

    @property
    def contents(self) -> dict[SegmentName, Content]:
        return self.segments

    def read(self) -> tuple[TierHead, int, Pages]:
        """The head as the metadata store has it now, its revision, and its pages."""
        kv = self.world.store.get(self.head_key)
        if kv is None:
            return TierHead.empty(), 0, Pages()
        head = decode_head(kv.value)
        return head, kv.mod_revision, self.load(head)

    def check_tier(self) -> None:
        """I4, I12, I13, I14 for the head that the store has."""
        head, revision, pages = self.read()
        head.check()
        if revision != self._named_revision:
            self._named_revision = revision
            self.on_named(head.tail)
        now_ms = max(broker.now_ms for broker in self.world.brokers.values()) + self.later_ms
        self.check(head, now_ms, GRACE_MS)
        checker = self.world.checker
        committed = checker.committed[self.partition]
        if head.end > len(committed):
            checker.fail(f"p{self.partition}: tiered up to {head.end}, committed are {len(committed)}")
        end = head.start
        for entry in Catalog(head, pages.columns):
            content = self.segments.get(name_of(entry))
            if entry.is_lost_page:
                pass  # what it may name is looked at above
            elif content is None:
                checker.fail(f"I13: the object of {entry} is gone")
            elif content.records != tuple(committed[entry.base_offset : entry.end_offset]):
                checker.fail(
                    f"I4: the object of [{entry.base_offset}, {entry.end_offset}) holds {content.records}"
                )
            if entry.base_offset > end:
                checker.fail(f"I12: a hole before {entry.base_offset}")
            end = entry.end_offset
        if end != head.end:
            checker.fail(f"I12: the entries end at {end}, the tier at {head.end}")

    def footer_at(self, head: TierHead, pages: Pages) -> Content | None:
        """Of the entry that ends at the tiered end; None where retention has taken it."""
        for entry in Catalog(head, pages.columns):
            if entry.end_offset == head.end:
                content = self.segments.get(name_of(entry))
                if content is None:
                    self.world.checker.fail(f"I13: the object of {entry} is gone")
                return content
        return None


def content_of(log: SimLog, name: SegmentName) -> Content:
    """The range, the lineage up to its end, and the producers there: what the mover makes of a segment."""
    return Content(
        tuple(log.records[name.base_offset : name.end_offset]),
        tuple(log.epochs.entries),
        log.segments.get(name.end_offset, b""),
    )


class TierSide:
    """One leadership's view of the tier: the ``World`` of ``tiering_world.Leader``."""

    def __init__(self, replica: SimReplica, bucket: Bucket) -> None:
        assert replica.leader is not None
        self.replica = replica
        self.bucket = bucket
        self.rng = replica.world.rng
        self.leader_epoch = replica.leader.leader_epoch
        self.retention_bytes = RETENTION_BYTES
        self.revision = 0

    @property
    def now_ms(self) -> int:
        return self.replica.broker.now_ms + self.bucket.later_ms

    @property
    def log_end(self) -> int:
        """Only what is committed may be copied."""
        return self.replica.high_watermark

    def uuid(self) -> bytes:
        self.replica.world.value += 1
        return self.replica.world.value.to_bytes(16, "big")

    def content(self, name: SegmentName) -> Content:
        """Uploads the range from this replica's disk."""
        return content_of(self.replica.log, name)

    def read(self) -> tuple[TierHead, int, Pages]:
        return self.bucket.read()

    def commit(self, leader_epoch: int, revision: int, head: TierHead) -> None:
        """One transaction under the guards; again where the ISR alone has changed. Sets ``revision``."""
        replica, store = self.replica, self.replica.world.store
        assert replica.broker.feed is not None
        state = replica.broker.feed.image.partition(replica.topic_id, replica.partition)
        for _ in range(5):
            if state is None or (state.leader, state.leader_epoch) != (
                replica.broker.broker_id,
                leader_epoch,
            ):
                raise Refused
            txn = tier_head_change(
                replica.topic_id,
                replica.partition,
                encode_head(head),
                partition_epoch=state.partition_epoch,
                head_revision=revision,
                broker_id=replica.broker.broker_id,
                broker_epoch=replica.broker.broker_epoch,
            )
            fate = self.rng.random()
            if fate < 0.1:
                replica.world.counts["unknown outcomes"] += 1
                store.calls.append(Call(replica.broker.broker_id, txn, _nobody))
                raise Unknown
            result = store.now(txn)
            if fate < 0.15:
                replica.world.counts["unknown outcomes"] += 1
                raise Unknown
            if result.ok:
                replica.world.counts["tier commits"] += 1
                self.revision = result.revision
                self.bucket.check_tier()
                return
            found, registration, now_head = result.gets
            is_mine = registration is not None and registration.create_revision == replica.broker.broker_epoch
            same_head = (now_head.mod_revision if now_head else 0) == revision
            if found is None or not is_mine or not same_head:
                raise Refused
            state = records.decode_partition(found.value, found.mod_revision)
        raise Refused


def _nobody(result: TxnResult | None) -> None:
    """The sender has given up."""


class SimTier(TierLeader):
    """One leadership's turns; ``steps`` yields wherever something else may happen."""

    world: TierSide
    page_entries_max = 4
    page_at_entries = 3
    tail_kept_entries = 1

    def __init__(self, replica: SimReplica, bucket: Bucket, attempts: type[Attempts]) -> None:
        super().__init__(TierSide(replica, bucket), attempts)  # type: ignore[arg-type]
        self.replica = replica

    def commit(self, head: TierHead, pages: Pages | None = None) -> None:
        if head is self.head:
            return
        self.world.commit(self.epoch, self.revision, head)
        self.head, self.revision = head, self.world.revision
        self.pages = Pages() if head.page_index is None else pages or self.pages
        self.adopt()

    def reload(self) -> None:
        super().reload()
        self.adopt()

    def adopt(self) -> None:
        """The local log start follows the head's."""
        self.replica.log.advance_log_start(min(self.head.start, self.replica.log.log_end_offset))

    def sealed(self) -> list[LocalSegment]:
        return [LocalSegment(base, end, SEGMENT_BYTES) for base, end in self.replica.log.sealed()]

    def delete_records(self, offset: int) -> None:
        """DeleteRecords up to ``offset``, at most the high watermark."""
        try:
            self.commit(self.head.with_start(offset, self.world.now_ms))
        except (Unknown, Refused):
            self.reload()

    def come_clean(self) -> None:
        """At rest. While the bucket refuses all deletes, everything is copied all the same; once it takes them, it soon
        holds what the head names, and one copy of that. Time goes on for the tier alone, whose leader stays."""
        bucket, world = self.replica.bucket, self.replica.world
        certain = random.Random(0)
        certain.random = lambda: 1.0  # type: ignore[method-assign]
        self.world.rng = bucket.rng = certain
        bucket.calm()
        for is_refusing in (True, False):
            bucket.is_refusing = is_refusing
            for step in range(CLEAN_STEPS):
                bucket.later_ms += GRACE_MS if step % 10 == 0 else 1
                next(self.steps)
                if step % 25 == 24 and not (
                    self._uncopied() if is_refusing else bucket.remains(bucket.read()[0])
                ):
                    break
            bucket.check_tier()
            if waiting := self._uncopied():
                world.checker.fail(
                    f"p{bucket.partition}: tiered up to {bucket.read()[0].end}, and {waiting[0]} is not copied"
                )
        bucket.check_clean(bucket.read()[0])

    def _uncopied(self) -> list[LocalSegment]:
        end = self.replica.bucket.read()[0].end
        return [s for s in self.sealed() if s.base_offset >= end and s.end_offset <= self.world.log_end]
