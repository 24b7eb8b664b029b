"""Everybody has stopped uncleanly: the longest log leads, once every replica has said how long its own is."""

from __future__ import annotations

import pytest

from tests.unit.metadata.cluster import Cluster, Feed, topic_id
from tierlog.metadata import keys
from tierlog.metadata.commits import report_log_end
from tierlog.metadata.control.removal import decide_unregister
from tierlog.metadata.image import MetadataImage, difference
from tierlog.metadata.records import NO_LEADER, LogEnd, PartitionState
from tierlog.metadata.transactions import WatchBatch


def after_power_loss(*back: int) -> Cluster:
    """Three brokers lost power; those of ``back`` are registered again."""
    cluster = Cluster(brokers=3)
    cluster.configs("t", min_insync_replicas="2")
    cluster.topic("t", PartitionState(1, 5, (1, 2, 3), (1, 2, 3), 2))
    for broker_id in (1, 2, 3):
        cluster.delete(keys.registration(broker_id))
    for broker_id in back:
        cluster.registration(broker_id)
    cluster.reconcile()
    for broker_id in back:
        cluster.want(broker_id, want_fence=False)
    cluster.reconcile()
    return cluster


def say(
    cluster: Cluster,
    broker_id: int,
    last_epoch: int,
    end_offset: int,
    leader_epoch: int | None = None,
    is_whole: bool = False,
) -> None:
    epoch = cluster.partition().leader_epoch if leader_epoch is None else leader_epoch
    end = LogEnd(cluster.image.brokers[broker_id].broker_epoch, epoch, last_epoch, end_offset, is_whole)
    assert cluster.txn(report_log_end(topic_id(1), 0, broker_id, end)).ok
    cluster.reconcile()


def test_it_waits_for_all_and_takes_the_longest() -> None:
    cluster = after_power_loss(1, 2, 3)
    assert (cluster.partition().leader, cluster.partition().isr, cluster.partition().elr) == (
        NO_LEADER,
        (),
        (),
    )
    say(cluster, 1, 5, 90)
    say(cluster, 2, 5, 100)
    assert cluster.partition().leader == NO_LEADER
    say(cluster, 3, 4, 500)
    state = cluster.partition()
    assert (state.leader, state.isr, state.recovering) == (2, (2,), True)
    assert cluster.image.log_ends == {}, "what was said is cleared away"


def test_what_an_empty_log_has_deleted_is_not_given_away_again() -> None:
    """Retention has emptied the log at 1000; who fell behind at 500 would hand out the offsets a second time."""
    cluster = after_power_loss(1, 2, 3)
    say(cluster, 1, -1, 1000)
    say(cluster, 2, 5, 500)
    say(cluster, 3, 5, 400)
    assert cluster.partition().leader == 1


def test_who_is_away_is_waited_for() -> None:
    cluster = after_power_loss(1, 2)
    assert cluster.partition().elr == (3,), "who has not come back may still be whole"
    say(cluster, 1, 5, 90)
    say(cluster, 2, 5, 100)
    assert cluster.partition().leader == NO_LEADER, "neither of them has said that it is whole"


@pytest.mark.parametrize("stale", ["broker", "leadership"])
def test_what_was_said_before_does_not_count(stale: str) -> None:
    cluster = after_power_loss(1, 2, 3)
    if stale == "broker":
        say(cluster, 3, 5, 1000)
        cluster.registration(3)
        cluster.reconcile()
        cluster.want(3, want_fence=False)
        cluster.reconcile()
    else:
        say(cluster, 3, 5, 1000, leader_epoch=cluster.partition().leader_epoch - 1)
    say(cluster, 1, 5, 90)
    say(cluster, 2, 5, 100)
    assert cluster.partition().leader == NO_LEADER
    say(cluster, 3, 5, 80)
    assert cluster.partition().leader == 2


