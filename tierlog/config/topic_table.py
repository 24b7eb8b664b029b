"""Topic configs: Kafka's facts, our own descriptions, and the broker properties that are their defaults (see ``table``).

Synonyms are in Kafka's order, the strongest first; hours and minutes are converted by ``topic_configs``.
"""

from __future__ import annotations

from tierlog.config.definitions import Status
from tierlog.config.table import read_table

OWNER, COST_CENTER = "tierlog.owner", "tierlog.cost.center"
"""They mean nothing to a broker: reports of cost read them (``admin/cost/names``)."""

HONOURED = read_table(
    Status.HONOURED,
    """\
cleanup.policy LIST delete compact|delete cluster log.cleanup.policy
    delete, compact or both.
compression.type STRING producer uncompressed|zstd|lz4|snappy|gzip|producer cluster compression.type
    Codec of stored batches; producer keeps what was sent.
delete.retention.ms LONG 86400000 >=0 cluster log.cleaner.delete.retention.ms
    Tombstones stay so long.
file.delete.delay.ms LONG 60000 >=0 cluster log.segment.delete.delay.ms
    A deleted file stays so long.
flush.messages LONG 9223372036854775807 >=1 cluster log.flush.interval.messages
    Flush after so many messages.
flush.ms LONG 9223372036854775807 >=0 cluster log.flush.interval.ms,log.flush.scheduler.interval.ms
    Flush after so long.
follower.replication.throttled.replicas LIST '' replicas cluster
    Replicas, as PARTITION:BROKER or *, that copy no faster than their broker's throttled rate.
index.interval.bytes INT 4096 >=0 cluster log.index.interval.bytes
    Bytes of log between two index entries.
internal.segment.bytes INT null - cluster internal
    Segment size below the bound of segment.bytes, for tests.
leader.replication.throttled.replicas LIST '' replicas cluster
    Replicas, as PARTITION:BROKER or *, that are copied from no faster than their broker's throttled rate.
local.retention.bytes LONG -2 >=-2 cluster log.local.retention.bytes
    Bytes kept on local disk once copied; -2 is as retention.
local.retention.ms LONG -2 >=-2 cluster log.local.retention.ms
    Time kept on local disk once copied; -2 is as retention.
max.compaction.lag.ms LONG 9223372036854775807 >=1 cluster log.cleaner.max.compaction.lag.ms
    Records older than this are compacted, whatever the ratio.
max.message.bytes INT 1048588 >=0 cluster message.max.bytes
    Largest batch.
message.timestamp.after.max.ms LONG 3600000 >=0 cluster log.message.timestamp.after.max.ms
    A record may be younger than the broker clock by this.
message.timestamp.before.max.ms LONG 9223372036854775807 >=0 cluster log.message.timestamp.before.max.ms
    A record may be older than the broker clock by this.
message.timestamp.type STRING CreateTime CreateTime|LogAppendTime cluster log.message.timestamp.type
    Whose clock stamps records: CreateTime or LogAppendTime.
min.cleanable.dirty.ratio DOUBLE 0.5 0..1 cluster log.cleaner.min.cleanable.ratio
    Compact when this share of the log is dirty.
min.compaction.lag.ms LONG 0 >=0 cluster log.cleaner.min.compaction.lag.ms
    Records younger than this are not compacted.
min.insync.replicas INT 1 >=1 cluster min.insync.replicas
    Replicas that must have an acks=all batch.
preallocate BOOLEAN false - cluster log.preallocate
    Allocate the file of a new segment whole.
remote.copy.lag.bytes LONG -1 >=-1 cluster log.remote.copy.lag.bytes
    A sealed segment is copied once so many newer bytes are in the log, or once it is old enough; 0 is at once, -1 is as
    local retention.
remote.copy.lag.ms LONG 0 >=-1 cluster log.remote.copy.lag.ms
    A sealed segment is copied once its newest record is so old, or once it has enough newer bytes behind it; 0 is at once,
    -1 is as local retention.
remote.log.copy.disable BOOLEAN false - cluster
    Copy nothing more to the object store; what is there stays readable.
remote.storage.enable BOOLEAN false - cluster
    Keep sealed segments in the object store.
retention.bytes LONG -1 - cluster log.retention.bytes
    A partition is cut to this size; -1 is no limit.
retention.ms LONG 604800000 >=-1 cluster log.retention.ms,log.retention.minutes,log.retention.hours
    Records older than this are deleted; -1 is no limit.
segment.bytes INT 1073741824 >=1048576 cluster log.segment.bytes
    A segment is sealed at this size.
segment.index.bytes INT 10485760 >=4 cluster log.index.size.max.bytes
    A segment is sealed when its index is this large.
segment.jitter.ms LONG 0 >=0 cluster log.roll.jitter.ms,log.roll.jitter.hours
    Random part of the age, against sealing all at once.
segment.ms LONG 604800000 >=1 cluster log.roll.ms,log.roll.hours
    A segment is sealed at this age.
unclean.leader.election.enable BOOLEAN false - cluster unclean.leader.election.enable
    Allow a replica outside the ISR to lead, losing data.
flush.mode STRING null os|ack cluster flush.mode
    os answers after the append; ack flushes to disk before a replica counts a batch.
tierlog.object.store STRING '' - cluster
    Object store of this topic's segments, as the broker's tierlog.object.store; empty is the broker's. It stays as it is
    once a segment was copied.
tierlog.cost.center STRING '' - cluster
    Free text beside tierlog.owner, for reports of cost; it has no effect on the broker.
tierlog.owner STRING '' - cluster
    Whose topic it is, for tierlog cost report --by owner; it has no effect on the broker.
tierlog.remote.copy.max.delay.ms LONG -1 1000..9223372036854775807,-1 cluster tierlog.remote.copy.max.delay.ms
    Records are sealed, to be copied, at most so long after they were written; -1 leaves it to segment.bytes and segment.ms.
tierlog.tiers STRING '' tiers cluster tierlog.tiers
    Storage class by age, as local:6h,standard:30d,infrequent:1y; the last age is the retention.
tierlog.tiers.before.minimum BOOLEAN false - cluster
    Move segments on although their storage class bills a minimum time that is not over.
tierlog.validate.records BOOLEAN false - cluster tierlog.validate.records
    Walk all records of a produced batch, not only its header.
""",
)

MEANINGLESS = read_table(
    Status.MEANINGLESS,
    """\
compression.gzip.level INT -1 1..9,-1 cluster compression.gzip.level
compression.lz4.level INT 9 1..17 cluster compression.lz4.level
compression.zstd.level INT 3 -131072..22 cluster compression.zstd.level
errors.deadletterqueue.group.enable BOOLEAN false - cluster
max.decompressed.message.bytes INT 2147483639 1..2147483639 cluster max.decompressed.message.bytes
""",
)

REFUSED = read_table(
    Status.REFUSED,
    """\
remote.log.delete.on.disable BOOLEAN false - cluster
""",
)
