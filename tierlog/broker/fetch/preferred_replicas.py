"""Chooses the follower in a consumer's own rack that it should fetch from (KIP-392), by ``replica.selector.class``.

Rules:

* a follower qualifies only if it is in sync, unfenced, reachable for the client, and holds the fetch offset, on its disk or
  in the tier. Followers delete nothing above the tiered end, and read the tier below it (``offload.followed_views``);
* a consumer that comes back from there with nothing is served by the leader (``replication.sent_away``), so that it gets its
  records whatever keeps the follower from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.cluster.leader_hints import nodes
from tierlog.replication.read_replica import in_the_same_rack
from tierlog.replication.sent_away import SentAway

if TYPE_CHECKING:
    from tierlog.broker.fetch.parts import FetchParts
    from tierlog.broker.network.context import RequestContext
    from tierlog.broker.replicas.partition import Partition

# First version that carries the client's rack; with it a client may fetch from followers.
FOLLOWERS_SINCE = 11
RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


def preferred_read_replica(
    parts: FetchParts, ctx: RequestContext, rack: str, partition: Partition, fetch_offset: int
) -> int | None:
    """The broker that a consumer in ``rack`` should fetch from; None means this broker. For a partition led here."""
    config, leader = parts.config, partition.leader
    if config.replica_selector_class != RACK_AWARE or rack == config.broker_rack or leader is None:
        return None
    now_ms = parts.monotonic_ms()
    followers = leader.readable_followers(fetch_offset, now_ms)
    may_be_remote = fetch_offset < local_to_all(partition)
    if not followers or (may_be_remote and partition.remote is None):
        return None
    image = parts.image
    living = {
        f.broker_id
        for f in followers
        if f.broker_id in image.brokers and image.brokers[f.broker_id].is_active
    }
    racks = {node.node_id: node.rack for node in nodes(image, ctx.listener, living)}
    replica = in_the_same_rack(rack, followers, racks)
    if replica is None or not may_be_remote:
        return replica
    session = ctx.session
    if session.sent_away is None:
        session.sent_away = SentAway()
    key = (partition.topic_id, partition.topic_partition.partition)
    return replica if session.sent_away.may_send(key, fetch_offset, now_ms) else None


def local_to_all(partition: Partition) -> int:
    """The first offset from which every replica still has all records on its disk."""
    remote = partition.remote
    if remote is None:
        return partition.log.local_log_start_offset
    return max(partition.log.local_log_start_offset, remote.end_offset if remote.is_loaded else 2**63 - 1)
