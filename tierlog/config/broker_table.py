"""Broker properties that are honoured: Kafka's facts with our own descriptions; tierlog's own properties at the end.

``table`` describes the form of a row. The properties that give topics their defaults are here too; ``broker`` turns
them into fields.
"""

from __future__ import annotations

from tierlog.config.definitions import Status
from tierlog.config.table import read_table

KAFKA = read_table(
    Status.HONOURED,
    """\
advertised.listeners LIST null - fixed
    Addresses that clients are told, by listener name.
auto.create.topics.enable BOOLEAN true - fixed
    Create a topic that a client asks for.
auto.leader.rebalance.enable BOOLEAN true - fixed
    Give partitions back to their preferred leaders from time to time.
broker.heartbeat.interval.ms INT 2000 - fixed
    How often a broker renews its lease.
broker.id INT -1 - fixed
    Older name of node.id.
broker.rack STRING null - fixed
    Zone of this broker; replicas of a partition go to distinct zones first.
broker.session.timeout.ms INT 9000 - fixed
    A broker that is silent for so long is fenced.
compression.type STRING producer uncompressed|zstd|lz4|snappy|gzip|producer cluster
    Codec of stored batches; producer keeps what was sent.
config.providers LIST '' - cluster
    Names of config providers; env and file are known.
connections.max.idle.ms LONG 600000 - fixed
    A connection without a request for so long is closed.
controlled.shutdown.enable BOOLEAN true - fixed
    Hand leadership over before stopping.
controller.listener.names LIST '' - fixed
    Listeners meant for Kafka controllers; they are not opened.
cordoned.log.dirs LIST '' - broker
    Log directories that get no new partitions; * is all, and then the broker gets no new replicas.
default.replication.factor INT 1 - fixed
    Replicas of a topic that is created without a factor.
delete.topic.enable BOOLEAN true - fixed
    Allow topics to be deleted.
fetch.max.bytes INT 57671680 >=1024 fixed
    Most bytes in one Fetch reply; the first batch is always sent.
group.initial.rebalance.delay.ms INT 3000 - fixed
    How long an empty group waits for more members.
group.max.session.timeout.ms INT 1800000 - fixed
    Longest session timeout of a group member.
group.max.size INT 2147483647 >=1 fixed
    Most members of a group.
group.min.session.timeout.ms INT 6000 - fixed
    Shortest session timeout of a group member.
inter.broker.listener.name STRING null - fixed
    Advertised listener by which brokers reach each other; with one listener it need not be named.
leader.imbalance.check.interval.seconds LONG 300 >=1 fixed
    How often partitions are looked at for that.
listener.security.protocol.map STRING \
SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT - broker
    Security protocol of each listener name.
listeners LIST PLAINTEXT://:9092 - broker
    Addresses to listen on, as NAME://host:port; an empty host means every interface.
log.cleaner.backoff.ms LONG 15000 >=0 cluster
    Pause of the cleaner when nothing is dirty.
log.cleaner.dedupe.buffer.size LONG 134217728 - cluster
    Memory for the keys of one compaction round.
log.cleaner.delete.retention.ms LONG 86400000 >=0 cluster
    Tombstones stay so long.
log.cleaner.enable BOOLEAN true - fixed
    Compact topics whose policy says so.
log.cleaner.max.compaction.lag.ms LONG 9223372036854775807 >=1 cluster
    Records older than this are compacted, whatever the ratio.
log.cleaner.min.cleanable.ratio DOUBLE 0.5 0..1 cluster
    Compact when this share of the log is dirty.
log.cleaner.min.compaction.lag.ms LONG 0 >=0 cluster
    Records younger than this are not compacted.
log.cleanup.policy LIST delete compact|delete cluster
    delete, compact or both.
log.dir LIST /tmp/kafka-logs - fixed
    Directory of the logs where log.dirs is not set.
log.dirs LIST null - fixed
    Directory of the logs.
log.flush.interval.messages LONG 9223372036854775807 >=1 cluster
    Flush after so many messages.
log.flush.interval.ms LONG null - cluster
    Flush after so long; unset takes log.flush.scheduler.interval.ms.
log.flush.offset.checkpoint.interval.ms INT 60000 >=0 fixed
    How often recovery points are written at least.
log.flush.scheduler.interval.ms LONG 9223372036854775807 - fixed
    How often logs are looked at for flush.ms; the default is once a second.
log.flush.start.offset.checkpoint.interval.ms INT 60000 >=0 fixed
    How often log start offsets are written at least.
log.index.interval.bytes INT 4096 >=0 cluster
    Bytes of log between two index entries.
log.index.size.max.bytes INT 10485760 >=4 cluster
    A segment is sealed when its index is this large.
log.initial.task.delay.ms LONG 30000 >=0 fixed internal
    Retention runs for the first time after this, or after its interval where that is shorter.
log.local.retention.bytes LONG -2 >=-2 cluster
    Bytes kept on local disk once copied; -2 is as retention.
log.local.retention.ms LONG -2 >=-2 cluster
    Time kept on local disk once copied; -2 is as retention.
log.remote.copy.lag.bytes LONG -1 >=-1 cluster
    A sealed segment is copied once so many newer bytes are in the log; 0 is at once, -1 is as local retention.
log.remote.copy.lag.ms LONG 0 >=-1 cluster
    A sealed segment is copied once its newest record is so old; 0 is at once, -1 is as local retention.
log.message.timestamp.after.max.ms LONG 3600000 >=0 cluster
    A record may be younger than the broker clock by this.
log.message.timestamp.before.max.ms LONG 9223372036854775807 >=0 cluster
    A record may be older than the broker clock by this.
log.message.timestamp.type STRING CreateTime CreateTime|LogAppendTime cluster
    Whose clock stamps records: CreateTime or LogAppendTime.
log.preallocate BOOLEAN false - cluster
    Allocate the file of a new segment whole.
log.retention.bytes LONG -1 - cluster
    A partition is cut to this size; -1 is no limit.
log.retention.check.interval.ms LONG 300000 >=1 fixed
    How often retention looks for segments to delete.
log.retention.hours INT 168 - fixed
    Retention time, where neither log.retention.ms nor log.retention.minutes is set.
log.retention.minutes INT null - fixed
    Retention time, where log.retention.ms is not set.
log.retention.ms LONG null - cluster
    Records older than this are deleted; -1 is no limit.
log.roll.hours INT 168 >=1 fixed
    A segment is sealed at this age, where log.roll.ms is not set.
log.roll.jitter.hours INT 0 >=0 fixed
    Random part of the age, where log.roll.jitter.ms is not set.
log.roll.jitter.ms LONG null - cluster
    Random part of the age, against sealing all at once.
log.roll.ms LONG null - cluster
    A segment is sealed at this age.
log.segment.bytes INT 1073741824 >=1048576 cluster
    A segment is sealed at this size.
log.segment.delete.delay.ms LONG 60000 >=0 cluster
    A deleted file stays so long.
max.connections INT 2147483647 >=0 cluster
    Most connections at once.
max.connections.per.ip INT 2147483647 >=0 cluster
    Most connections at once from one address.
max.connections.per.ip.overrides STRING '' - cluster
    Limits for single addresses, as host:limit.
max.incremental.fetch.session.cache.slots INT 1000 >=0 fixed
    Fetch sessions kept at once (KIP-227).
message.max.bytes INT 1048588 >=0 cluster
    Largest batch.
min.insync.replicas INT 1 >=1 cluster
    Replicas that must have an acks=all batch.
node.id INT 0 >=0 fixed
    Number of this broker; unique in the cluster.
num.partitions INT 1 >=1 fixed
    Partitions of a topic that is created without a count.
num.recovery.threads.per.data.dir INT 2 >=1 cluster
    Threads that recover logs at the start.
offset.metadata.max.bytes INT 4096 - fixed
    Largest metadata text of a committed offset.
offsets.retention.check.interval.ms LONG 600000 >=1 fixed
    How often expired offsets are looked for.
offsets.retention.minutes INT 10080 >=1 fixed
    Offsets of an empty group are forgotten after so long.
offsets.topic.num.partitions INT 50 >=1 fixed
    Partitions of __consumer_offsets; fixed once it exists.
offsets.topic.replication.factor SHORT 3 >=1 fixed
    Replicas of __consumer_offsets.
offsets.topic.segment.bytes INT 104857600 >=1 fixed
    Segment size of __consumer_offsets.
process.roles LIST broker broker|controller fixed
    Kafka roles of this process; it must contain broker.
producer.id.expiration.check.interval.ms INT 600000 >=1 fixed internal
    How often idle producer ids are looked for.
producer.id.expiration.ms INT 86400000 >=1 cluster
    State of an idle producer id is forgotten after so long.
queued.max.request.bytes LONG -1 - fixed
    Bytes of requests in flight beyond which reading pauses; -1 takes tierlog.request.memory.bytes.
remote.fetch.max.wait.ms INT 500 >=1 cluster
    How long a Fetch waits for remote data before it answers with what is there.
remote.list.offsets.request.timeout.ms LONG 30000 >=1 cluster
    How long a ListOffsets waits for remote data.
remote.log.index.file.cache.total.size.bytes LONG 1073741824 >=1 cluster
    Cache of remote indexes.
remote.log.manager.copy.max.bytes.per.second LONG 9223372036854775807 >=1 cluster
    Rate of all uploads to the object store together.
remote.log.manager.fetch.max.bytes.per.second LONG 9223372036854775807 >=1 cluster
    Rate of all reads of segments from the object store together; above it they wait.
remote.log.manager.task.interval.ms LONG 30000 >=1 fixed
    How often a partition is looked at for copying and deleting.
remote.log.storage.system.enable BOOLEAN false - fixed
    Allow topics to keep sealed segments in the object store.
replica.fetch.backoff.ms INT 1000 >=0 fixed
    Longest pause before a follower tries a leader again that did not answer.
replica.fetch.max.bytes INT 1048576 >=0 fixed
    Bytes of one partition in an answer to a follower; a batch that is larger comes whole.
replica.fetch.min.bytes INT 1 - fixed
    Bytes that a follower's fetch waits for.
replica.fetch.response.max.bytes INT 10485760 >=0 fixed
    Bytes of all partitions in an answer to a follower.
replica.fetch.wait.max.ms INT 500 - fixed
    How long a follower's fetch waits for news.
replica.high.watermark.checkpoint.interval.ms LONG 5000 - fixed
    How often high watermarks are written at least.
replica.lag.time.max.ms LONG 30000 - fixed
    A follower that has not caught up for so long leaves the in-sync replicas.
replica.selector.class STRING null \
org.apache.kafka.common.replica.RackAwareReplicaSelector|org.apache.kafka.common.replica.LeaderSelector fixed
    Who chooses the replica that a consumer reads from: the rack-aware one sends it to a follower in its client.rack.
replica.socket.timeout.ms INT 30000 - fixed
    A leader that does not answer for so long, beyond the wait, is connected to anew.
request.timeout.ms INT 30000 - fixed
    How long a request may wait for other brokers.
follower.replication.throttled.rate LONG 9223372036854775807 >=0 cluster internal
    Bytes per second that this broker copies of what topics list in follower.replication.throttled.replicas.
leader.replication.throttled.rate LONG 9223372036854775807 >=0 cluster internal
    Bytes per second that this broker sends of what topics list in leader.replication.throttled.replicas.
socket.listen.backlog.size INT 50 >=1 fixed
    Connections that may wait to be accepted.
socket.receive.buffer.bytes INT -1 - fixed
    SO_RCVBUF of client connections; -1 leaves it to the system, which adapts it: cheaper by a third per
    produced byte than Kafka's default of 102400.
socket.request.max.bytes INT 104857600 >=1 fixed
    Largest request; a larger one closes the connection.
socket.send.buffer.bytes INT -1 - fixed
    SO_SNDBUF of client connections; -1 leaves it to the system. Kafka's default is 102400.
unclean.leader.election.enable BOOLEAN false - cluster
    Allow a replica outside the ISR to lead, losing data.
""",
)

