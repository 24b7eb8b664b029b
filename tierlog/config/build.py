"""From property texts to a ``BrokerConfig``: types, bounds, refusals, and the rules between properties.

Rules: every property is parsed by its definition, and a field of the same name takes the value. Properties that need
more than that (listeners, log.* topic defaults, directories) are handled here by name. A mistake does not stop the
reading: the default replaces a wrong value, rules that need the value are skipped, and all mistakes are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import Status
from tierlog.config.lookup import BROKER
from tierlog.config.network import network
from tierlog.config.places import StoreProblem, no_problem, places
from tierlog.config.problems import Problems, Property
from tierlog.config.reader import Reader
from tierlog.config.topic import TopicConfig
from tierlog.config.topic_defaults import topic_defaults

_FIELDS = frozenset(field.name for field in fields(BrokerConfig))


def build(
    given: Mapping[str, Property], problems: Problems | None = None, store_problem: StoreProblem = no_problem
) -> BrokerConfig:
    """The config of these properties; unknown names are judged elsewhere (see ``properties``).

    Raises WrongConfig with the mistakes found here and those already in ``problems``.
    """
    problems = Problems() if problems is None else problems
    reader = Reader(given, problems)
    made = _identity(reader) | network(reader) | places(reader, store_problem)
    made["max_connections_per_ip_overrides"] = _per_ip(reader)
    made["topic_defaults"] = _topic_defaults(reader)
    _check_between(reader)
    problems.raise_if_any()
    values: dict[str, Any] = {}
    for name, value in reader.values.items():
        field_name = name.replace(".", "_").replace("-", "_")
        if field_name in _FIELDS:
            values[field_name] = value
    values |= made
    values["given"] = MappingProxyType({name: item.text for name, item in given.items()})
    values["meaningless"] = tuple(
        sorted(
            name
            for name in given
            if (name not in BROKER and not name.startswith("config.providers."))
            or (name in BROKER and BROKER[name].status is Status.MEANINGLESS)
            or _for_controllers(name)
        )
    )
    return BrokerConfig(**values)


def _for_controllers(name: str) -> bool:
    return name in ("process.roles", "controller.listener.names")


def _identity(reader: Reader) -> dict[str, Any]:
    node_id, broker_id = reader["node.id"], reader["broker.id"]
    if broker_id >= 0 and reader.is_given("node.id") and broker_id != node_id and reader.is_sound("node.id"):
        reader.refuse("broker.id", f"node.id says {node_id}; leave broker.id out")
    if "broker" not in reader["process.roles"]:
        reader.refuse(
            "process.roles", "there is no controller process to start: metadata.store does its work"
        )
    return {"node_id": node_id if reader.is_given("node.id") or broker_id < 0 else broker_id}


def _per_ip(reader: Reader) -> Mapping[str, int]:
    name = "max.connections.per.ip.overrides"
    limits: dict[str, int] = {}
    for part in str(reader[name]).split(","):
        if not part.strip():
            continue
        host, _, limit = part.strip().rpartition(":")
        if not host or not (limit.isascii() and limit.isdigit()):
            reader.refuse(name, f"{part.strip()!r} is not host:limit")
        else:
            limits[host] = int(limit)
    if reader["max.connections.per.ip"] == 0 and not limits and reader.is_sound(name):
        reader.refuse("max.connections.per.ip", f"0 needs {name} to let anybody in")
    return MappingProxyType(limits)


def _topic_defaults(reader: Reader) -> TopicConfig:
    if reader["compression.type"] != "producer":
        reader.refuse("compression.type", "not supported yet; only producer is")
    defaults = topic_defaults(reader.values)
    if defaults.retention_ms == 0:
        names = ("log.retention.ms", "log.retention.minutes", "log.retention.hours")
        name = next(name for name in names if reader[name] is not None)
        reader.refuse(name, "0 would delete everything; -1 keeps everything, 1 or more is a time")
    compaction = ("log.cleaner.max.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms")
    if defaults.max_compaction_lag_ms < defaults.min_compaction_lag_ms and reader.is_sound(*compaction):
        name, word, other = compaction[0], "less", compaction[1]
        if not reader.is_given(name):
            name, word, other = compaction[1], "more", compaction[0]
        reader.refuse(name, f"{word} than {other} ({reader[other]})")
    for local, total, name in (
        (defaults.local_retention_ms, defaults.retention_ms, "log.local.retention.ms"),
        (defaults.local_retention_bytes, defaults.retention_bytes, "log.local.retention.bytes"),
    ):
        other = name.replace("local.", "")
        units = (other, "log.retention.minutes", "log.retention.hours")
        if not reader.is_given(name) or total == -1 or not reader.is_sound(name, *units):
            continue
        if local == -1 or local > total:
            reader.refuse(name, f"more than {other}, which is {total}")
    _check_copy_lag(reader, defaults)
    return defaults


def _check_copy_lag(reader: Reader, defaults: TopicConfig) -> None:
    """A segment must be copied before local retention would delete it."""
    for lag, local, total, unit in (
        (
            defaults.remote_copy_lag_ms,
            defaults.local_retention_ms,
            defaults.retention_ms,
            "ms",
        ),
        (
            defaults.remote_copy_lag_bytes,
            defaults.local_retention_bytes,
            defaults.retention_bytes,
            "bytes",
        ),
    ):
        name, other = f"log.remote.copy.lag.{unit}", f"log.local.retention.{unit}"
        limit = total if local == -2 else local
        if 0 <= limit < lag and reader.is_sound(name, other):
            reader.refuse(name, f"more than {other}, which is {limit}")


def _check_between(reader: Reader) -> None:
    def at_most(small: str, large: str) -> None:
        if reader[small] > reader[large] and reader.is_sound(small, large):
            name, other = (small, large) if reader.is_given(small) else (large, small)
            word = "at most" if name == small else "at least"
            reader.refuse(name, f"must be {word} {other}, which is {reader[other]}")

    at_most("replica.fetch.wait.max.ms", "replica.socket.timeout.ms")
    at_most("replica.fetch.wait.max.ms", "replica.lag.time.max.ms")
    at_most("group.min.session.timeout.ms", "group.max.session.timeout.ms")
    name, other = "broker.heartbeat.interval.ms", "broker.session.timeout.ms"
    if 2 * reader[name] > reader[other] and reader.is_sound(name, other):
        name = name if reader.is_given(name) else other
        reader.refuse(name, "the session must last two heartbeat intervals at least")
    name, other = "queued.max.request.bytes", "socket.request.max.bytes"
    if 0 <= reader[name] < reader[other] and reader.is_sound(name, other):
        reader.refuse(name, f"less than {other} ({reader[other]})")
    name, other = "log.cleaner.dedupe.buffer.size", "log.cleaner.threads"
    if reader[name] < 1_048_576 * max(1, reader[other]) and reader.is_sound(name, other):
        reader.refuse(name, "at least 1 MiB for each of log.cleaner.threads")
