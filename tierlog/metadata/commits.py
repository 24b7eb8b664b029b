"""The guarded transactions of brokers and controller, each with the conditions under which its write is valid.

A leader's writes compare the partition's epoch and its own registration, so a broker that was deposed, or whose
lease is gone, can change nothing. Replicas that join the ISR are compared as well: their registration must be the
one whose Fetch was counted, and the controller must still call it unfenced (KIP-841, KIP-903).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from tierlog.metadata import keys, records
from tierlog.metadata.features import highest_levels
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import NO_LEADER, BrokerRegistration, CleanStop, LogEnd, PartitionState
from tierlog.metadata.transactions import Compare, Delete, Get, KeyValue, Put, Txn


def found_cluster(cluster_id: str) -> Txn:
    """Makes an empty store that of a new cluster, which begins at the highest feature levels. On failure ``result.gets[0]``
    is the id of the cluster that another broker has just founded."""
    puts = [Put(keys.CLUSTER, records.encode_cluster_id(cluster_id))]
    if levels := highest_levels():
        puts.append(Put(keys.FEATURES, records.encode_features(levels)))
    return Txn((Compare(keys.CLUSTER, "mod", 0),), tuple(puts), (Get(keys.CLUSTER),))


def register(
    broker_id: int,
    record: BrokerRegistration,
    lease: int,
    clean_stop: KeyValue | None,
    *,
    is_lossy: bool = False,
) -> tuple[Txn, BrokerRegistration]:
    """Registers the broker if nobody holds its id; the broker epoch is ``result.revision``.

    ``clean_stop``: the marker as the store has it. The same transaction deletes it, so that it can never vouch for
    a later registration that follows a loss of data. Its ``lossless_since`` goes into the returned record, unless
    ``is_lossy``: the broker knows that data is missing. On failure ``result.gets[0]`` is the registration that is
    in the way, or None when the marker changed meanwhile.
    """
    key, clean_key = keys.registration(broker_id), keys.clean_stop(broker_id)
    since = record.lossless_since
    if clean_stop is not None:
        marker = records.decode_clean_stop(clean_stop.value)
        if marker.dirs == record.dirs and not is_lossy:
            since = marker.lossless_since or marker.broker_epoch
    record = replace(record, lossless_since=since)
    compares = (
        Compare(key, "mod", 0),
        Compare(clean_key, "mod", 0 if clean_stop is None else clean_stop.mod_revision),
    )
    put = Put(key, records.encode_registration(record), lease)
    return Txn(compares, (put, Delete(clean_key)), (Get(key),)), record


def leave_clean_stop(broker_id: int, broker_epoch: int, dirs: tuple[str, ...], lossless_since: int) -> Txn:
    """Writes the marker of a clean stop while the registration still exists."""
    marker = CleanStop(broker_epoch, dirs, lossless_since)
    return Txn(
        (Compare(keys.registration(broker_id), "create", broker_epoch),),
        (Put(keys.clean_stop(broker_id), records.encode_clean_stop(marker)),),
    )


class Joining(NamedTuple):
    """A replica about to enter the ISR: the broker epoch in its Fetch, and the revision of its
    ``BrokerState``."""

    broker_epoch: int
    state_revision: int


def joining_from_image(image: MetadataImage, broker_id: int, fetch_broker_epoch: int) -> Joining | None:
    """None when the image says that this incarnation of the broker may not join an ISR."""
    broker = image.brokers.get(broker_id)
    if broker is None or not broker.is_available or broker.broker_epoch != fetch_broker_epoch:
        return None
    return Joining(fetch_broker_epoch, broker.state_revision)


def partition_change(
    topic_id: bytes,
    partition: int,
    old: PartitionState,
    new: PartitionState,
    *,
    broker_id: int,
    broker_epoch: int,
    joining: Mapping[int, Joining] | None = None,
) -> Txn:
    """The leader's compare-and-set of its partition. On success the new partition epoch is ``result.revision``;
    on failure ``result.gets[0]`` is the state that the store holds."""
    assert old.leader == new.leader == broker_id, "only the leader changes its ISR"
    assert old.leader_epoch == new.leader_epoch, "only the controller changes the leader epoch"
    joined = set(new.isr) - set(old.isr)
    joining = joining or {}
    assert joined == set(joining), f"replicas {joined} join, guarded are {set(joining)}"
    new.check()
    key = keys.partition(topic_id, partition)
    compares = [
        Compare(key, "mod", old.partition_epoch),
        Compare(keys.registration(broker_id), "create", broker_epoch),
    ]
    for follower in sorted(joining):
        guard = joining[follower]
        compares.append(Compare(keys.registration(follower), "create", guard.broker_epoch))
        compares.append(Compare(keys.broker_state(follower), "mod", guard.state_revision))
    return Txn(tuple(compares), (Put(key, records.encode_partition(new)),), (Get(key),))


def report_log_end(topic_id: bytes, partition: int, broker_id: int, end: LogEnd) -> Txn:
    """A replica reports its log end (see ``election``)."""
    return Txn(
        (Compare(keys.registration(broker_id), "create", end.broker_epoch),),
        (Put(keys.log_end(topic_id, partition, broker_id), records.encode_log_end(end)),),
    )


def controllers_change(
    topic_id: bytes, partition: int, old: PartitionState, new: PartitionState, active: Mapping[int, int]
) -> Txn:
    """The controller's compare-and-set of a partition. ``active``: the broker epochs that the decision relied on, so a
    broker that registers again meanwhile is not elected."""
    key = keys.partition(topic_id, partition)
    compares = [Compare(key, "mod", old.partition_epoch)]
    if new.leader not in (NO_LEADER, old.leader):
        compares.append(Compare(keys.registration(new.leader), "create", active[new.leader]))
    return Txn(tuple(compares), (Put(key, records.encode_partition(new)),))


def tier_head_change(
    topic_id: bytes,
    partition: int,
    head: bytes,
    *,
    partition_epoch: int,
    head_revision: int,
    broker_id: int,
    broker_epoch: int,
    topic_revision: int | None = None,
) -> Txn:
    """The commit point of tiering. ``head_revision``: mod revision of the head that ``head`` replaces (0: none
    yet). ``topic_revision``: mod revision of the topic's record, for a first head, since the record says in which store
    the tier lies, and may change until there is a head.

    On success the new head's revision is ``result.revision``. On failure ``result.gets`` are the partition, the
    registration and the head in the store, and the topic where it was compared. If only the ISR changed, retry with the
    new partition epoch; otherwise stop.
    """
    partition_key = keys.partition(topic_id, partition)
    registration_key = keys.registration(broker_id)
    head_key, topic_key = keys.tier_head(topic_id, partition), keys.topic(topic_id)
    compares = [
        Compare(partition_key, "mod", partition_epoch),
        Compare(registration_key, "create", broker_epoch),
        Compare(head_key, "mod", head_revision),
    ]
    gets = [Get(partition_key), Get(registration_key), Get(head_key)]
    if topic_revision is not None:
        compares.append(Compare(topic_key, "mod", topic_revision))
        gets.append(Get(topic_key))
    return Txn(tuple(compares), (Put(head_key, head),), tuple(gets))


def producer_id_block(next_producer_id: int, revision: int) -> Txn:
    """Takes the block [next_producer_id, + 1000); ``revision``: mod revision of the key, 0 when absent."""
    value = records.encode_next_producer_id(next_producer_id + records.PRODUCER_ID_BLOCK)
    return Txn(
        (Compare(keys.PRODUCER_IDS, "mod", revision),),
        (Put(keys.PRODUCER_IDS, value),),
        (Get(keys.PRODUCER_IDS),),
    )
