"""From property texts to a ``BrokerConfig``: types, bounds, refusals, and the rules between properties.

Rules: every property is parsed by its definition; a field of the same name takes the value; what needs more
than that (listeners, log.* topic defaults, directories) is done here by name. A ``Property`` knows where it
was written, so that each error is one line that says where, what and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

from tierlog.config import etcd, listeners
from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import Definition, InvalidValue, Status, Value
from tierlog.config.lookup import BROKER
from tierlog.config.topic import TopicConfig
from tierlog.config.topic_defaults import topic_defaults
from tierlog.errors import UserError

# Prefixes under which Kafka passes settings to plugins that do not exist here.
_PLUGIN_PREFIXES = ("remote.log.storage.manager.impl.prefix", "remote.log.metadata.manager.impl.prefix")
_FIELDS = frozenset(field.name for field in fields(BrokerConfig))


class Property(NamedTuple):
    """``where`` begins an error line: ``server.properties:12``, ``KAFKA_LOG_DIRS``, ``command line``."""

    text: str
    where: str


class _Reader:
    """Parsed values by property name; defaults where nothing was given."""

    def __init__(self, given: Mapping[str, Property]) -> None:
        self.given = given
        self.values: dict[str, Value | None] = {}
        for definition in BROKER.values():
            default = definition.default
            self.values[definition.name] = None if default is None else definition.parse(default)
        for name, item in given.items():
            if name in BROKER:
                self.values[name] = self._parse(BROKER[name], item)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def is_given(self, name: str) -> bool:
        return name in self.given

    def error(self, name: str, reason: str) -> UserError:
        item = self.given.get(name)
        if item is None:
            return UserError(f"{name}: {reason}")
        return UserError(f"{item.where}: {name}={item.text}: {reason}")

    def _parse(self, definition: Definition, item: Property) -> Value:
        try:
            value = definition.parse(item.text)
        except InvalidValue as error:
            raise self.error(definition.name, f"{error.reason}; allowed is {definition.allowed}") from None
        if definition.status is Status.REFUSED and item.text.strip() != (definition.default or ""):
            raise self.error(definition.name, "not supported yet; remove it")
        return value


def build(given: Mapping[str, Property]) -> BrokerConfig:
    """The config of these properties, all of known names (see ``properties``). Raises UserError."""
    reader = _Reader(given)
    values: dict[str, Any] = {}
    for name, value in reader.values.items():
        field_name = name.replace(".", "_").replace("-", "_")
        if field_name in _FIELDS:
            values[field_name] = value
    values |= _identity(reader) | _network(reader) | _places(reader)
    values["max_connections_per_ip_overrides"] = _per_ip(reader)
    values["topic_defaults"] = _topic_defaults(reader)
    _check_between(reader)
    values["given"] = MappingProxyType({name: item.text for name, item in given.items()})
    values["meaningless"] = tuple(
        sorted(
            name
            for name in given
            if name not in BROKER or BROKER[name].status is Status.MEANINGLESS or _for_controllers(name)
        )
    )
    return BrokerConfig(**values)


def plugin_prefixes(given: Mapping[str, Property]) -> tuple[str, ...]:
    """Properties that begin so belong to plugins, or to the ZooKeeper of an older Kafka, and are accepted unread."""
    custom = [given[name].text.strip() for name in _PLUGIN_PREFIXES if name in given]
    return (
        "rsm.config.",
        "rlmm.config.",
        "config.providers.",
        "zookeeper.",
        *[prefix for prefix in custom if prefix],
    )


def _for_controllers(name: str) -> bool:
    return name in ("process.roles", "controller.listener.names")


def _identity(reader: _Reader) -> dict[str, Any]:
    node_id, broker_id = reader["node.id"], reader["broker.id"]
    if broker_id >= 0 and reader.is_given("node.id") and broker_id != node_id:
        raise reader.error("broker.id", f"node.id says {node_id}; leave broker.id out")
    if "broker" not in reader["process.roles"]:
        raise reader.error(
            "process.roles", "there is no controller process to start: metadata.store does its work"
        )
    return {"node_id": node_id if reader.is_given("node.id") or broker_id < 0 else broker_id}


def _network(reader: _Reader) -> dict[str, Any]:
    name = "listener.security.protocol.map"
    try:
        protocols = listeners.parse_protocol_map(reader[name].split(","))
        controllers = {text.upper() for text in reader["controller.listener.names"]}
        # Kafka gives the controllers' listener a protocol without being told.
        protocols |= {extra: "PLAINTEXT" for extra in controllers if extra not in protocols}
        name = "listeners"
        bound = listeners.parse_listeners(reader[name], protocols)
        bound = tuple(listener for listener in bound if listener.name not in controllers)
        listeners.check_bound(bound)
        advertised = bound
        if reader["advertised.listeners"]:
            name = "advertised.listeners"
            advertised = listeners.parse_listeners(reader[name], protocols)
            advertised = tuple(listener for listener in advertised if listener.name not in controllers)
        listeners.check_advertised(advertised, bound)
        name = "tierlog.http.listeners"
        http = listeners.parse_http(reader[name])
    except listeners.BadListeners as error:
        raise reader.error(name, str(error)) from None
    return {
        "listeners": bound,
        "advertised_listeners": advertised,
        "inter_broker_listener_name": _inter_broker(reader, [listener.name for listener in advertised]),
        "tierlog_http_listeners": http,
    }


def _inter_broker(reader: _Reader, names: list[str]) -> str:
    """The listener by which brokers reach each other."""
    key = "inter.broker.listener.name"
    if reader[key] is None:
        name = str(reader["security.inter.broker.protocol"])
        # With a single listener there is nothing to choose; Kafka insists on its being named.
        if name not in names and len(names) == 1 and not reader.is_given("security.inter.broker.protocol"):
            name = names[0]
    elif reader.is_given("security.inter.broker.protocol"):
        raise reader.error(key, "security.inter.broker.protocol is set as well; leave one of them out")
    else:
        name = str(reader[key]).upper()
    if name not in names:
        raise reader.error(key, f"{name} is not an advertised listener; there are {', '.join(names)}")
    return name


def _places(reader: _Reader) -> dict[str, Any]:
    name = "log.dirs" if reader.is_given("log.dirs") else "log.dir"
    dirs = tuple(path for path in reader[name] if path)
    if not dirs:
        raise reader.error(name, "is empty")
    if len({path.rstrip("/") for path in dirs}) < len(dirs):
        raise reader.error(name, "names a directory twice")
    root = dirs[0].rstrip("/")
    try:
        etcd.check_etcd(reader.values)
    except etcd.BadEtcd as error:
        raise reader.error(error.name, str(error)) from None
    return {
        "log_dirs": dirs,
        "metadata_store": _url(reader, "metadata.store", f"sqlite:{root}/tierlog/metadata.db"),
        "tierlog_object_store": _url(reader, "tierlog.object.store", f"dir:{root}/tierlog/objects"),
    }


_SCHEMES = {
    "metadata.store": ("sqlite:", "etcd://", "memory:"),
    "tierlog.object.store": ("dir:", "s3:", "memory:"),
}
_LATER: dict[str, tuple[str, ...]] = {"metadata.store": (), "tierlog.object.store": ("gs:",)}


def _url(reader: _Reader, name: str, default: str) -> str:
    url = str(reader[name] or default)
    if url.startswith(_LATER[name]):
        raise reader.error(name, f"not supported yet; known are {', '.join(_SCHEMES[name])}")
    if not url.startswith(_SCHEMES[name]) or (url in _SCHEMES[name] and url != "memory:"):
        raise reader.error(name, f"expected {' or '.join(_SCHEMES[name])} and where it is")
    return url


def _per_ip(reader: _Reader) -> Mapping[str, int]:
    name = "max.connections.per.ip.overrides"
    limits: dict[str, int] = {}
    for part in str(reader[name]).split(","):
        if not part.strip():
            continue
        host, _, limit = part.strip().rpartition(":")
        if not host or not limit.isdigit():
            raise reader.error(name, f"{part.strip()!r} is not host:limit")
        limits[host] = int(limit)
    if reader["max.connections.per.ip"] == 0 and not limits:
        raise reader.error("max.connections.per.ip", f"0 needs {name} to let anybody in")
    return MappingProxyType(limits)


def _topic_defaults(reader: _Reader) -> TopicConfig:
    if reader["compression.type"] != "producer":
        raise reader.error("compression.type", "not supported yet; only producer is")
    defaults = topic_defaults(reader.values)
    if defaults.retention_ms == 0:
        names = ("log.retention.ms", "log.retention.minutes", "log.retention.hours")
        name = next(name for name in names if reader[name] is not None)
        raise reader.error(name, "0 would delete everything; -1 keeps everything, 1 or more is a time")
    if defaults.max_compaction_lag_ms < defaults.min_compaction_lag_ms:
        raise reader.error(
            "log.cleaner.max.compaction.lag.ms",
            f"less than log.cleaner.min.compaction.lag.ms ({defaults.min_compaction_lag_ms})",
        )
    for local, total, name in (
        (defaults.local_retention_ms, defaults.retention_ms, "log.local.retention.ms"),
        (defaults.local_retention_bytes, defaults.retention_bytes, "log.local.retention.bytes"),
    ):
        if reader.is_given(name) and total != -1 and (local == -1 or local > total):
            raise reader.error(name, f"more than {name.replace('local.', '')}, which is {total}")
    return defaults


def _check_between(reader: _Reader) -> None:
    def at_most(small: str, large: str) -> None:
        if reader[small] > reader[large]:
            name, other = (small, large) if reader.is_given(small) else (large, small)
            word = "at most" if name == small else "at least"
            raise reader.error(name, f"must be {word} {other}, which is {reader[other]}")

    at_most("replica.fetch.wait.max.ms", "replica.socket.timeout.ms")
    at_most("replica.fetch.wait.max.ms", "replica.lag.time.max.ms")
    at_most("group.min.session.timeout.ms", "group.max.session.timeout.ms")
    if 2 * reader["broker.heartbeat.interval.ms"] > reader["broker.session.timeout.ms"]:
        name = "broker.heartbeat.interval.ms"
        name = name if reader.is_given(name) else "broker.session.timeout.ms"
        raise reader.error(name, "the session must last two heartbeat intervals at least")
    if 0 <= reader["queued.max.request.bytes"] < reader["socket.request.max.bytes"]:
        raise reader.error(
            "queued.max.request.bytes",
            f"less than socket.request.max.bytes ({reader['socket.request.max.bytes']})",
        )
    if reader["log.cleaner.dedupe.buffer.size"] < 1_048_576 * max(1, reader["log.cleaner.threads"]):
        raise reader.error("log.cleaner.dedupe.buffer.size", "at least 1 MiB for each of log.cleaner.threads")
