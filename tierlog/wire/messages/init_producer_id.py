"""InitProducerId, API key 22: written by tools/generate_messages.py, not by hand."""

from __future__ import annotations

from tierlog.wire.schema import Message


class InitProducerIdRequest(Message):
    API_KEY = 22
    VERSIONS = (0, 6)
    FLEXIBLE = 2

    transactional_id: str | None = ""
    transaction_timeout_ms: int = 0
    producer_id: int = -1
    producer_epoch: int = -1
    enable2_pc: bool = False
    keep_prepared_txn: bool = False

    FIELDS = (
        "transactional_id: string 0+ nullable=0+",
        "transaction_timeout_ms: int32 0+",
        "producer_id: int64 3+",
        "producer_epoch: int16 3+",
        "enable2_pc: bool 6+",
        "keep_prepared_txn: bool 6+",
    )


class InitProducerIdResponse(Message):
    API_KEY = 22
    VERSIONS = (0, 6)
    FLEXIBLE = 2

    throttle_time_ms: int = 0
    error_code: int = 0
    producer_id: int = -1
    producer_epoch: int = 0
    ongoing_txn_producer_id: int = -1
    ongoing_txn_producer_epoch: int = -1

    FIELDS = (
        "throttle_time_ms: int32 0+ ignorable",
        "error_code: int16 0+",
        "producer_id: int64 0+",
        "producer_epoch: int16 0+",
        "ongoing_txn_producer_id: int64 6+",
        "ongoing_txn_producer_epoch: int16 6+",
    )
