"""DescribeTransactions, API key 65: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class DescribeTransactionsRequest(Message):
    API_KEY = 65
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    transactional_ids: list[str] = NEW

    FIELDS = ("transactional_ids: []string 0+",)


class TopicData(Struct):
    topic: str = ""
    partitions: list[int] = NEW

    FIELDS = (
        "topic: string 0+",
        "partitions: []int32 0+",
    )


class TransactionState(Struct):
    error_code: int = 0
    transactional_id: str = ""
    transaction_state: str = ""
    transaction_timeout_ms: int = 0
    transaction_start_time_ms: int = 0
    producer_id: int = 0
    producer_epoch: int = 0
    topics: list[TopicData] = NEW

    FIELDS = (
        "error_code: int16 0+",
        "transactional_id: string 0+",
        "transaction_state: string 0+",
        "transaction_timeout_ms: int32 0+",
        "transaction_start_time_ms: int64 0+",
        "producer_id: int64 0+",
        "producer_epoch: int16 0+",
        "topics: []TopicData 0+",
    )


class DescribeTransactionsResponse(Message):
    API_KEY = 65
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    transaction_states: list[TransactionState] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "transaction_states: []TransactionState 0+",
    )
