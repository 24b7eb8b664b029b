"""ApiVersions, API key 18: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ApiVersionsRequest(Message):
    API_KEY = 18
    VERSIONS = (0, 5)
    FLEXIBLE = 3

    client_software_name: str = ""
    client_software_version: str = ""
    cluster_id: str | None = None
    node_id: int = -1

    FIELDS = (
        "client_software_name: string 3+ ignorable",
        "client_software_version: string 3+ ignorable",
        "cluster_id: string 5+ nullable=5+ ignorable",
        "node_id: int32 5+ ignorable",
    )


class ApiVersion(Struct):
    api_key: int = 0
    min_version: int = 0
    max_version: int = 0

    FIELDS = (
        "api_key: int16 0+",
        "min_version: int16 0+",
        "max_version: int16 0+",
    )


class SupportedFeatureKey(Struct):
    name: str = ""
    min_version: int = 0
    max_version: int = 0

    FIELDS = (
        "name: string 3+",
        "min_version: int16 3+",
        "max_version: int16 3+",
    )


class FinalizedFeatureKey(Struct):
    name: str = ""
    max_version_level: int = 0
    min_version_level: int = 0

    FIELDS = (
        "name: string 3+",
        "max_version_level: int16 3+",
        "min_version_level: int16 3+",
    )


class ApiVersionsResponse(Message):
    API_KEY = 18
    VERSIONS = (0, 5)
    FLEXIBLE = 3

    error_code: int = 0
    api_keys: list[ApiVersion] = NEW
    throttle_time_ms: int = 0
    supported_features: list[SupportedFeatureKey] = NEW
    finalized_features_epoch: int = -1
    finalized_features: list[FinalizedFeatureKey] = NEW
    zk_migration_ready: bool = False

    FIELDS = (
        "error_code: int16 0+",
        "api_keys: []ApiVersion 0+",
        "throttle_time_ms: int32 1+ ignorable",
        "supported_features: []SupportedFeatureKey 3+ tag=0 tagged=3+ ignorable",
        "finalized_features_epoch: int64 3+ tag=1 tagged=3+ ignorable",
        "finalized_features: []FinalizedFeatureKey 3+ tag=2 tagged=3+ ignorable",
        "zk_migration_ready: bool 3+ tag=3 tagged=3+ ignorable",
    )
