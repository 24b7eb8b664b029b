"""The table of APIs: keys, names, and the versions that Apache Kafka 4.4 advertises.

A broker's handler table decides which of these it serves; ApiVersions is derived from that. Message modules are
imported when an API is first used, so that the start of a broker does not pay for unused ones.

Produce is advertised from version 0 although only 3 and later exist: librdkafka before 2.x concludes from a higher
minimum that the broker has no compression support (KIP-896). A request below ``first_decodable_version`` is
malformed.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module

from tierlog.wire.schema import Message


class ApiSpec:
    """One API. Versions are inclusive; ``min_version``..``max_version`` is what ApiVersions shows."""

    def __init__(self, key: int, name: str, min_version: int, max_version: int) -> None:
        self.key = key
        self.name = name
        self.min_version = min_version
        self.max_version = max_version

    def __repr__(self) -> str:
        return f"ApiSpec({self.key}, {self.name!r}, {self.min_version}, {self.max_version})"

    @cached_property
    def module_name(self) -> str:
        """Name of the API's module under ``tierlog.wire.messages``."""
        return "".join("_" + c.lower() if c.isupper() else c for c in self.name).lstrip("_")

    @cached_property
    def request(self) -> type[Message]:
        return self._message("Request")

    @cached_property
    def response(self) -> type[Message]:
        return self._message("Response")

    @cached_property
    def flexible_since(self) -> int | None:
        """The first version with compact lengths and tags (KIP-482), or None; also decides the header's
        version."""
        return self.request.FLEXIBLE

    @cached_property
    def first_decodable_version(self) -> int:
        """The lowest version that has a body layout; above ``min_version`` only for Produce."""
        return max(self.min_version, self.request.VERSIONS[0])

    def is_flexible(self, version: int) -> bool:
        since = self.flexible_since
        return since is not None and version >= since

    def _message(self, side: str) -> type[Message]:
        module = import_module(f"tierlog.wire.messages.{self.module_name}")
        found: type[Message] = getattr(module, self.name + side)
        return found


# Key, name, lowest and highest advertised version.
_VERSIONS = (
    (0, "Produce", 0, 13),
    (1, "Fetch", 4, 18),
    (2, "ListOffsets", 1, 11),
    (3, "Metadata", 0, 13),
    (8, "OffsetCommit", 2, 10),
    (9, "OffsetFetch", 1, 10),
    (10, "FindCoordinator", 0, 6),
    (11, "JoinGroup", 0, 9),
    (12, "Heartbeat", 0, 4),
    (13, "LeaveGroup", 0, 5),
    (14, "SyncGroup", 0, 5),
    (15, "DescribeGroups", 0, 6),
    (16, "ListGroups", 0, 5),
    (17, "SaslHandshake", 0, 1),
    (18, "ApiVersions", 0, 5),
    (19, "CreateTopics", 2, 7),
    (20, "DeleteTopics", 1, 6),
    (21, "DeleteRecords", 0, 2),
    (22, "InitProducerId", 0, 5),
    (23, "OffsetForLeaderEpoch", 2, 4),
    (24, "AddPartitionsToTxn", 0, 5),
    (25, "AddOffsetsToTxn", 0, 4),
    (26, "EndTxn", 0, 5),
    (27, "WriteTxnMarkers", 1, 2),
    (28, "TxnOffsetCommit", 0, 6),
    (29, "DescribeAcls", 1, 3),
    (30, "CreateAcls", 1, 3),
    (31, "DeleteAcls", 1, 3),
    (32, "DescribeConfigs", 1, 4),
    (33, "AlterConfigs", 0, 2),
    (34, "AlterReplicaLogDirs", 1, 2),
    (35, "DescribeLogDirs", 1, 5),
    (36, "SaslAuthenticate", 0, 2),
    (37, "CreatePartitions", 0, 3),
    (38, "CreateDelegationToken", 1, 3),
    (39, "RenewDelegationToken", 1, 2),
    (40, "ExpireDelegationToken", 1, 2),
    (41, "DescribeDelegationToken", 1, 3),
    (42, "DeleteGroups", 0, 3),
    (43, "ElectLeaders", 0, 2),
    (44, "IncrementalAlterConfigs", 0, 1),
    (45, "AlterPartitionReassignments", 0, 1),
    (46, "ListPartitionReassignments", 0, 0),
    (47, "OffsetDelete", 0, 0),
    (48, "DescribeClientQuotas", 0, 1),
    (49, "AlterClientQuotas", 0, 1),
    (50, "DescribeUserScramCredentials", 0, 0),
    (51, "AlterUserScramCredentials", 0, 0),
    (55, "DescribeQuorum", 0, 2),
    (57, "UpdateFeatures", 0, 2),
    (60, "DescribeCluster", 0, 2),
    (61, "DescribeProducers", 0, 0),
    (64, "UnregisterBroker", 0, 0),
    (65, "DescribeTransactions", 0, 0),
    (66, "ListTransactions", 0, 2),
    (68, "ConsumerGroupHeartbeat", 0, 1),
    (69, "ConsumerGroupDescribe", 0, 1),
    (74, "ListConfigResources", 0, 1),
    (75, "DescribeTopicPartitions", 0, 0),
)

APIS: dict[int, ApiSpec] = {row[0]: ApiSpec(*row) for row in _VERSIONS}