def test_a_broker_that_registered_again_cannot_speak_for_its_new_self() -> None:
    cluster = after_power_loss(1, 2, 3)
    end = LogEnd(cluster.image.brokers[3].broker_epoch, cluster.partition().leader_epoch, 5, 1000)
    cluster.registration(3)
    assert not cluster.txn(report_log_end(topic_id(1), 0, 3, end)).ok


def test_the_image_follows_what_is_said() -> None:
    cluster = after_power_loss(1, 2, 3)
    say(cluster, 1, 5, 90)
    ends = cluster.image.log_ends_of(topic_id(1), 0)
    assert {b: (e.last_epoch, e.end_offset) for b, e in ends.items()} == {1: (5, 90)}
    assert cluster.image.log_ends_of(topic_id(1), 1) == {}
    fresh = Feed(cluster.store)
    fresh.catch_up()
    assert fresh.image.log_ends == cluster.image.log_ends
    assert difference(MetadataImage(), fresh.image).log_ends_changed
    delta = cluster.image.apply(WatchBatch(cluster.image.revision + 1, ()))
    assert delta.is_empty


# -- who was eligible, and is whole


def test_the_first_that_is_whole_leads_though_others_are_away() -> None:
    cluster = after_power_loss(1, 2)
    assert (cluster.partition().elr, cluster.partition().last_eligible) == ((3,), (1, 2))
    say(cluster, 1, 5, 100)
    assert cluster.partition().leader == NO_LEADER
    say(cluster, 2, 5, 90, is_whole=True)
    state = cluster.partition()
    assert (state.leader, state.isr, state.elr, state.recovering) == (2, (2,), (3,), False)
    assert state.last_eligible == (1,), "too few are in sync for anything to be committed without it"
    assert cluster.image.log_ends == {}, "what was said is cleared away"


def test_one_that_is_whole_and_was_not_eligible_does_not_lead() -> None:
    cluster = Cluster(brokers=3)
    cluster.configs("t", min_insync_replicas="2")
    cluster.topic("t", PartitionState(1, 5, (1, 2), (1, 2, 3), 2))
    for broker_id in (1, 2, 3):
        cluster.delete(keys.registration(broker_id))
    for broker_id in (1, 2, 3):
        cluster.registration(broker_id)
    cluster.reconcile()
    for broker_id in (1, 2, 3):
        cluster.want(broker_id, want_fence=False)
    cluster.reconcile()
    assert cluster.partition().last_eligible == (1, 2)
    say(cluster, 3, 5, 100, is_whole=True)
    assert cluster.partition().leader == NO_LEADER
    say(cluster, 1, 5, 80, is_whole=True)
    assert (cluster.partition().leader, cluster.partition().recovering) == (1, False)


def test_a_second_power_loss_leaves_them_eligible() -> None:
    cluster = after_power_loss(1, 2)
    epoch = cluster.partition().leader_epoch
    cluster.registration(1)
    cluster.reconcile()
    cluster.want(1, want_fence=False)
    cluster.reconcile()
    state = cluster.partition()
    assert (state.leader_epoch, state.last_eligible, state.elr) == (epoch, (1, 2), (3,))
    say(cluster, 1, 5, 90, is_whole=True)
    assert cluster.partition().leader == 1


def test_what_was_said_of_another_leadership_proves_nothing() -> None:
    cluster = after_power_loss(1, 2)
    end = LogEnd(cluster.image.brokers[2].broker_epoch, cluster.partition().leader_epoch - 1, 5, 90, True)
    assert cluster.txn(report_log_end(topic_id(1), 0, 2, end)).ok
    cluster.reconcile()
    assert cluster.partition().leader == NO_LEADER


def test_a_broker_that_is_taken_out_of_the_cluster_is_not_waited_for() -> None:
    cluster = after_power_loss(1, 2)
    cluster.delete(keys.registration(2))
    cluster.reconcile()
    for txn in decide_unregister(cluster.image, cluster.rules, 2).txns:
        assert cluster.txn(txn).ok
    assert cluster.partition().last_eligible == (1,)
