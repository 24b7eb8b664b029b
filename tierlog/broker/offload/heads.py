"""Tier heads in the metadata store.

The commit point of the whole tier is one transaction. It compares that the partition record is still the one under which
this broker leads, that its registration is unchanged, and that the head is still the one that the new head was made from. A
zombie fails one of the first two comparisons, a concurrent writer the third.
"""

from __future__ import annotations

from collections.abc import Callable

from tiering.head_codec import decode_head, encode_head
from tiering.keys import PartitionKeys
from tiering.manifest import Manifests
from tiering.model import PageIndexRef, TierHead
from tiering.pages import Pages
from tierlog.errors import TierlogError
from tierlog.metadata import keys, records
from tierlog.metadata.commits import tier_head_change
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.stores.port import MetadataStore

ATTEMPTS_MAX = 5
LOAD_ATTEMPTS = 3


class Fenced(TierlogError):
    """This broker no longer leads the partition on this epoch, or has lost its registration."""


class HeadMoved(TierlogError):
    """The head in the store is not the one that the change was made from: read it and plan again."""


class HeadStore:
    """Reads and compare-and-sets heads for one broker."""

    def __init__(
        self,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        broker_id: int,
        broker_epoch: Callable[[], int],
        format_version: Callable[[], int],
    ) -> None:
        self.format_version = format_version
        """The newest that the whole cluster knows: heads, and what is written for them, are of this one."""
        self._store = store
        self._image = image
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch

    def store_of(self, topic_id: bytes) -> str:
        """URL of the topic's object store, as ``TopicRecord``."""
        record = self._image().record_of(topic_id)
        return "" if record is None else record.store

    async def read(self, topic_id: bytes, partition: int) -> tuple[TierHead | None, int]:
        """The head and its revision in the store; None and 0 if there is none yet. Raises StoreUnavailable, and the tier's
        CorruptObject or UnsupportedFormat."""
        key = keys.tier_head(topic_id, partition)
        found = await self._store.get(key)
        return (None, 0) if found is None else (decode_head(found.value, key), found.mod_revision)

    async def commit(
        self,
        topic_id: bytes,
        partition: int,
        leader_epoch: int,
        head: TierHead,
        revision: int,
        store: str = "",
    ) -> int:
        """Replaces the head of ``revision`` by ``head``; returns the new revision. A change of the ISR alone does not
        hinder it. ``store``: the topic's object store, where what the head names lies; as ``TopicRecord``.

        Raises Fenced, HeadMoved, StoreUnavailable (nothing done), UnknownOutcome (read the head again)."""
        partition_key = keys.partition(topic_id, partition)
        head_key = keys.tier_head(topic_id, partition)
        state = self._image().partition(topic_id, partition)
        if state is None or (state.leader, state.leader_epoch) != (self._broker_id, leader_epoch):
            raise Fenced(f"{partition_key}: not led on epoch {leader_epoch}")
        topic = self._image().topics_by_id[topic_id]
        if topic.record is None or topic.record.store != store:
            raise Fenced(f"{head_key}: the topic has another object store by now")
        partition_revision, topic_revision = state.partition_epoch, topic.record_revision
        encoded = encode_head(head)
        for _ in range(ATTEMPTS_MAX):
            change = tier_head_change(
                topic_id,
                partition,
                encoded,
                partition_epoch=partition_revision,
                head_revision=revision,
                broker_id=self._broker_id,
                broker_epoch=self._broker_epoch(),
                topic_revision=None if revision else topic_revision,
            )
            result = await self._store.txn(change)
            if result.ok:
                return result.revision
            now, registration, found, *topics = result.gets
            if (found.mod_revision if found else 0) != revision:
                raise HeadMoved(head_key)
            if registration is None or registration.create_revision != self._broker_epoch():
                raise Fenced(f"{head_key}: the registration is gone")
            if now is None:
                raise Fenced(f"{partition_key}: deleted")
            state = records.decode_partition(now.value, now.mod_revision)
            if (state.leader, state.leader_epoch) != (self._broker_id, leader_epoch):
                raise Fenced(f"{partition_key}: led by {state.leader} on epoch {state.leader_epoch}")
            for record in topics:
                if record is None or records.decode_topic(record.value).store != store:
                    raise Fenced(f"{head_key}: the topic has another object store by now")
                topic_revision = record.mod_revision
            partition_revision = now.mod_revision
        raise HeadMoved(f"{head_key}: the partition changed {ATTEMPTS_MAX} times under the commit")


async def read_with_pages(
    heads: HeadStore, manifests: Manifests, keys: PartitionKeys, known: TierHead, pages: Pages
) -> tuple[TierHead | None, int, Pages]:
    """The head, its revision and its pages; ``pages`` are those of ``known``, and not read again if they are still in force.

    Raises as ``HeadStore.read`` and ``Manifests.load``, and HeadMoved if the pages were replaced each time."""
    tried: PageIndexRef | None = None
    for _ in range(LOAD_ATTEMPTS):
        head, revision = await heads.read(keys.topic_id, keys.partition)
        if head is None:
            return None, 0, Pages()
        if head.page_index != known.page_index or pages.lost:
            found = await manifests.load(keys, head)
        else:
            found = pages
        if not found.lost or tried == head.page_index:
            return head, revision, found
        tried = head.page_index  # replaced meanwhile, or lost: the next read of the head tells
    raise HeadMoved(f"{keys.meta_prefix}: the pages were replaced {LOAD_ATTEMPTS} times while they were read")
