"""Properties of Kafka 4.4 that are known but not honoured: Kafka's facts, one row each (see ``table``).

MEANINGLESS properties have nothing to act on here (thread pools of the JVM, the KRaft quorum) or belong to features that are
not served yet (transactions, share groups), so that nobody can rely on them. REFUSED properties are those that a user would
rely on (security, policies, throttles, every class that would have to be loaded); they may only have their default.
"""

from __future__ import annotations

from tierlog.config.definitions import Status
from tierlog.config.table import read_table

MEANINGLESS = read_table(
    Status.MEANINGLESS,
    """\
add.partitions.to.txn.retry.backoff.max.ms INT 100 >=0 fixed
add.partitions.to.txn.retry.backoff.ms INT 20 >=1 fixed
alter.log.dirs.replication.quota.window.num INT 11 >=1 fixed
alter.log.dirs.replication.quota.window.size.seconds INT 1 >=1 fixed
background.threads INT 10 >=1 cluster
compression.gzip.level INT -1 1..9,-1 cluster
compression.lz4.level INT 9 1..17 cluster
compression.zstd.level INT 3 -131072..22 cluster
connection.failed.authentication.delay.ms INT 100 >=0 fixed
controller.performance.always.log.threshold.ms LONG 2000 >=0 fixed internal
controller.performance.sample.period.ms LONG 60000 >=100 fixed internal
controller.quorum.append.linger.ms INT 25 >=0 fixed
controller.quorum.auto.join.enable BOOLEAN false - fixed
controller.quorum.bootstrap.servers LIST '' - fixed
controller.quorum.election.backoff.max.ms INT 1000 >=0 fixed
controller.quorum.election.timeout.ms INT 1000 >=0 fixed
controller.quorum.fetch.max.bytes INT 1048576 >=1 fixed
controller.quorum.fetch.snapshot.max.bytes INT 1048576 >=1 fixed
controller.quorum.fetch.timeout.ms INT 2000 >=0 fixed
controller.quorum.request.timeout.ms INT 2000 >=0 fixed
controller.quorum.retry.backoff.ms INT 20 >=0 fixed
controller.quorum.voters LIST '' - fixed
controller.quota.window.num INT 11 >=1 fixed
controller.quota.window.size.seconds INT 1 >=1 fixed
controller.socket.timeout.ms INT 30000 - fixed
delegation.token.expiry.check.interval.ms LONG 3600000 >=1 fixed
delegation.token.expiry.time.ms LONG 86400000 >=1 fixed
delegation.token.max.lifetime.ms LONG 604800000 >=1 fixed
delete.records.purgatory.purge.interval.requests INT 1 - fixed
early.start.listeners LIST null - fixed
errors.deadletterqueue.auto.create.topics.enable BOOLEAN false - cluster
errors.deadletterqueue.topic.name.prefix STRING dlq. - cluster
fetch.purgatory.purge.interval.requests INT 1000 - fixed
group.consumer.assignment.interval.ms INT 1000 >=0 cluster
group.consumer.assignor.offload.enable BOOLEAN true - cluster internal
group.consumer.assignors LIST uniform,range - fixed
group.consumer.heartbeat.interval.ms INT 5000 >=1 fixed
group.consumer.max.assignment.interval.ms INT 15000 >=0 fixed
group.consumer.max.heartbeat.interval.ms INT 15000 >=1 fixed
group.consumer.max.session.timeout.ms INT 60000 >=1 fixed
group.consumer.max.size INT 2147483647 >=1 fixed
group.consumer.migration.policy STRING bidirectional DISABLED|DOWNGRADE|UPGRADE|BIDIRECTIONAL/i fixed
group.consumer.min.assignment.interval.ms INT 0 >=0 fixed
group.consumer.min.heartbeat.interval.ms INT 5000 >=1 fixed
group.consumer.min.session.timeout.ms INT 45000 >=1 fixed
group.consumer.regex.refresh.interval.ms INT 600000 >=10000 fixed internal
group.consumer.session.timeout.ms INT 45000 >=1 fixed
group.coordinator.append.linger.ms INT -1 >=-1 fixed
group.coordinator.background.threads INT 2 >=1 fixed
group.coordinator.cached.buffer.max.bytes INT 1048588 >=524288 cluster
group.coordinator.rebalance.protocols LIST classic,consumer,streams consumer|classic|share|streams fixed
group.coordinator.threads INT 4 >=1 fixed
group.share.assignment.interval.ms INT 1000 >=0 cluster
group.share.assignor.offload.enable BOOLEAN true - cluster internal
group.share.assignors LIST simple - fixed
group.share.delivery.count.limit INT 5 2..10 fixed
group.share.heartbeat.interval.ms INT 5000 >=1 fixed
group.share.initialize.retry.interval.ms INT 30000 >=1 fixed internal
group.share.max.assignment.interval.ms INT 15000 >=0 fixed
group.share.max.delivery.count.limit INT 10 5..25 fixed
group.share.max.heartbeat.interval.ms INT 15000 >=1 fixed
group.share.max.partition.max.record.locks INT 4000 2000..10000 fixed
group.share.max.record.lock.duration.ms INT 60000 30000..3600000 fixed
group.share.max.session.timeout.ms INT 60000 >=1 fixed
group.share.max.share.sessions INT 2000 >=1 fixed
group.share.max.size INT 200 1..1000 fixed
group.share.min.assignment.interval.ms INT 0 >=0 fixed
group.share.min.delivery.count.limit INT 2 2..5 fixed
group.share.min.heartbeat.interval.ms INT 5000 >=1 fixed
group.share.min.partition.max.record.locks INT 100 100..2000 fixed
group.share.min.record.lock.duration.ms INT 15000 1000..30000 fixed
group.share.min.session.timeout.ms INT 45000 >=1 fixed
group.share.partition.max.record.locks INT 2000 100..10000 fixed
group.share.record.lock.duration.ms INT 30000 1000..3600000 fixed
group.share.session.timeout.ms INT 45000 >=1 fixed
group.streams.acceptable.recovery.lag LONG 10000 >=0 fixed internal
group.streams.assignment.interval.ms INT 1000 >=0 cluster
group.streams.assignor.offload.enable BOOLEAN true - cluster internal
group.streams.assignors LIST sticky - fixed
group.streams.heartbeat.interval.ms INT 5000 >=1 fixed
group.streams.initial.rebalance.delay.ms INT 3000 >=0 fixed
group.streams.max.assignment.interval.ms INT 15000 >=0 fixed
group.streams.max.heartbeat.interval.ms INT 15000 >=1 fixed
group.streams.max.session.timeout.ms INT 60000 >=1 fixed
group.streams.max.size INT 2147483647 >=1 fixed
group.streams.max.standby.replicas INT 2 >=0 fixed
group.streams.max.warmup.replicas INT 20 >=0 fixed internal
group.streams.min.assignment.interval.ms INT 0 >=0 fixed
group.streams.min.heartbeat.interval.ms INT 5000 >=1 fixed
group.streams.min.session.timeout.ms INT 45000 >=1 fixed
group.streams.min.task.offset.interval.ms INT 15000 >=1 fixed internal
group.streams.num.standby.replicas INT 0 >=0 fixed
group.streams.num.warmup.replicas INT 2 >=0 fixed internal
group.streams.rack.aware.assignment.tags LIST '' - fixed
group.streams.session.timeout.ms INT 45000 >=1 fixed
group.streams.task.offset.interval.ms INT 60000 >=1 fixed internal
initial.broker.registration.timeout.ms INT 60000 - fixed
internal.metadata.delete.delay.millis LONG 60000 - fixed internal
internal.metadata.log.segment.bytes INT null - fixed internal
internal.metadata.max.batch.size.in.bytes INT 8388608 - fixed internal
kafka.metrics.polling.interval.secs INT 10 >=1 fixed
log.cleaner.io.buffer.load.factor DOUBLE 0.9 - cluster
log.cleaner.io.buffer.size INT 524288 >=0 cluster
log.cleaner.threads INT 1 >=0 cluster
log.dir.failure.timeout.ms LONG 30000 >=1 fixed
max.decompressed.message.bytes INT 2147483639 1..2147483639 cluster
max.request.partition.size.limit INT 2000 >=1 fixed
metadata.log.dir STRING null - fixed
metadata.log.max.record.bytes.between.snapshots LONG 20971520 >=1 fixed
metadata.log.max.snapshot.interval.ms LONG 3600000 >=0 fixed
metadata.log.segment.bytes INT 1073741824 >=8388608 fixed
metadata.log.segment.ms LONG 604800000 - fixed
metadata.max.idle.interval.ms INT 500 >=0 fixed
metadata.max.retention.bytes LONG 104857600 - fixed
metadata.max.retention.ms LONG 604800000 - fixed
metrics.num.samples INT 2 >=1 fixed
metrics.recording.level STRING INFO - fixed
metrics.sample.window.ms LONG 30000 >=1 fixed
num.io.threads INT 8 >=1 cluster
num.network.threads INT 3 >=1 cluster
num.replica.alter.log.dirs.threads INT null - fixed
num.replica.fetchers INT 1 >=1 cluster
offsets.commit.timeout.ms INT 5000 >=1 fixed
offsets.load.buffer.size INT 5242880 >=1 fixed
producer.purgatory.purge.interval.requests INT 1000 - fixed
queued.max.requests INT 500 >=1 fixed
quota.window.num INT 11 >=1 fixed
quota.window.size.seconds INT 1 >=1 fixed
remote.log.index.file.cache.ttl.ms LONG 900000 >=-1 fixed internal
remote.log.manager.copier.thread.pool.size INT 10 >=1 cluster
remote.log.manager.copy.quota.window.num INT 11 >=1 fixed
remote.log.manager.copy.quota.window.size.seconds INT 1 >=1 fixed
remote.log.manager.expiration.thread.pool.size INT 10 >=1 cluster
remote.log.manager.fetch.quota.window.num INT 11 >=1 fixed
remote.log.manager.fetch.quota.window.size.seconds INT 1 >=1 fixed
remote.log.manager.follower.thread.pool.size INT 2 >=1 cluster
remote.log.manager.task.retry.backoff.max.ms LONG 30000 >=1 fixed internal
remote.log.manager.task.retry.backoff.ms LONG 500 >=1 fixed internal
remote.log.manager.task.retry.jitter DOUBLE 0.2 0..0.5 fixed internal
remote.log.manager.thread.pool.size INT 2 >=1 fixed
remote.log.metadata.custom.metadata.max.bytes INT 128 >=0 fixed
remote.log.reader.max.pending.tasks INT 100 >=1 fixed
remote.log.reader.threads INT 10 >=1 cluster
replica.socket.receive.buffer.bytes INT 65536 - fixed
replication.quota.window.num INT 11 >=1 fixed
replication.quota.window.size.seconds INT 1 >=1 fixed
security.inter.broker.protocol STRING PLAINTEXT PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL fixed
server.max.startup.time.ms LONG 9223372036854775807 >=0 fixed internal
share.coordinator.append.linger.ms INT -1 >=-1 fixed
share.coordinator.cached.buffer.max.bytes INT 1048588 >=524288 cluster
share.coordinator.cold.partition.snapshot.interval.ms INT 300000 >=1 fixed internal
share.coordinator.load.buffer.size INT 5242880 >=1 fixed
share.coordinator.snapshot.update.records.per.snapshot INT 500 0..500 fixed
share.coordinator.state.topic.compression.codec INT 0 - fixed
share.coordinator.state.topic.min.isr SHORT 2 >=1 fixed
share.coordinator.state.topic.num.partitions INT 50 >=1 fixed
share.coordinator.state.topic.prune.interval.ms INT 300000 >=1 fixed internal
share.coordinator.state.topic.replication.factor SHORT 3 >=1 fixed
share.coordinator.state.topic.segment.bytes INT 104857600 >=1 fixed
share.coordinator.threads INT 1 >=1 fixed
share.coordinator.write.timeout.ms INT 5000 >=1 fixed
share.fetch.purgatory.purge.interval.requests INT 1000 - fixed
socket.connection.setup.timeout.max.ms LONG 30000 - fixed
socket.connection.setup.timeout.ms LONG 10000 - fixed
telemetry.max.bytes INT 1048576 >=1 fixed
transaction.abort.timed.out.transaction.cleanup.interval.ms INT 10000 >=1 fixed
transaction.max.timeout.ms INT 900000 >=1 fixed
transaction.partition.verification.enable BOOLEAN true - cluster
transaction.remove.expired.transaction.cleanup.interval.ms INT 3600000 >=1 fixed
transaction.state.log.load.buffer.size INT 5242880 >=1 fixed
transaction.state.log.min.isr INT 2 >=1 fixed
transaction.state.log.num.partitions INT 50 >=1 fixed
transaction.state.log.replication.factor SHORT 3 >=1 fixed
transaction.state.log.segment.bytes INT 104857600 >=1 fixed
transactional.id.expiration.ms INT 604800000 >=1 fixed
unclean.leader.election.interval.ms LONG 300000 >=1 fixed internal
""",
)

