"""Configs of groups and of client-metrics subscriptions (see ``table``): shown as Kafka 4.4 does, never set.

The protocols they belong to (KIP-848, KIP-932, KIP-1071, KIP-714) are not served yet.
"""

from __future__ import annotations

from tierlog.config.definitions import Status
from tierlog.config.table import read_table

GROUP = read_table(
    Status.MEANINGLESS,
    """\
consumer.assignment.interval.ms INT 1000 >=0 fixed group.consumer.assignment.interval.ms
consumer.assignor.offload.enable BOOLEAN true - fixed group.consumer.assignor.offload.enable internal
consumer.heartbeat.interval.ms INT 5000 >=1 fixed group.consumer.heartbeat.interval.ms
consumer.session.timeout.ms INT 45000 >=1 fixed group.consumer.session.timeout.ms
errors.deadletterqueue.copy.record.enable BOOLEAN false - fixed
errors.deadletterqueue.topic.name STRING '' - fixed
share.assignment.interval.ms INT 1000 >=0 fixed group.share.assignment.interval.ms
share.assignor.offload.enable BOOLEAN true - fixed group.share.assignor.offload.enable internal
share.auto.offset.reset STRING latest - fixed
share.delivery.count.limit INT 5 >=2 fixed group.share.delivery.count.limit
share.heartbeat.interval.ms INT 5000 >=1 fixed group.share.heartbeat.interval.ms
share.isolation.level STRING read_uncommitted read_committed|read_uncommitted fixed
share.partition.max.record.locks INT 2000 >=100 fixed group.share.partition.max.record.locks
share.record.lock.duration.ms INT 30000 >=1000 fixed group.share.record.lock.duration.ms
share.renew.acknowledge.enable BOOLEAN true - fixed
share.session.timeout.ms INT 45000 >=1 fixed group.share.session.timeout.ms
streams.acceptable.recovery.lag LONG 10000 >=0 fixed group.streams.acceptable.recovery.lag internal
streams.assignment.interval.ms INT 1000 >=0 fixed group.streams.assignment.interval.ms
streams.assignor.name STRING null - fixed group.streams.assignors
streams.assignor.offload.enable BOOLEAN true - fixed group.streams.assignor.offload.enable internal
streams.heartbeat.interval.ms INT 5000 >=1 fixed group.streams.heartbeat.interval.ms
streams.initial.rebalance.delay.ms INT 3000 >=0 fixed group.streams.initial.rebalance.delay.ms
streams.num.standby.replicas INT 0 >=0 fixed group.streams.num.standby.replicas
streams.num.warmup.replicas INT 2 >=0 fixed group.streams.num.warmup.replicas internal
streams.rack.aware.assignment.tags LIST '' - fixed group.streams.rack.aware.assignment.tags
streams.session.timeout.ms INT 45000 >=1 fixed group.streams.session.timeout.ms
streams.task.offset.interval.ms INT 60000 >=1 fixed group.streams.task.offset.interval.ms internal
""",
)

CLIENT_METRICS = read_table(
    Status.MEANINGLESS,
    """\
interval.ms INT 300000 - fixed
match LIST '' - fixed
metrics LIST '' - fixed
""",
)
