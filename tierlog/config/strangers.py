"""Properties that are neither Kafka 4.4's nor tierlog's: removed ones, those of other products and plugins, typing errors.

Rules: a property that would promise something is refused, with what to set instead. A property whose feature is gone
(ZooKeeper, old formats) or that has lost its meaning is accepted, and reported as having no effect. None is ignored
silently. Versions are those of Kafka's upgrade notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tierlog.config.lookup import BROKER, TOPIC
from tierlog.config.problems import Property
from tierlog.config.spelling import nearest

_LONG_MAX = str(2**63 - 1)


class Judgement(NamedTuple):
    """``reason`` completes ``name: …``. If ``is_refused``, the broker does not start."""

    reason: str
    is_refused: bool


class _Removed(NamedTuple):
    """Harmless with one of the values ``texts``, or ``beside`` a property that disabled it in Kafka as well. With
    ``texts`` None it always is."""

    version: str
    instead: str
    texts: tuple[str, ...] | None = None
    beside: tuple[str, ...] = ()


_ZOOKEEPER = _Removed("4.0", "metadata.store takes ZooKeeper's place")
_BOUND = _Removed("3.0", "set listeners=PLAINTEXT://HOST:PORT", (), ("listeners",))
_TOLD = _Removed("3.0", "set advertised.listeners=PLAINTEXT://HOST:PORT", (), ("advertised.listeners",))
_QUOTA = _Removed("3.0", "quotas of clients took its place; they are not supported yet", (_LONG_MAX,))
_SHUTDOWN = _Removed("4.0", "a clean stop waits for its hand-over, see controlled.shutdown.enable")
_REMOVED = {
    "replica.lag.max.messages": _Removed("0.9", "replica.lag.time.max.ms decides"),
    "advertised.host.name": _TOLD,
    "advertised.port": _TOLD,
    "host.name": _BOUND,
    "port": _BOUND,
    "quota.consumer.default": _QUOTA,
    "quota.producer.default": _QUOTA,
    "auto.include.jmx.reporter": _Removed("4.0", "metrics are served by tierlog.http.listeners"),
    "broker.id.generation.enable": _Removed("4.0", "set node.id", ("false",), ("node.id", "broker.id")),
    "reserved.broker.max.id": _Removed("4.0", "node.id may be any number"),
    "control.plane.listener.name": _Removed(
        "4.0", "nothing is served by a listener apart; remove it, and the listener from listeners", ()
    ),
    "controlled.shutdown.max.retries": _SHUTDOWN,
    "controlled.shutdown.retry.backoff.ms": _SHUTDOWN,
    "delegation.token.master.key": _Removed("4.0", "delegation tokens are not supported yet; remove it", ()),
    "inter.broker.protocol.version": _Removed("4.0", "brokers agree on it by themselves"),
    "leader.imbalance.per.broker.percentage": _Removed(
        "4.0", "any imbalance is put right, see auto.leader.rebalance.enable"
    ),
    "log.message.downconversion.enable": _Removed("4.0", "old record formats are not served"),
    "log.message.format.version": _Removed("4.0", "there is one record format"),
    "log.message.timestamp.difference.max.ms": _Removed(
        "4.0",
        "set log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
        (_LONG_MAX,),
    ),
    "offsets.commit.required.acks": _Removed("4.0", "a commit waits for all in-sync replicas"),
}
_REMOVED_PREFIXES = {
    "zookeeper.": _ZOOKEEPER,
    "password.encoder.": _Removed("4.0", "dynamic configs are not encoded"),
}

_ACLS = "belongs to an authorizer; ACLs are not supported yet; remove it"
_OBJECT_STORE = "tierlog.object.store=s3://BUCKET/PREFIX?region=REGION&endpoint=URL"
# Prefixes of the properties of other products and plugins.
_FOREIGN = {
    "listener.name.": "settings of single listeners are not supported yet; remove it",
    "allow.everyone.if.no.acl.found": _ACLS,
    "super.users": _ACLS,
    "strimzi.authorization.": _ACLS,
    "opa.authorizer.": _ACLS,
    "strimzi.": "is of Strimzi's own; remove it",
    "client.quota.callback.": "belongs to a quota plugin; quotas of clients are not supported yet; remove it",
    "cruise.control.": "belongs to Cruise Control's reporter, which is not loaded; remove it",
    "confluent.tier.": f"is of Confluent's tiered storage; remove it and set {_OBJECT_STORE}",
    "confluent.": "is of Confluent Server's own; nothing here would keep its promise; remove it",
    "kafka.rest.": "is of Confluent's REST server, which does not run here; remove it",
    "ldap.": "belongs to Confluent's LDAP authorizer; ACLs are not supported yet; remove it",
    "s3.": f"is of AutoMQ's own; remove it, and say where sealed segments go by {_OBJECT_STORE}",
    "elasticstream.": "is of AutoMQ's own: logs lie in log.dirs here, sealed segments in tierlog.object.store; remove it",
    "autobalancer.": "is of AutoMQ's own; leaders are balanced by auto.leader.rebalance.enable; remove it",
    "automq.": "is of AutoMQ's own; remove it",
    "cfg.": "is a variable of Bitnami's image; name it KAFKA_… without CFG_",
}
# Client properties, which have no effect in a broker's file; Bitnami's file has them.
_CLIENTS = {
    "max.partition.fetch.bytes": "a property of consumers; it has no effect in a broker's file",
    "max.request.size": "a property of producers, the broker's is message.max.bytes; it has no effect in a broker's file",
}


def judge(name: str, given: Mapping[str, Property]) -> Judgement:
    """How to treat a property that is neither Kafka 4.4's nor tierlog's, given the other properties."""
    removed = _removed(name)
    if removed is not None:
        reason = f"removed in Kafka {removed.version}; {removed.instead}"
        if _is_harmless(removed, name, given):
            return Judgement(f"{reason}; it has no effect, the line may go", is_refused=False)
        return Judgement(reason, is_refused=True)
    if name in _CLIENTS:
        return Judgement(_CLIENTS[name], is_refused=False)
    for prefix, reason in _FOREIGN.items():
        if name.startswith(prefix):
            return Judgement(reason, is_refused=True)
    return Judgement(f"unknown; {unknown_hint(name)}", is_refused=True)


def unknown_hint(name: str) -> str:
    """The known name that may have been meant, if one is near."""
    if not name:
        return "a line needs a name before its value"
    if name in TOPIC and TOPIC[name].synonyms:
        return f"it is a topic's config; the broker's default for it is {TOPIC[name].synonyms[0]}"
    if name in TOPIC:
        return "it is a topic's config, and brokers have no default for it; set it on topics"
    near = nearest(name, BROKER)
    if near is not None:
        return f"did you mean {near}?"
    return "neither Kafka 4.4 nor tierlog has such a property; correct its name or remove it"


def _removed(name: str) -> _Removed | None:
    found = _REMOVED.get(name)
    if found is None:
        found = next((row for prefix, row in _REMOVED_PREFIXES.items() if name.startswith(prefix)), None)
    return found


def _is_harmless(removed: _Removed, name: str, given: Mapping[str, Property]) -> bool:
    return (
        removed.texts is None
        or given[name].text.strip() in removed.texts
        or any(other in given for other in removed.beside)
    )
