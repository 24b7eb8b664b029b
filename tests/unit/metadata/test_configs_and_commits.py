"""Dynamic configs, and the guarded transactions of a broker."""

from __future__ import annotations

import pytest

from tests.unit.metadata.cluster import Cluster, at_once, topic_id
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.commits import (
    joining_from_image,
    partition_change,
    producer_id_block,
    tier_head_change,
)
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation, decide_alter_configs
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.records import PartitionState
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.transactions import Txn

RULES = TopicRules(validate_topic_configs=lambda new, old: [f"{n} is bad" for n in new if n == "bad"])


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(brokers=3)
    cluster.topic("t", PartitionState(1, 0, (1, 2, 3), (1, 2, 3), 1))
    return cluster


def alter(
    cluster: Cluster,
    *operations: ConfigOperation,
    name: str = "t",
    of: str = "topic",
    replace_all: bool = False,
) -> tuple[ErrorCode, str | None]:
    (decision,) = decide_alter_configs(
        cluster.image, RULES, [ConfigAlteration(of, name, operations, replace_all)]
    )
    for txn in decision.txns:
        assert cluster.txn(txn).ok
    return decision.result.error, decision.result.message


def put(name: str, value: str) -> ConfigOperation:
    return ConfigOperation(name, ConfigOp.SET, value)


OK = (ErrorCode.NONE, None)


class TestConfigs:
    def test_set_delete_and_replace(self, cluster: Cluster) -> None:
        assert alter(cluster, put("a", "1"), put("b", "2")) == OK
        assert alter(cluster, ConfigOperation("a", ConfigOp.DELETE), put("c", "3")) == OK
        assert cluster.image.configs_of_topic("t") == {"b": "2", "c": "3"}
        assert alter(cluster, put("d", "4"), replace_all=True) == OK
        assert cluster.image.configs_of_topic("t") == {"d": "4"}
        assert alter(cluster, replace_all=True) == OK
        assert at_once(cluster.store.get(keys.topic_config("t"))) is None

    def test_append_and_subtract(self, cluster: Cluster) -> None:
        assert alter(cluster, ConfigOperation("cleanup.policy", ConfigOp.APPEND, "compact")) == OK
        assert cluster.image.configs_of_topic("t") == {"cleanup.policy": "delete,compact"}
        assert alter(cluster, ConfigOperation("cleanup.policy", ConfigOp.SUBTRACT, "delete")) == OK
        assert cluster.image.configs_of_topic("t") == {"cleanup.policy": "compact"}
        assert alter(cluster, ConfigOperation("retention.ms", ConfigOp.APPEND, "1")) == (
            ErrorCode.INVALID_CONFIG,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        )

    def test_nothing_changed_writes_nothing(self, cluster: Cluster) -> None:
        alter(cluster, put("a", "1"))
        before = cluster.store.revision
        assert alter(cluster, put("a", "1")) == OK
        assert cluster.store.revision == before

    def test_refusals(self, cluster: Cluster) -> None:
        assert alter(cluster, put("bad", "1")) == (ErrorCode.INVALID_CONFIG, "bad is bad")
        assert alter(cluster, put("a", "1"), put("a", "2"))[0] is ErrorCode.INVALID_REQUEST
        assert alter(cluster, put("a", "1"), name="no")[0] is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert alter(cluster, put("a", "x" * 40_000))[0] is ErrorCode.INVALID_CONFIG
        assert alter(cluster, put("a", "1"), of="broker", name="x")[0] is ErrorCode.INVALID_REQUEST
        assert alter(cluster, put("a", "1"), of="broker", name="9")[0] is ErrorCode.BROKER_ID_NOT_REGISTERED
        same = ConfigAlteration("topic", "t", (put("a", "1"),))
        decisions = decide_alter_configs(cluster.image, RULES, [same, same])
        assert {d.result.error for d in decisions} == {ErrorCode.INVALID_REQUEST}

    def test_a_deleted_topic_leaves_no_configs_behind(self, cluster: Cluster) -> None:
        (decision,) = decide_alter_configs(
            cluster.image, RULES, [ConfigAlteration("topic", "t", (put("a", "1"),))]
        )
        cluster.delete(keys.topic(topic_id(1)), keys.topic_name("t"), keys.partition(topic_id(1), 0))
        assert not cluster.txn(decision.txns[0]).ok

    def test_min_insync_replicas_reaches_every_partition(self, cluster: Cluster) -> None:
        alter(cluster, put("min.insync.replicas", "2"))
        cluster.reconcile()
        assert cluster.partition().min_isr == 2
        alter(cluster, put("min.insync.replicas", "9"))
        cluster.reconcile()
        assert cluster.partition().min_isr == 3
        alter(cluster, ConfigOperation("min.insync.replicas", ConfigOp.DELETE))
        alter(cluster, put("min.insync.replicas", "2"), of="broker", name="")
        cluster.reconcile()
        assert cluster.partition().min_isr == 2


def change(cluster: Cluster, old: PartitionState, new: PartitionState, **kwargs: object) -> Txn:
    epoch = cluster.image.brokers[1].broker_epoch
    return partition_change(topic_id(1), 0, old, new, broker_id=1, broker_epoch=epoch, **kwargs)  # type: ignore[arg-type]


