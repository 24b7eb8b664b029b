"""Topics with an object store of their own (``tierlog.object.store``): who may have which, as far as the metadata tells.

The store of a topic is in its record, under its id, so that a later topic of the same name has nothing to do with it, and
a tombstone knows where to delete. It changes only while no partition has a tier head. That is what the transaction compares,
and each first head compares the record in turn (``commits.tier_head_change``): one of the two fails.
"""

from __future__ import annotations

from dataclasses import replace

from tierlog.config.places import OBJECT_STORE
from tierlog.metadata import keys, records
from tierlog.metadata.features import BASE_LEVEL, TOPIC_STORES
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.transactions import Compare, Put

STORES_MAX = 16
"""Of a cluster, the brokers' own store not counted: each broker may have to open all of them."""
ALTERED_PARTITIONS_MAX = 100
"""A transaction compares the heads of all partitions."""


def store_problem(image: MetadataImage, url: str) -> str | None:
    """Why no topic may get this store now; None if one may. Whether it can be used is asked elsewhere."""
    if not url:
        return None
    if image.features.level(TOPIC_STORES) == BASE_LEVEL:
        return (
            f"{OBJECT_STORE} of a topic needs brokers that all know it: upgrade them, then run "
            f"tierlog cluster features upgrade {TOPIC_STORES}=2"
        )
    if len(image.topic_stores() - {url}) >= STORES_MAX:
        return (
            f"{OBJECT_STORE}: the topics of a cluster may have {STORES_MAX} stores beside the brokers' own: use one of "
            "those that are in use, or delete the topics of another one"
        )
    return None


def altered_store_problem(image: MetadataImage, topic: TopicImage, url: str) -> str | None:
    """Why this topic may not change over to the store; None if it may while it has no head."""
    if topic.partition_count > ALTERED_PARTITIONS_MAX:
        return (
            f"{OBJECT_STORE} cannot be altered for more than {ALTERED_PARTITIONS_MAX} partitions, this topic has "
            f"{topic.partition_count}: make a new topic that has it from the start"
        )
    return store_problem(image, url)


def change_of_store(topic: TopicImage, url: str) -> tuple[list[Compare], Put]:
    """What a transaction compares and writes that gives the topic this store. It must compare the topic's record itself."""
    assert topic.record is not None
    heads = [keys.tier_head(topic.topic_id, n) for n in range(topic.partition_count)]
    former = dict.fromkeys([*topic.record.former_stores, topic.record.store])
    former.pop(url, None)
    record = replace(topic.record, store=url, former_stores=tuple(former))
    put = Put(keys.topic(topic.topic_id), records.encode_topic(record))
    return [Compare(key, "mod", 0) for key in heads], put
