"""All message classes, for parametrized tests."""

from __future__ import annotations

from tierlog.wire.messages import consumer_protocol, group_records
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message

DATA: tuple[type[Message], ...] = (
    consumer_protocol.ConsumerProtocolSubscription,
    consumer_protocol.ConsumerProtocolAssignment,
    group_records.OffsetCommitKey,
    group_records.OffsetCommitValue,
    group_records.GroupMetadataKey,
    group_records.GroupMetadataValue,
)
CALLS: tuple[type[Message], ...] = tuple(
    side for spec in APIS.values() for side in (spec.request, spec.response)
)
ALL = CALLS + DATA