REFUSED = read_table(
    Status.REFUSED,
    """\
alter.config.policy.class.name CLASS null - fixed
authorizer.class.name STRING '' - fixed
client.quota.callback.class CLASS null - fixed
connections.max.reauth.ms LONG 0 - fixed
create.topic.policy.class.name CLASS null - fixed
delegation.token.secret.key PASSWORD null - fixed
follower.fetch.last.tiered.offset.enable BOOLEAN true - cluster
group.share.dlq.manager.class.name STRING \
org.apache.kafka.server.share.dlq.DefaultShareGroupDLQManager - fixed internal
group.share.persister.class.name STRING \
org.apache.kafka.server.share.persister.DefaultStatePersister - fixed internal
group.streams.topology.description.plugin.class CLASS null - fixed
kafka.metrics.reporters LIST '' - fixed
log.cleaner.io.max.bytes.per.second DOUBLE 1.7976931348623157E308 - cluster
max.connection.creation.rate INT 2147483647 >=0 cluster
metric.reporters LIST org.apache.kafka.common.metrics.JmxReporter - cluster
offsets.topic.compression.codec INT 0 - fixed
principal.builder.class CLASS \
org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder - broker
remote.log.metadata.manager.class.name STRING \
org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager nonempty fixed
remote.log.metadata.manager.class.path STRING null - fixed
remote.log.metadata.manager.impl.prefix STRING rlmm.config. nonempty fixed
remote.log.metadata.manager.listener.name STRING null nonempty fixed
remote.log.storage.manager.class.name STRING null nonempty fixed
remote.log.storage.manager.class.path STRING null - fixed
remote.log.storage.manager.impl.prefix STRING rsm.config. nonempty fixed
sasl.client.callback.handler.class CLASS null - fixed
sasl.enabled.mechanisms LIST GSSAPI - broker
sasl.jaas.config PASSWORD null - broker
sasl.kerberos.kinit.cmd STRING /usr/bin/kinit - broker
sasl.kerberos.min.time.before.relogin LONG 60000 - broker
sasl.kerberos.principal.to.local.rules LIST DEFAULT - broker
sasl.kerberos.service.name STRING null - broker
sasl.kerberos.ticket.renew.jitter DOUBLE 0.05 - broker
sasl.kerberos.ticket.renew.window.factor DOUBLE 0.8 - broker
sasl.login.callback.handler.class CLASS null - fixed
sasl.login.class CLASS null - fixed
sasl.login.connect.timeout.ms INT null - fixed
sasl.login.read.timeout.ms INT null - fixed
sasl.login.refresh.buffer.seconds SHORT 300 - broker
sasl.login.refresh.min.period.seconds SHORT 60 - broker
sasl.login.refresh.window.factor DOUBLE 0.8 - broker
sasl.login.refresh.window.jitter DOUBLE 0.05 - broker
sasl.login.retry.backoff.max.ms LONG 10000 - fixed
sasl.login.retry.backoff.ms LONG 100 - fixed
sasl.mechanism.controller.protocol STRING GSSAPI - fixed
sasl.mechanism.inter.broker.protocol STRING GSSAPI - broker
sasl.oauthbearer.allow.unverified.audience BOOLEAN false - fixed
sasl.oauthbearer.allow.unverified.issuer BOOLEAN false - fixed
sasl.oauthbearer.assertion.algorithm STRING RS256 ES256|RS256/i fixed
sasl.oauthbearer.assertion.claim.aud STRING null - fixed
sasl.oauthbearer.assertion.claim.exp.seconds INT 300 0..86400 fixed
sasl.oauthbearer.assertion.claim.iss STRING null - fixed
sasl.oauthbearer.assertion.claim.jti.include BOOLEAN false - fixed
sasl.oauthbearer.assertion.claim.nbf.seconds INT 60 0..3600 fixed
sasl.oauthbearer.assertion.claim.sub STRING null - fixed
sasl.oauthbearer.assertion.file STRING null - fixed
sasl.oauthbearer.assertion.private.key.file STRING null - fixed
sasl.oauthbearer.assertion.private.key.passphrase PASSWORD null - fixed
sasl.oauthbearer.assertion.template.file STRING null - fixed
sasl.oauthbearer.client.credentials.client.id STRING null - fixed
sasl.oauthbearer.client.credentials.client.secret PASSWORD null - fixed
sasl.oauthbearer.clock.skew.seconds INT 30 - fixed
sasl.oauthbearer.expected.audience LIST '' - fixed
sasl.oauthbearer.expected.issuer STRING null - fixed
sasl.oauthbearer.jwks.endpoint.refresh.ms LONG 3600000 - fixed
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms LONG 10000 - fixed
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms LONG 100 - fixed
sasl.oauthbearer.jwks.endpoint.url STRING null - fixed
sasl.oauthbearer.jwt.retriever.class CLASS \
org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever - fixed
sasl.oauthbearer.jwt.validator.class CLASS \
org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator - fixed
sasl.oauthbearer.scope STRING null - fixed
sasl.oauthbearer.scope.claim.name STRING scope - fixed
sasl.oauthbearer.sub.claim.name STRING sub - fixed
sasl.oauthbearer.token.endpoint.url STRING null - fixed
sasl.server.callback.handler.class CLASS null - fixed
sasl.server.max.receive.size INT 524288 - fixed
security.providers STRING null - fixed
ssl.allow.dn.changes BOOLEAN false - fixed
ssl.allow.san.changes BOOLEAN false - fixed
ssl.cipher.suites LIST '' - broker
ssl.client.auth STRING none required|requested|none broker
ssl.enabled.protocols LIST TLSv1.2,TLSv1.3 - broker
ssl.endpoint.identification.algorithm STRING https - broker
ssl.engine.factory.class CLASS null - broker
ssl.key.password PASSWORD null - broker
ssl.keymanager.algorithm STRING SunX509 - broker
ssl.keystore.certificate.chain PASSWORD null - broker
ssl.keystore.key PASSWORD null - broker
ssl.keystore.location STRING null - broker
ssl.keystore.password PASSWORD null - broker
ssl.keystore.type STRING JKS - broker
ssl.principal.mapping.rules STRING DEFAULT - fixed
ssl.protocol STRING TLSv1.3 - broker
ssl.provider STRING null - broker
ssl.secure.random.implementation STRING null - broker
ssl.trustmanager.algorithm STRING PKIX - broker
ssl.truststore.certificates PASSWORD null - broker
ssl.truststore.location STRING null - broker
ssl.truststore.password PASSWORD null - broker
ssl.truststore.type STRING JKS - broker
transaction.two.phase.commit.enable BOOLEAN false - fixed
unstable.api.versions.enable BOOLEAN false - fixed internal
unstable.feature.versions.enable BOOLEAN false - fixed internal
""",
)
