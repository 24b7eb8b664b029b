"""What one replica has taken in and given out, since this start of the broker."""

from __future__ import annotations

from tierlog.broker.network.tallies import NOBODY, ConnectionTraffic


class PartitionTraffic:
    """Counts of one partition, added to on the hot path. ``producer`` and what is counted for clients is
    ``network.client_traffic``'s."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "counted_bytes_in",
        "counted_messages_in",
        "messages_in",
        "producer",
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
        self.producer: ConnectionTraffic = NOBODY
        self.counted_bytes_in = 0
        self.counted_messages_in = 0
