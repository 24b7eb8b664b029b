"""Maps a group to its partition of ``__consumer_offsets``, by Kafka's rule, so that every client and tool
agrees."""

from __future__ import annotations

GROUP_TOPIC = "__consumer_offsets"


def java_string_hash(text: str) -> int:
    """``String.hashCode`` of Java: 31-polynomial over UTF-16 code units, as a signed 32-bit number."""
    value = 0
    if text.isascii():
        for unit in text.encode():
            value = (value * 31 + unit) & 0xFFFFFFFF
    else:
        units = text.encode("utf-16-be", "surrogatepass")
        for i in range(0, len(units), 2):
            value = (value * 31 + (units[i] << 8 | units[i + 1])) & 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def partition_for(key: str, partition_count: int) -> int:
    """The partition of the group ``key``: Kafka's ``abs(hash) % count``, where abs of the smallest int is 0."""
    value = java_string_hash(key)
    return (0 if value == -(1 << 31) else abs(value)) % partition_count
