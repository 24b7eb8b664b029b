"""A broker says how far its log goes once nobody may lead a partition of its own."""

from __future__ import annotations

from pathlib import Path

from tests.unit.broker.test_config_effects import append, create, running, until
from tierlog.metadata import keys, records
from tierlog.metadata.records import NO_LEADER
from tierlog.metadata.transactions import Put, Txn


async def test_it_is_said_when_nobody_is_eligible(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        (partition,) = await create(broker)
        for _ in range(3):
            append(partition)
        topic = broker.feed.image.topic("t")
        assert topic is not None
        old = topic.partitions[0]
        lost = old._replace(
            leader=NO_LEADER, leader_epoch=old.leader_epoch + 1, isr=(), replicas=(*old.replicas, 99)
        )
        put = Put(keys.partition(topic.topic_id, 0), records.encode_partition(lost))
        assert (await broker.store.txn(Txn((), (put,)))).ok
        await until(lambda: broker.feed.image.log_ends_of(topic.topic_id, 0))
        ends = broker.feed.image.log_ends_of(topic.topic_id, 0)
        (end,) = ends.values()
        assert list(ends) == [broker.config.node_id]
        assert end[:4] == (broker.registration.broker_epoch, lost.leader_epoch, old.leader_epoch, 3)
        assert partition.leader is None


async def test_nothing_is_said_before_roles_have_begun(tmp_path: Path) -> None:
    """Until then a log may be begun anew at its tiered end."""
    async with running(tmp_path) as broker:
        (partition,) = await create(broker)
        append(partition)
        topic = broker.feed.image.topic("t")
        assert topic is not None
        old = topic.partitions[0]
        lost = old._replace(
            leader=NO_LEADER, leader_epoch=old.leader_epoch + 1, isr=(), replicas=(*old.replicas, 99)
        )
        # Taken away, so that what was said there cannot be meant.
        broker.replicas.roles._has_begun = False
        put = Put(keys.partition(topic.topic_id, 0), records.encode_partition(lost))
        revision = (await broker.store.txn(Txn((), (put,)))).revision
        await broker.feed.wait_for_revision(revision)
        assert list(broker.log_ends._reports()) == []
        broker.replicas.roles._has_begun = True
        broker.replicas.roles.apply_all(broker.replicas)
        assert len(list(broker.log_ends._reports())) == 1