OWN = read_table(
    Status.HONOURED,
    """\
flush.mode STRING null os|ack fixed
    os answers after the append; ack flushes to disk before a replica counts a batch. Unset: ack with
    one replica, os with more.
metadata.store STRING null - fixed
    Metadata store: sqlite:PATH, memory: or etcd://HOST:PORT,HOST:PORT,... Unset: sqlite beside the logs.
tierlog.etcd.prefix STRING /tierlog - fixed
    What the keys of this cluster begin with in etcd; a name of its own for each cluster.
tierlog.etcd.user STRING null nonempty fixed
    User in etcd. Unset: none.
tierlog.etcd.password PASSWORD null - fixed
    Password of tierlog.etcd.user.
tierlog.etcd.ca.file STRING null nonempty fixed
    PEM file of the authority of etcd's certificates; switches TLS on.
tierlog.etcd.cert.file STRING null nonempty fixed
    PEM file of this broker's certificate, where etcd asks for one.
tierlog.etcd.key.file STRING null nonempty fixed
    PEM file of the key of tierlog.etcd.cert.file.
tierlog.object.store STRING null - fixed
    Object store of sealed segments: dir:PATH, s3://BUCKET/PREFIX?region=...&endpoint=... or
    gs://BUCKET/PREFIX. Unset: a directory beside the logs.
tierlog.host STRING null - fixed
    Machine of this broker, for placement of replicas. Unset: the boot id.
tierlog.cluster.id STRING null - fixed
    Id of the cluster. Unset: made at the first start.
tierlog.metadata.store.accept.empty BOOLEAN false - fixed
    Start beside an empty metadata store though the log directories belong to a cluster: all logs are
    set aside. Unset, an empty store is taken for the wrong one, and the start is refused.
tierlog.tiers STRING '' tiers cluster
    Storage class by age for topics with remote storage, as local:6h,standard:30d,infrequent:1y.
tierlog.validate.records BOOLEAN false - fixed
    Walk all records of a produced batch, not only its header.
tierlog.http.listeners LIST '' - fixed
    Addresses of /metrics, /healthz and /readyz, as host:port.
tierlog.request.memory.bytes LONG 67108864 >=1048576 fixed
    Bytes of all requests in flight beyond which reading pauses.
tierlog.reply.memory.bytes LONG 134217728 >=1048576 fixed
    Bytes of all replies that wait for their sockets or are being read; beyond half of what is left, fetches
    get less than they ask for.
tierlog.connection.output.bytes INT 8388608 >=65536 fixed
    Replies of one connection that may wait for its socket before its requests pause.
tierlog.disk.reserve.bytes LONG 67108864 >=0 fixed
    Free space of the log directory below which produce is refused.
tierlog.writeback.bytes INT 8388608 >=65536 fixed
    Writeback of a log starts each so many appended bytes.
tierlog.remote.delete.grace.ms LONG 60000 >=0 fixed
    Objects that nothing references stay so long.
tierlog.remote.copy.max.delay.ms LONG -1 1000..9223372036854775807,-1 cluster
    Records are sealed, to be copied, at most so long after they were written; -1 leaves it to segment size and age.
tierlog.remote.sweep.interval.ms LONG 86400000 >=60000 fixed
    Between two listings of a partition's objects that find what nothing references, if nothing calls for one earlier.
tierlog.remote.sweep.requests.per.hour INT 1000 >=1 fixed
    Requests that such listings, and the search for unfinished uploads, may make in an hour.
tierlog.chunk.bytes INT 4194304 1048576..67108864 fixed
    Bytes of one read from the object store where many readers share the memory; up to four times as much where few do.
tierlog.chunk.cache.memory.bytes LONG 134217728 >=0 fixed
    Memory of remote chunks, read or on their way: who finds none free waits for it.
tierlog.remote.cache.dir STRING null nonempty fixed
    Directory of the disk cache, in or above no log directory: what is read from the object store more than once stays
    there, over restarts. Each broker makes a directory of its own in it.
tierlog.remote.cache.max.bytes LONG 0 16777216..9223372036854775807,0 fixed
    Bytes of the disk cache of one broker; 0: none.
tierlog.replay.fetch.max.bytes.per.second LONG 9223372036854775807 >=1048576 cluster
    Bytes a second that all replays together may fetch from one broker; what they read from the bucket does not count.
tierlog.ledger.enable BOOLEAN true - fixed
    Write to the object store, once an hour, what was asked of it, moved and held: see docs/ledger.md.
tierlog.ledger.flush.interval.ms LONG 3600000 1000..3600000 cluster
    Write it more often: a broker that is killed loses what it had not written.
tierlog.ledger.retention.days INT 400 0..36500,-1 cluster
    Hours of the ledger stay so long; -1 is for ever.
tierlog.upload.concurrency INT 2 >=1 fixed
    Uploads at once.
""",
)
