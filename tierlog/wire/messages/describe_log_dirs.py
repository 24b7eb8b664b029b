"""DescribeLogDirs, API key 35: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DescribableLogDirTopic(Struct):
    topic: str = ""
    partitions: list[int] = NEW

    FIELDS = (
        "topic: string 0+",
        "partitions: []int32 0+",
    )


class DescribeLogDirsRequest(Message):
    API_KEY = 35
    VERSIONS = (1, 5)
    FLEXIBLE = 2

    topics: list[DescribableLogDirTopic] | None = NEW

    FIELDS = ("topics: []DescribableLogDirTopic 0+ nullable=0+",)


class DescribeLogDirsPartition(Struct):
    partition_index: int = 0
    partition_size: int = 0
    offset_lag: int = 0
    is_future_key: bool = False

    FIELDS = (
        "partition_index: int32 0+",
        "partition_size: int64 0+",
        "offset_lag: int64 0+",
        "is_future_key: bool 0+",
    )


class DescribeLogDirsTopic(Struct):
    name: str = ""
    partitions: list[DescribeLogDirsPartition] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []DescribeLogDirsPartition 0+",
    )


class DescribeLogDirsResult(Struct):
    error_code: int = 0
    log_dir: str = ""
    topics: list[DescribeLogDirsTopic] = NEW
    total_bytes: int = -1
    usable_bytes: int = -1
    is_cordoned: bool = False

    FIELDS = (
        "error_code: int16 0+",
        "log_dir: string 0+",
        "topics: []DescribeLogDirsTopic 0+",
        "total_bytes: int64 4+ ignorable",
        "usable_bytes: int64 4+ ignorable",
        "is_cordoned: bool 5+ ignorable",
    )


class DescribeLogDirsResponse(Message):
    API_KEY = 35
    VERSIONS = (1, 5)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    error_code: int = 0
    results: list[DescribeLogDirsResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 3+ ignorable",
        "results: []DescribeLogDirsResult 0+",
    )
