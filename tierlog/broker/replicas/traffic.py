"""What one replica has taken in and given out, since this start of the broker."""

from __future__ import annotations


class PartitionTraffic:
    """Counts of one partition, added to on the hot path."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "messages_in",
        "remote_bytes_out",
        "replication_bytes_in",
        "replication_bytes_out",
    )

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.messages_in = 0
        self.remote_bytes_out = 0
        self.replication_bytes_in = 0
        self.replication_bytes_out = 0