class TestPartitionChange:
    def test_shrink_and_expand(self, cluster: Cluster) -> None:
        old = cluster.partition()
        result = cluster.txn(change(cluster, old, with_isr(old, {1, 2})))
        assert result.ok
        shrunk = cluster.partition()
        assert (shrunk.isr, shrunk.partition_epoch) == ((1, 2), result.revision)
        epoch = cluster.image.brokers[3].broker_epoch
        guard = joining_from_image(cluster.image, 3, epoch)
        assert guard is not None
        assert cluster.txn(change(cluster, shrunk, with_isr(shrunk, {1, 2, 3}), joining={3: guard})).ok
        assert cluster.partition().isr == (1, 2, 3)

    def test_old_partition_epoch_fails_and_says_what_is(self, cluster: Cluster) -> None:
        old = cluster.partition()
        txn = change(cluster, old, with_isr(old, {1, 2}))
        assert cluster.txn(txn).ok
        result = cluster.txn(txn)
        assert not result.ok
        kv = result.gets[0]
        assert kv is not None
        assert records.decode_partition(kv.value, kv.mod_revision) == cluster.partition()

    def test_lost_registration_fails(self, cluster: Cluster) -> None:
        old = cluster.partition()
        txn = change(cluster, old, with_isr(old, {1, 2}))
        cluster.delete(keys.registration(1))
        assert not cluster.txn(txn).ok

    def test_who_registered_again_or_was_fenced_may_not_join(self, cluster: Cluster) -> None:
        old = cluster.partition()
        cluster.txn(change(cluster, old, with_isr(old, {1, 2})))
        shrunk = cluster.partition()
        epoch = cluster.image.brokers[3].broker_epoch
        guard = joining_from_image(cluster.image, 3, epoch)
        assert guard is not None
        txn = change(cluster, shrunk, with_isr(shrunk, {1, 2, 3}), joining={3: guard})
        cluster.registration(3)
        assert not cluster.txn(txn).ok
        assert joining_from_image(cluster.image, 3, epoch) is None
        assert joining_from_image(cluster.image, 3, cluster.image.brokers[3].broker_epoch) is None
        newer = cluster.register(3)
        guard = joining_from_image(cluster.image, 3, newer)
        assert guard is not None
        cluster.want(3, want_fence=True)
        cluster.reconcile()
        assert not cluster.txn(change(cluster, shrunk, with_isr(shrunk, {1, 2, 3}), joining={3: guard})).ok

    def test_bugs_are_caught(self, cluster: Cluster) -> None:
        old = cluster.partition()
        with pytest.raises(AssertionError):
            change(cluster, old._replace(isr=(1,)), old)
        with pytest.raises(AssertionError):
            change(cluster, old, old._replace(leader_epoch=9))


class TestTierHead:
    def test_commit_and_every_reason_to_refuse_it(self, cluster: Cluster) -> None:
        def commit(head: bytes, head_revision: int) -> Txn:
            return tier_head_change(
                topic_id(1),
                0,
                head,
                partition_epoch=epoch,
                head_revision=head_revision,
                broker_id=1,
                broker_epoch=broker_epoch,
            )

        epoch = cluster.partition().partition_epoch
        broker_epoch = cluster.image.brokers[1].broker_epoch
        first = cluster.txn(commit(b"one", 0))
        assert first.ok
        assert not cluster.txn(commit(b"again", 0)).ok
        second = cluster.txn(commit(b"two", first.revision))
        assert second.ok
        old = cluster.partition()
        cluster.txn(change(cluster, old, with_isr(old, {1, 2})))
        refused = cluster.txn(commit(b"three", second.revision))
        assert not refused.ok
        partition, registration, head = refused.gets
        assert partition is not None
        assert registration is not None
        assert head is not None
        assert (head.value, head.mod_revision) == (b"two", second.revision)
        epoch = partition.mod_revision
        assert cluster.txn(commit(b"three", second.revision)).ok
        cluster.delete(keys.registration(1))
        assert not cluster.txn(commit(b"four", second.revision)).ok

    def test_nothing_can_be_committed_after_the_topic_is_deleted(self, cluster: Cluster) -> None:
        txn = tier_head_change(
            topic_id(1),
            0,
            b"x",
            partition_epoch=cluster.partition().partition_epoch,
            head_revision=0,
            broker_id=1,
            broker_epoch=cluster.image.brokers[1].broker_epoch,
        )
        cluster.delete(keys.partition(topic_id(1), 0), keys.topic(topic_id(1)), keys.topic_name("t"))
        assert not cluster.txn(txn).ok


def test_producer_id_blocks_do_not_overlap(cluster: Cluster) -> None:
    first = cluster.txn(producer_id_block(0, 0))
    assert first.ok
    assert not cluster.txn(producer_id_block(0, 0)).ok
    assert cluster.image.next_producer_id == 1000
    assert cluster.txn(producer_id_block(1000, first.revision)).ok
    assert cluster.image.next_producer_id == 2000
