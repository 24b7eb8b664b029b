"""The values of the metadata store: compact JSON, each with its format version.

Encoders give the same bytes for the same record. Decoders refuse an unknown ``format_version`` with one line
(``UserError``): a broker that guessed at metadata of a newer version would destroy it. Partition states have
one-letter names and leave out empty fields: there are up to 100,000 of them, each sent to every broker at each change
(at most 200 bytes with three replicas). Tier heads are not here: tiering owns their encoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tierlog.errors import UserError
from tierlog.metadata.features import Range, Ranges

FORMAT_VERSION = 1
# Levels above 1 came with version 2: what knows no levels must not run where one is finalized, and refuses this.
FEATURES_FORMAT_VERSION = 2
NO_LEADER = -1
PRODUCER_ID_BLOCK = 1000

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class PartitionState(NamedTuple):
    """The record that decides who leads. Written by compare-and-set on ``partition_epoch`` only.

    ``leader``: broker id or ``NO_LEADER``. ``leader_epoch`` grows with each change of the leader. ``isr``:
    in-sync replicas. ``elr``: eligible leader replicas (KIP-966), non-empty only while ``len(isr) <
    min_isr``. ``replicas``: the assignment, preferred leader first; ``dirs``: log directory uuid per
    replica or empty. ``adding``/``removing``: a reassignment under way (KIP-455). ``min_isr``:
    min(configured, replica count); the leader reads it here and never from a config. ``recovering``:
    elected without proof that nothing committed is missing. ``last_eligible``: replicas that are out of the
    ELR only because they registered as possibly lossy; each becomes eligible once it reports that it is whole
    (``LogEnd``). ``partition_epoch``: the key's mod revision. Invariants: isr, elr and last_eligible are
    disjoint subsets of replicas; leader is NO_LEADER or in isr.
    """

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    replicas: tuple[int, ...]
    min_isr: int
    elr: tuple[int, ...] = ()
    dirs: tuple[str, ...] = ()
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    recovering: bool = False
    partition_epoch: int = 0
    last_eligible: tuple[int, ...] = ()

    def check(self) -> None:
        assert self.leader == NO_LEADER or self.leader in self.isr, f"leader outside the ISR: {self}"
        assert set(self.isr) <= set(self.replicas), f"ISR outside the assignment: {self}"
        assert set(self.elr) <= set(self.replicas), f"ELR outside the assignment: {self}"
        assert not set(self.isr) & set(self.elr), f"ISR and ELR overlap: {self}"
        assert not self.elr or len(self.isr) < self.min_isr, f"ELR beside a full ISR: {self}"
        last = set(self.last_eligible)
        assert last <= set(self.replicas), f"eligible outside the assignment: {self}"
        assert not last & {*self.isr, *self.elr}, f"eligible twice: {self}"
        assert not last or len(self.isr) < self.min_isr, f"once eligible, beside a full ISR: {self}"
        assert 1 <= self.min_isr <= len(self.replicas), f"min_isr out of range: {self}"
        assert len(set(self.replicas)) == len(self.replicas), f"replica named twice: {self}"


class Endpoint(NamedTuple):
    """One listener as clients reach it (advertised host and port)."""

    listener: str
    host: str
    port: int
    security_protocol: str = "PLAINTEXT"


@dataclass(frozen=True, slots=True)
class BrokerRegistration:
    """A broker's own statement, under its lease; the controller answers in ``BrokerState``.

    ``incarnation``: text that is new at every process start. ``rack``: the user's zone or None. ``host``:
    the machine (default: boot id). ``dirs``: uuids of the log directories. ``lossless_since``: the oldest
    broker epoch since which this broker knows that none of its written data was lost (0: unknown); see
    reliability rules on unclean stops. ``features``: the levels it supports; what is not named, level 1 only.
    ``cordoned_dirs``: the directories that get no new replicas (KIP-1066).
    ``cordoned_dirs``, ``offline_dirs`` and the ``want_*`` fields may change while the broker epoch stays.
    """

    incarnation: str
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    host: str = ""
    dirs: tuple[str, ...] = ()
    boot_id: str = ""
    features: Ranges = field(default_factory=dict)
    lossless_since: int = 0
    want_fence: bool = True
    want_shut_down: bool = False
    offline_dirs: tuple[str, ...] = ()
    cordoned_dirs: tuple[str, ...] = ()

    def endpoint_on(self, listener: str) -> Endpoint | None:
        """The broker's address for clients that came in by this listener."""
        return next((each for each in self.endpoints if each.listener == listener), None)


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The controller's answer: it has dealt with the registration of ``broker_epoch``, and this is the broker's
    state."""

    broker_epoch: int
    fenced: bool = True
    shutting_down: bool = False
    offline_dirs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CleanStop:
    """Proof that the broker of ``broker_epoch`` flushed all data in ``dirs`` before it stopped, so it has lost
    nothing since ``lossless_since`` (a broker epoch). The next registration deletes the marker in its own
    transaction: it vouches for one stop only."""

    broker_epoch: int
    dirs: tuple[str, ...] = ()
    lossless_since: int = 0


class LogEnd(NamedTuple):
    """A replica's log end, reported by its broker while no replica is known to have everything that was committed.

    Valid only for that ``broker_epoch`` and that ``leader_epoch`` of the partition's record: after a change of either the
    log may change. ``last_epoch``: leader epoch of the last record, -1 in an empty log. ``end_offset``: exclusive.
    ``is_whole``: the replica knows for certain that it still has everything it has counted since it was last vouched
    for (``replication.proof``).
    """

    broker_epoch: int
    leader_epoch: int
    last_epoch: int
    end_offset: int
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class ControllerLease:
    broker_id: int
    broker_epoch: int


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """``deleting``: a tombstone that stays until every broker in ``pending`` has dropped its replicas and,
    when ``tier_pending``, tiering has dropped the remote objects. ``store``: URL of the object store that holds the
    topic's tier; empty: the brokers' own. It changes only while no partition has a tier head. ``former_stores``: those that
    it had before; what a first copy left there goes with the topic."""

    name: str
    partition_count: int
    deleting: bool = False
    pending: tuple[int, ...] = ()
    tier_pending: bool = False
    store: str = ""
    former_stores: tuple[str, ...] = ()


def _dump(fields: dict[str, Any], version: int = FORMAT_VERSION) -> bytes:
    return _encoder.encode({"v": version, **fields}).encode()


def _load(what: str, value: bytes, version: int = FORMAT_VERSION) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(value)
    if fields.get("v") != version:
        raise UserError(
            f"metadata store: {what} has format version {fields.get('v')}, this tierlog knows "
            f"{version}; upgrade tierlog or restore an older copy of the store"
        )
    return fields


def encode_partition(state: PartitionState) -> bytes:
    fields: dict[str, Any] = {
        "l": state.leader, "e": state.leader_epoch, "i": state.isr, "r": state.replicas, "m": state.min_isr
    }  # fmt: skip
    lists = (
        ("q", state.elr),
        ("d", state.dirs),
        ("a", state.adding),
        ("x", state.removing),
        ("p", state.last_eligible),
    )
    fields |= {name: values for name, values in lists if values}
    if state.recovering:
        fields["c"] = 1
    return _dump(fields)


def decode_partition(value: bytes, partition_epoch: int) -> PartitionState:
    f = _load("a partition", value)
    replicas = tuple(f["r"])
    isr = tuple(f["i"])
    return PartitionState(
        f["l"],
        f["e"],
        replicas if isr == replicas else isr,
        replicas,
        f["m"],
        tuple(f.get("q", ())),
        tuple(f.get("d", ())),
        tuple(f.get("a", ())),
        tuple(f.get("x", ())),
        "c" in f,
        partition_epoch,
        tuple(f.get("p", ())),
    )


def encode_registration(registration: BrokerRegistration) -> bytes:
    r = registration
    return _dump(
        {
            "incarnation": r.incarnation,
            "endpoints": [list(e) for e in r.endpoints],
            "rack": r.rack,
            "host": r.host,
            "dirs": r.dirs,
            "boot_id": r.boot_id,
            "features": {name: list(levels) for name, levels in sorted(r.features.items())},
            "lossless_since": r.lossless_since,
            "want_fence": r.want_fence,
            "want_shut_down": r.want_shut_down,
            "offline_dirs": r.offline_dirs,
            **({"cordoned_dirs": r.cordoned_dirs} if r.cordoned_dirs else {}),
        }
    )


def decode_registration(value: bytes) -> BrokerRegistration:
    f = _load("a broker registration", value)
    return BrokerRegistration(
        incarnation=f["incarnation"],
        endpoints=tuple(Endpoint(*e) for e in f["endpoints"]),
        rack=f["rack"],
        host=f["host"],
        dirs=tuple(f["dirs"]),
        boot_id=f["boot_id"],
        features={name: Range(low, high) for name, (low, high) in f["features"].items()},
        lossless_since=f["lossless_since"],
        want_fence=f["want_fence"],
        want_shut_down=f["want_shut_down"],
        offline_dirs=tuple(f["offline_dirs"]),
        cordoned_dirs=tuple(f.get("cordoned_dirs", ())),
    )


def encode_broker_state(state: BrokerState) -> bytes:
    return _dump(
        {
            "bepoch": state.broker_epoch,
            "fenced": state.fenced,
            "shutting_down": state.shutting_down,
            "offline_dirs": state.offline_dirs,
        }
    )


def decode_broker_state(value: bytes) -> BrokerState:
    f = _load("a broker state", value)
    return BrokerState(f["bepoch"], f["fenced"], f["shutting_down"], tuple(f["offline_dirs"]))


def encode_clean_stop(clean: CleanStop) -> bytes:
    return _dump({"bepoch": clean.broker_epoch, "dirs": clean.dirs, "lossless_since": clean.lossless_since})


def decode_clean_stop(value: bytes) -> CleanStop:
    f = _load("a clean-stop marker", value)
    return CleanStop(f["bepoch"], tuple(f["dirs"]), f["lossless_since"])


def encode_log_end(end: LogEnd) -> bytes:
    fields: dict[str, Any] = {
        "bepoch": end.broker_epoch, "e": end.leader_epoch, "last": end.last_epoch, "end": end.end_offset
    }  # fmt: skip
    if end.is_whole:
        fields["whole"] = 1
    return _dump(fields)


def decode_log_end(value: bytes) -> LogEnd:
    f = _load("a log end", value)
    return LogEnd(f["bepoch"], f["e"], f["last"], f["end"], "whole" in f)


def encode_controller(lease: ControllerLease) -> bytes:
    return _dump({"broker": lease.broker_id, "bepoch": lease.broker_epoch})


def decode_controller(value: bytes) -> ControllerLease:
    f = _load("the controller", value)
    return ControllerLease(f["broker"], f["bepoch"])


def encode_topic(topic: TopicRecord) -> bytes:
    fields: dict[str, Any] = {"name": topic.name, "n": topic.partition_count}
    if topic.deleting:
        fields |= {"deleting": True, "pending": topic.pending, "tier_pending": topic.tier_pending}
    if topic.store:
        fields["store"] = topic.store
    if topic.former_stores:
        fields["former_stores"] = topic.former_stores
    return _dump(fields)


def decode_topic(value: bytes) -> TopicRecord:
    f = _load("a topic", value)
    return TopicRecord(
        f["name"],
        f["n"],
        f.get("deleting", False),
        tuple(f.get("pending", ())),
        f.get("tier_pending", False),
        f.get("store", ""),
        tuple(f.get("former_stores", ())),
    )


def encode_topic_name(topic_id_text: str) -> bytes:
    return _dump({"id": topic_id_text})


def decode_topic_name(value: bytes) -> str:
    text: str = _load("a topic name", value)["id"]
    return text


def encode_configs(configs: Mapping[str, str]) -> bytes:
    return _dump({"configs": dict(sorted(configs.items()))})


def decode_configs(value: bytes) -> dict[str, str]:
    configs: dict[str, str] = _load("a config", value)["configs"]
    return configs


def encode_next_producer_id(next_producer_id: int) -> bytes:
    return _dump({"next": next_producer_id})


def decode_next_producer_id(value: bytes) -> int:
    next_producer_id: int = _load("the producer id block", value)["next"]
    return next_producer_id


def encode_cluster_id(cluster_id: str) -> bytes:
    return _dump({"id": cluster_id})


def decode_cluster_id(value: bytes) -> str:
    cluster_id: str = _load("the cluster id", value)["id"]
    return cluster_id


def encode_features(features: Mapping[str, int]) -> bytes:
    """Finalized levels above 1: feature → level."""
    return _dump({"features": dict(sorted(features.items()))}, FEATURES_FORMAT_VERSION)


def decode_features(value: bytes) -> dict[str, int]:
    features: dict[str, int] = _load("the record of feature levels", value, FEATURES_FORMAT_VERSION)[
        "features"
    ]
    return features
