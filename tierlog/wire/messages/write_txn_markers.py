"""WriteTxnMarkers, API key 27: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class WritableTxnMarkerTopic(Struct):
    name: str = ""
    partition_indexes: list[int] = NEW

    FIELDS = (
        "name: string 0+",
        "partition_indexes: []int32 0+",
    )


class WritableTxnMarker(Struct):
    producer_id: int = 0
    producer_epoch: int = 0
    transaction_result: bool = False
    topics: list[WritableTxnMarkerTopic] = NEW
    coordinator_epoch: int = 0
    transaction_version: int = 0

    FIELDS = (
        "producer_id: int64 0+",
        "producer_epoch: int16 0+",
        "transaction_result: bool 0+",
        "topics: []WritableTxnMarkerTopic 0+",
        "coordinator_epoch: int32 0+",
        "transaction_version: int8 2+ ignorable",
    )


class WriteTxnMarkersRequest(Message):
    API_KEY = 27
    VERSIONS = (1, 2)
    FLEXIBLE = 1

    markers: list[WritableTxnMarker] = NEW

    FIELDS = ("markers: []WritableTxnMarker 0+",)


class WritableTxnMarkerPartitionResult(Struct):
    partition_index: int = 0
    error_code: int = 0

    FIELDS = (
        "partition_index: int32 0+",
        "error_code: int16 0+",
    )


class WritableTxnMarkerTopicResult(Struct):
    name: str = ""
    partitions: list[WritableTxnMarkerPartitionResult] = NEW

    FIELDS = (
        "name: string 0+",
        "partitions: []WritableTxnMarkerPartitionResult 0+",
    )


class WritableTxnMarkerResult(Struct):
    producer_id: int = 0
    topics: list[WritableTxnMarkerTopicResult] = NEW

    FIELDS = (
        "producer_id: int64 0+",
        "topics: []WritableTxnMarkerTopicResult 0+",
    )


class WriteTxnMarkersResponse(Message):
    API_KEY = 27
    VERSIONS = (1, 2)
    FLEXIBLE = 1

    markers: list[WritableTxnMarkerResult] = NEW

    FIELDS = ("markers: []WritableTxnMarkerResult 0+",)
