"""The keyspace of the metadata store: the only place where keys are built and parsed.

::

    /cluster              cluster id                          created once, by whoever comes first
    /ctl                  controller, under its lease         create revision = controller token
    /b/reg/<id>           registration, under its lease       create revision = broker epoch
    /b/st/<id>            broker state                        written by the controller alone
    /b/clean/<id>         clean-stop marker                   written by the broker when its data is flushed
    /t/n/<name>           topic name → topic id               its existence makes the topic exist
    /t/i/<topic id>       topic                               also the tombstone while it is being deleted
    /p/<topic id>/<n>     partition state                     mod revision = partition epoch
    /e/<topic id>/<n>/<id>  log end offset of a replica         by its broker, while nobody can lead the partition
    /tier/<topic id>/<n>  tier head (owned by tiering)
    /cfg/<type>/<name>    dynamic configs of a topic or broker
    /pid                  next block of producer ids
    /feat                 finalized feature levels       written by the controller; at first by who made /cluster
    /sync                 nothing: written by a broker that waits for its own event

Topic ids are 16 bytes; in keys they have Kafka's text form, 22 characters of URL-safe base64.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

ROOT = "/"
CLUSTER = "/cluster"
CONTROLLER = "/ctl"
PRODUCER_IDS = "/pid"
FEATURES = "/feat"
SYNC = "/sync"  # written to see its own event: all earlier events have been seen by then
TOPIC_NAMES = "/t/n/"
TOPICS = "/t/i/"
PARTITIONS = "/p/"
LOG_ENDS = "/e/"
TIER_HEADS = "/tier/"

# The image holds all of these keys. Tier heads are left out: they would not fit in every broker's memory.
IMAGE_PREFIXES = ("/b/", "/cfg/", CLUSTER, CONTROLLER, FEATURES, LOG_ENDS, PARTITIONS, PRODUCER_IDS, "/t/")

# The name of the broker configs that apply to every broker (Kafka's empty resource name).
CLUSTER_DEFAULT = ""


class PartitionKey(NamedTuple):
    topic_id: bytes
    partition: int


def format_topic_id(topic_id: bytes) -> str:
    """Kafka's text form of a uuid: 16 bytes to 22 characters."""
    assert len(topic_id) == 16, topic_id
    return base64.urlsafe_b64encode(topic_id)[:22].decode()


def parse_topic_id(text: str) -> bytes:
    """The reverse of ``format_topic_id``; raises ValueError for anything else."""
    topic_id = base64.urlsafe_b64decode(text + "==")
    if len(topic_id) != 16:
        raise ValueError(f"not a topic id: {text!r}")
    return topic_id


def registration(broker_id: int) -> str:
    return f"/b/reg/{broker_id}"


def broker_state(broker_id: int) -> str:
    return f"/b/st/{broker_id}"


def clean_stop(broker_id: int) -> str:
    return f"/b/clean/{broker_id}"


def topic_name(name: str) -> str:
    return f"/t/n/{name}"


def topic(topic_id: bytes) -> str:
    return f"/t/i/{format_topic_id(topic_id)}"


def partition(topic_id: bytes, index: int) -> str:
    return f"/p/{format_topic_id(topic_id)}/{index}"


def log_end(topic_id: bytes, index: int, broker_id: int) -> str:
    return f"/e/{format_topic_id(topic_id)}/{index}/{broker_id}"


def parse_log_end(key: str) -> tuple[PartitionKey, int]:
    """The partition and the broker id of a key under ``LOG_ENDS``."""
    partition_key, _, broker_id = key.rpartition("/")
    return parse_partition(partition_key, LOG_ENDS), int(broker_id)


def tier_head(topic_id: bytes, index: int) -> str:
    return f"/tier/{format_topic_id(topic_id)}/{index}"


def topic_config(name: str) -> str:
    return f"/cfg/topic/{name}"


def broker_config(broker_name: str) -> str:
    """``broker_name``: the broker id as text, or ``CLUSTER_DEFAULT``."""
    return f"/cfg/broker/{broker_name}"


def parse_partition(key: str, prefix: str = PARTITIONS) -> PartitionKey:
    """Takes apart a key under ``PARTITIONS`` or ``TIER_HEADS``."""
    text, _, index = key[len(prefix) :].partition("/")
    return PartitionKey(parse_topic_id(text), int(index))


def prefix_end(prefix: str) -> str:
    """The smallest key greater than all keys that start with ``prefix``."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
