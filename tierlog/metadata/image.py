"""The metadata image: a broker's copy of the cluster metadata, kept up to date by the watch.

It is fed with whole revisions, in order, so it always equals the store at ``revision`` (Kafka's "metadata offset").
It changes in place, O(changes) per revision, and each change is reported as an ``ImageDelta``. Nothing here awaits,
so code that needs a consistent picture must run between two revisions without awaiting.
``TopicImage`` and ``BrokerImage`` objects are the image's own: read them, do not keep them over a delta.

A topic is visible (in ``topics_by_name`` and ``topics_by_id``) from the revision that writes its name key until the
one that deletes it. Its partitions may be written in several transactions before that and removed in several after.
Tombstones of deleted topics stay in ``deleting_topics`` until every broker and the tier have dropped the data.

After ``Compacted`` a second image is loaded and ``replace`` reports the difference as one delta.

Invariants: M1 ``revision`` only grows, except through ``replace``. M2 topics_by_name and topics_by_id hold
the same topics, all visible. M3 a visible topic has the partitions [0, partition_count); more only while it
is being grown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from tierlog.metadata import keys, records
from tierlog.metadata.features import FinalizedLevels
from tierlog.metadata.records import (
    BrokerRegistration,
    BrokerState,
    CleanStop,
    ControllerLease,
    Endpoint,
    LogEnd,
    PartitionState,
    TopicRecord,
)
from tierlog.metadata.transactions import Event, KeyValue, WatchBatch

NO_CONFIGS: Mapping[str, str] = MappingProxyType({})
NO_LOG_ENDS: Mapping[int, LogEnd] = MappingProxyType({})


class TopicImage:
    """One topic; ``partitions`` maps 0..n-1 to the partition's state. ``record_revision``: mod revision of
    its key."""

    __slots__ = ("name", "partitions", "record", "record_revision", "topic_id")

    def __init__(self, topic_id: bytes) -> None:
        self.topic_id = topic_id
        self.name = ""
        self.record: TopicRecord | None = None
        self.record_revision = 0
        self.partitions: dict[int, PartitionState] = {}

    @property
    def is_visible(self) -> bool:
        return self.record is not None and not self.record.deleting and self.name != ""

    @property
    def partition_count(self) -> int:
        return self.record.partition_count if self.record is not None else 0

    def __repr__(self) -> str:
        return (
            f"TopicImage({self.name or '?'}, {keys.format_topic_id(self.topic_id)}, {len(self.partitions)})"
        )


@dataclass(slots=True)
class BrokerImage:
    """One broker id: its registration (None: not running, or its lease is lost) and the controller's
    ``BrokerState``."""

    broker_id: int
    registration: BrokerRegistration | None = None
    broker_epoch: int = 0
    registration_revision: int = 0
    state: BrokerState | None = None
    state_revision: int = 0
    clean_stop: CleanStop | None = None

    @property
    def is_handled(self) -> bool:
        """Whether the controller has dealt with this very registration."""
        return (
            self.registration is not None
            and self.state is not None
            and self.state.broker_epoch == self.broker_epoch
        )

    @property
    def is_active(self) -> bool:
        """Registered, dealt with and unfenced: the broker may be in an ISR."""
        return self.is_handled and self.state is not None and not self.state.fenced

    @property
    def is_available(self) -> bool:
        """Active and not about to stop: the broker may be given replicas and leadership."""
        return self.is_active and self.state is not None and not self.state.shutting_down

    @property
    def is_gone(self) -> bool:
        return self.registration is None and self.state is None


class PartitionChange(NamedTuple):
    """``old`` None: new partition. ``new`` None: removed while the topic stays (does not happen today)."""

    topic_name: str
    topic_id: bytes
    partition: int
    old: PartitionState | None
    new: PartitionState | None


def offline_replicas(state: PartitionState, active: Set[int], offline_dirs: Set[str]) -> list[int]:
    """The replicas on brokers that are not active, or in a log directory that has failed."""
    if not offline_dirs or not state.dirs:
        return [replica for replica in state.replicas if replica not in active]
    placed = zip(state.replicas, state.dirs, strict=True)
    return [replica for replica, place in placed if replica not in active or place in offline_dirs]


class DeletedTopic(NamedTuple):
    name: str
    topic_id: bytes
    partitions: Mapping[int, PartitionState]


class ConfigChange(NamedTuple):
    """``resource_type``: "topic" or "broker"; ``name``: topic name, broker id as text, or "" for all
    brokers."""

    resource_type: str
    name: str


@dataclass(slots=True)
class ImageDelta:
    """The changes of one revision (or one reload). Apply deletions before creations: a name may be in both.

    ``partitions_changed`` includes all partitions of created topics and none of deleted ones.
    """

    revision: int
    topics_deleted: list[DeletedTopic] = field(default_factory=list)
    topics_created: list[TopicImage] = field(default_factory=list)
    partitions_changed: list[PartitionChange] = field(default_factory=list)
    configs_changed: list[ConfigChange] = field(default_factory=list)
    brokers_changed: list[int] = field(default_factory=list)
    tombstones_changed: list[bytes] = field(default_factory=list)
    controller_changed: bool = False
    features_changed: bool = False
    log_ends_changed: bool = False
    is_reload: bool = False

    @property
    def is_empty(self) -> bool:
        return not (
            self.topics_deleted
            or self.topics_created
            or self.partitions_changed
            or self.configs_changed
            or self.brokers_changed
            or self.tombstones_changed
            or self.controller_changed
            or self.features_changed
            or self.log_ends_changed
        )


class MetadataImage:
    """See the module head."""

    def __init__(self) -> None:
        self.revision = 0
        self.cluster_id: str | None = None
        self.controller: ControllerLease | None = None
        self.controller_token = 0
        self.next_producer_id = 0
        self.features = FinalizedLevels()
        self.topics_by_name: dict[str, TopicImage] = {}
        self.topics_by_id: dict[bytes, TopicImage] = {}
        self.brokers: dict[int, BrokerImage] = {}
        self.topic_configs: dict[str, dict[str, str]] = {}
        self.broker_configs: dict[str, dict[str, str]] = {}
        self.config_revisions: dict[ConfigChange, int] = {}
        # Partition → broker id → the log end it reported; only partitions that wait for all their replicas have any.
        self.log_ends: dict[keys.PartitionKey, dict[int, LogEnd]] = {}
        # Every topic with any key in the store, by the text form of its id.
        self._topics: dict[str, TopicImage] = {}
        self._id_by_name: dict[str, str] = {}

    # -- reading

    def topic(self, name: str) -> TopicImage | None:
        return self.topics_by_name.get(name)

    def endpoint(self, broker_id: int, listener: str) -> Endpoint | None:
        """The address of a registered broker on this listener."""
        broker = self.brokers.get(broker_id)
        registration = None if broker is None else broker.registration
        return None if registration is None else registration.endpoint_on(listener)

    def partition(self, topic_id: bytes, partition: int) -> PartitionState | None:
        topic = self.topics_by_id.get(topic_id)
        return None if topic is None else topic.partitions.get(partition)

    def log_ends_of(self, topic_id: bytes, partition: int) -> Mapping[int, LogEnd]:
        if not self.log_ends:
            return NO_LOG_ENDS
        return self.log_ends.get(keys.PartitionKey(topic_id, partition), NO_LOG_ENDS)

    def configs_of_topic(self, name: str) -> Mapping[str, str]:
        """The topic's own (overridden) configs."""
        return self.topic_configs.get(name, NO_CONFIGS)

    def active_brokers(self) -> list[BrokerImage]:
        """Unfenced brokers, by id."""
        return [self.brokers[i] for i in sorted(self.brokers) if self.brokers[i].is_active]

    def is_cordoned(self, broker_id: int) -> bool:
        """Whether the broker is to get no new replicas (KIP-1066): its registration cordons every log directory that it can
        use, or its dynamic config says so, even while it is not running."""
        configs = self.broker_configs.get(str(broker_id))
        if configs is not None and configs.get("cordoned.log.dirs", "").strip() == "*":
            return True
        broker = self.brokers.get(broker_id)
        registration = broker.registration if broker is not None else None
        if registration is None:
            return False
        usable = set(registration.dirs) - set(registration.offline_dirs)
        return bool(usable) and usable <= set(registration.cordoned_dirs)

    def offline_dirs(self) -> frozenset[str]:
        """Log directories that running brokers cannot use."""
        found = [b.registration.offline_dirs for b in self.brokers.values() if b.registration is not None]
        return frozenset(directory for dirs in found for directory in dirs)

    @property
    def controller_id(self) -> int:
        """-1 when there is no controller."""
        return -1 if self.controller is None else self.controller.broker_id

    def record_of(self, topic_id: bytes) -> TopicRecord | None:
        """Of a topic or of a tombstone; None if the store has no record of it."""
        topic = self._topics.get(keys.format_topic_id(topic_id))
        return None if topic is None else topic.record

    def topic_stores(self) -> set[str]:
        """URLs of the object stores that topics and tombstones have, or had, of their own."""
        found: set[str] = set()
        for topic in self._topics.values():
            if topic.record is not None and (topic.record.store or topic.record.former_stores):
                found.update((topic.record.store, *topic.record.former_stores))
        return found - {""}

    def deleting_topics(self) -> Iterator[TopicImage]:
        """Tombstones: topics whose data a broker or the tier still has to drop."""
        return (t for t in self._topics.values() if t.record is not None and t.record.deleting)

    def hidden_topics(self) -> Iterator[TopicImage]:
        """Topics that have keys but no name: tombstones, and creations that never finished."""
        return (t for t in self._topics.values() if not t.is_visible)

    def check(self) -> None:
        """Asserts the invariants of the module head; O(everything), for tests and simulation."""
        assert {id(t) for t in self.topics_by_name.values()} == {id(t) for t in self.topics_by_id.values()}, (
            "M2"
        )
        for name, topic in self.topics_by_name.items():
            assert topic.name == name, "M2"
            assert topic.is_visible, "M2"
            assert all(n in topic.partitions for n in range(topic.partition_count)), f"M3 {topic}"
            for state in topic.partitions.values():
                state.check()

    # -- writing

    def load(self, kvs: Iterable[KeyValue]) -> None:
        """Initial load, page by page; call ``finish_load`` after the last page."""
        touched: dict[str, bool] = {}
        delta = ImageDelta(0)
        for kv in kvs:
            self._apply(Event(kv.key, kv), delta, touched)

    def finish_load(self, revision: int) -> None:
        for text, topic in self._topics.items():
            self._show(text, topic)
        self.revision = revision

    def apply(self, batch: WatchBatch) -> ImageDelta:
        """Applies one revision and returns the changes."""
        assert batch.revision > self.revision, f"M1: {batch.revision} after {self.revision}"
        delta = ImageDelta(batch.revision)
        touched: dict[str, bool] = {}
        for event in batch.events:
            self._apply(event, delta, touched)
        if touched:
            self._settle(delta, touched)
        self.revision = batch.revision
        return delta

    def replace(self, fresh: MetadataImage) -> ImageDelta:
        """Takes over everything from ``fresh``; the delta is the difference. For use after ``Compacted``."""
        delta = difference(self, fresh)
        for name, value in vars(fresh).items():
            setattr(self, name, value)
        return delta

    # -- one event

    def _apply(self, event: Event, delta: ImageDelta, touched: dict[str, bool]) -> None:
        key, kv = event
        if key.startswith(keys.PARTITIONS):
            self._apply_partition(key, kv, delta, touched)
        elif key.startswith("/t/"):
            self._apply_topic(key, kv, delta, touched)
        elif key.startswith("/b/"):
            self._apply_broker(key, kv, delta)
        elif key.startswith("/cfg/"):
            self._apply_config(key, kv, delta)
        elif key.startswith(keys.LOG_ENDS):
            self._apply_log_end(key, kv, delta)
        elif key == keys.CONTROLLER:
            self.controller = None if kv is None else records.decode_controller(kv.value)
            self.controller_token = 0 if kv is None else kv.create_revision
            delta.controller_changed = True
        elif key == keys.PRODUCER_IDS:
            self.next_producer_id = 0 if kv is None else records.decode_next_producer_id(kv.value)
        elif key == keys.CLUSTER:
            self.cluster_id = None if kv is None else records.decode_cluster_id(kv.value)
        elif key == keys.FEATURES:
            self.features = _finalized(kv)
            delta.features_changed = True

    def _topic_of(self, text: str, touched: dict[str, bool]) -> TopicImage:
        topic = self._topics.get(text)
        if topic is None:
            topic = self._topics[text] = TopicImage(keys.parse_topic_id(text))
        if text not in touched:
            touched[text] = topic.is_visible
        return topic

    def _apply_partition(
        self, key: str, kv: KeyValue | None, delta: ImageDelta, touched: dict[str, bool]
    ) -> None:
        text, _, index = key[3:].partition("/")
        topic = self._topic_of(text, touched)
        partition = int(index)
        old = topic.partitions.get(partition)
        new = None
        if kv is None:
            topic.partitions.pop(partition, None)
        else:
            new = topic.partitions[partition] = records.decode_partition(kv.value, kv.mod_revision)
        if touched[text]:
            delta.partitions_changed.append(PartitionChange(topic.name, topic.topic_id, partition, old, new))

    def _apply_topic(
        self, key: str, kv: KeyValue | None, delta: ImageDelta, touched: dict[str, bool]
    ) -> None:
        if key.startswith(keys.TOPIC_NAMES):
            name = key[len(keys.TOPIC_NAMES) :]
            old = self._id_by_name.pop(name, None)
            if old is not None:
                self._topic_of(old, touched).name = ""
            if kv is not None:
                text = records.decode_topic_name(kv.value)
                self._id_by_name[name] = text
                self._topic_of(text, touched).name = name
            return
        text = key[len(keys.TOPICS) :]
        topic = self._topic_of(text, touched)
        was_tombstone = topic.record is not None and topic.record.deleting
        topic.record = None if kv is None else records.decode_topic(kv.value)
        topic.record_revision = 0 if kv is None else kv.mod_revision
        if was_tombstone or (topic.record is not None and topic.record.deleting):
            delta.tombstones_changed.append(topic.topic_id)

    def _apply_broker(self, key: str, kv: KeyValue | None, delta: ImageDelta) -> None:
        kind, _, text = key[3:].partition("/")
        broker_id = int(text)
        broker = self.brokers.get(broker_id)
        if broker is None:
            broker = self.brokers[broker_id] = BrokerImage(broker_id)
        if kind == "reg":
            broker.registration = None if kv is None else records.decode_registration(kv.value)
            broker.broker_epoch = 0 if kv is None else kv.create_revision
            broker.registration_revision = 0 if kv is None else kv.mod_revision
        elif kind == "st":
            broker.state = None if kv is None else records.decode_broker_state(kv.value)
            broker.state_revision = 0 if kv is None else kv.mod_revision
        elif kind == "clean":
            broker.clean_stop = None if kv is None else records.decode_clean_stop(kv.value)
        if broker.is_gone and broker.clean_stop is None:
            del self.brokers[broker_id]
        if broker_id not in delta.brokers_changed:
            delta.brokers_changed.append(broker_id)

    def _apply_config(self, key: str, kv: KeyValue | None, delta: ImageDelta) -> None:
        resource_type, _, name = key[len("/cfg/") :].partition("/")
        table = self.topic_configs if resource_type == "topic" else self.broker_configs
        change = ConfigChange(resource_type, name)
        if kv is None:
            table.pop(name, None)
            self.config_revisions.pop(change, None)
        else:
            table[name] = records.decode_configs(kv.value)
            self.config_revisions[change] = kv.mod_revision
        delta.configs_changed.append(change)

    def _apply_log_end(self, key: str, kv: KeyValue | None, delta: ImageDelta) -> None:
        partition, broker_id = keys.parse_log_end(key)
        ends = self.log_ends.setdefault(partition, {})
        if kv is not None:
            ends[broker_id] = records.decode_log_end(kv.value)
        else:
            ends.pop(broker_id, None)
            if not ends:
                del self.log_ends[partition]
        delta.log_ends_changed = True

    # -- visibility

    def _show(self, text: str, topic: TopicImage) -> None:
        if topic.is_visible and self._id_by_name.get(topic.name) == text:
            self.topics_by_name[topic.name] = topic
            self.topics_by_id[topic.topic_id] = topic

    def _settle(self, delta: ImageDelta, touched: dict[str, bool]) -> None:
        appeared = []
        for text, was_visible in touched.items():
            topic = self._topics[text]
            if was_visible and not topic.is_visible:
                self._hide(topic, delta)
            elif topic.is_visible and not was_visible:
                appeared.append((text, topic))
            if topic.record is None and not topic.partitions and not topic.name:
                del self._topics[text]
        for text, topic in appeared:
            self._show(text, topic)
            delta.topics_created.append(topic)
            delta.partitions_changed.extend(
                PartitionChange(topic.name, topic.topic_id, n, None, topic.partitions[n])
                for n in sorted(topic.partitions)
            )

    def _hide(self, topic: TopicImage, delta: ImageDelta) -> None:
        del self.topics_by_id[topic.topic_id]
        name = next(n for n, t in self.topics_by_name.items() if t is topic) if not topic.name else topic.name
        del self.topics_by_name[name]
        delta.partitions_changed = [c for c in delta.partitions_changed if c.topic_id != topic.topic_id]
        delta.topics_deleted.append(DeletedTopic(name, topic.topic_id, dict(topic.partitions)))


