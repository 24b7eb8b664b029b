"""ListTransactions, API key 66: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import NEW, Message, Struct


class ListTransactionsRequest(Message):
    API_KEY = 66
    VERSIONS = (0, 2)
    FLEXIBLE = 0

    state_filters: list[str] = NEW
    producer_id_filters: list[int] = NEW
    duration_filter: int = -1
    transactional_id_pattern: str | None = None

    FIELDS = (
        "state_filters: []string 0+",
        "producer_id_filters: []int64 0+",
        "duration_filter: int64 1+",
        "transactional_id_pattern: string 2+ nullable=2+",
    )


class TransactionState(Struct):
    transactional_id: str = ""
    producer_id: int = 0
    transaction_state: str = ""

    FIELDS = (
        "transactional_id: string 0+",
        "producer_id: int64 0+",
        "transaction_state: string 0+",
    )


class ListTransactionsResponse(Message):
    API_KEY = 66
    VERSIONS = (0, 2)
    FLEXIBLE = 0

    throttle_time_ms: int = 0
    error_code: int = 0
    unknown_state_filters: list[str] = NEW
    transaction_states: list[TransactionState] = NEW

    FIELDS = (
        "throttle_time_ms: int32 0+",
        "error_code: int16 0+",
        "unknown_state_filters: []string 0+",
        "transaction_states: []TransactionState 0+",
    )
