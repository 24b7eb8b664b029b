"""AlterReplicaLogDirs, API key 34: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class AlterReplicaLogDirTopic(Struct):
    name: str = ""
    partitions: list[int] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []int32 0+",
    )


class AlterReplicaLogDir(Struct):
    path: str = ""
    topics: list[AlterReplicaLogDirTopic] = NEW

    FIELDS = (
        "path: string 0+",
        "topics: []AlterReplicaLogDirTopic 0+",
    )


class AlterReplicaLogDirsRequest(Message):
    API_KEY = 34
    VERSIONS = (1, 2)
    FLEXIBLE = 2

    dirs: list[AlterReplicaLogDir] = NEW

    FIELDS = ("dirs: []AlterReplicaLogDir 0+",)


class AlterReplicaLogDirPartitionResult(Struct):
    partition_index: int = 0
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
    )


class AlterReplicaLogDirTopicResult(Struct):
    topic_name: str = ""
    partitions: list[AlterReplicaLogDirPartitionResult] = NEW

    FIELDS = (
        "topic_name: string 0+",
        "partitions: []AlterReplicaLogDirPartitionResult 0+",
    )


class AlterReplicaLogDirsResponse(Message):
    API_KEY = 34
    VERSIONS = (1, 2)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    results: list[AlterReplicaLogDirTopicResult] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "results: []AlterReplicaLogDirTopicResult 0+",
    )