def _finalized(kv: KeyValue | None) -> FinalizedLevels:
    return (
        FinalizedLevels()
        if kv is None
        else FinalizedLevels(records.decode_features(kv.value), kv.mod_revision)
    )


def difference(old: MetadataImage, new: MetadataImage) -> ImageDelta:
    """The delta that leads from ``old`` to ``new``."""
    delta = ImageDelta(new.revision, is_reload=True)
    for topic in old.topics_by_name.values():
        if topic.topic_id not in new.topics_by_id:
            delta.topics_deleted.append(DeletedTopic(topic.name, topic.topic_id, topic.partitions))
    for topic in new.topics_by_name.values():
        before = old.topics_by_id.get(topic.topic_id)
        if before is None:
            delta.topics_created.append(topic)
        known: Mapping[int, PartitionState] = {} if before is None else before.partitions
        for n in sorted(topic.partitions):
            if known.get(n) != topic.partitions[n]:
                delta.partitions_changed.append(
                    PartitionChange(topic.name, topic.topic_id, n, known.get(n), topic.partitions[n])
                )
    changes = sorted(old.config_revisions.keys() | new.config_revisions.keys())
    delta.configs_changed = [c for c in changes if old.config_revisions.get(c) != new.config_revisions.get(c)]
    ids = sorted(old.brokers.keys() | new.brokers.keys())
    delta.brokers_changed = [i for i in ids if old.brokers.get(i) != new.brokers.get(i)]
    tombstones = {t.topic_id: t.record for t in old.deleting_topics()}
    fresh = {t.topic_id: t.record for t in new.deleting_topics()}
    delta.tombstones_changed = sorted(
        i for i in tombstones.keys() | fresh.keys() if tombstones.get(i) != fresh.get(i)
    )
    delta.controller_changed = old.controller_token != new.controller_token
    delta.features_changed = old.features != new.features
    delta.log_ends_changed = old.log_ends != new.log_ends
    return delta
