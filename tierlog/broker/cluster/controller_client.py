"""Admin requests to the controller, as handlers and coordinators make them.

Each call returns after the local image has applied its changes; errors are in the results, one per item,
in order. Where this broker is not the controller the results say NOT_CONTROLLER; after ``timeout_ms``
(``request.timeout.ms`` where the caller has none of its own) REQUEST_TIMED_OUT.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tierlog.broker.cluster.controller_calls import Call, CallRefused, deciding_only
from tierlog.broker.cluster.controller_runner import ControllerRunner
from tierlog.errors import ErrorCode, UnknownOutcome
from tierlog.metadata import keys, records
from tierlog.metadata.commits import producer_id_block
from tierlog.metadata.control.configs import (
    ConfigAlteration,
    ConfigDecision,
    ConfigResult,
    decide_alter_configs,
)
from tierlog.metadata.control.decisions import PartitionDecision, PartitionResult
from tierlog.metadata.control.features import (
    FeatureDecision,
    FeatureResult,
    FeatureUpdate,
    decide_feature_updates,
)
from tierlog.metadata.control.leadership import (
    Election,
    ElectionType,
    decide_elections,
    has_wanted_leader,
)
from tierlog.metadata.control.reassignment import Reassignment, decide_reassignments, is_carried_out
from tierlog.metadata.control.removal import RemovalResult, decide_unregister, is_removed
from tierlog.metadata.control.topics import (
    NewPartitions,
    NewTopic,
    TopicDecision,
    TopicResult,
    confirm_dropped,
    decide_create_partitions,
    decide_create_topics,
    decide_delete_topics,
)
from tierlog.metadata.transactions import Txn

TIMEOUT_MS = 30_000
MAX_ATTEMPTS = 5

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ControllerClient:
    """See the module head."""

    def __init__(self, runner: ControllerRunner, request_timeout_ms: int = TIMEOUT_MS) -> None:
        self._runner = runner
        self._timeout_ms = request_timeout_ms
        self._image = runner.feed.image
        self._rules = runner.rules
        self._store = runner.store

    async def create_topics(
        self, topics: Sequence[NewTopic], *, validate_only: bool = False, timeout_ms: int | None = None
    ) -> list[TopicResult]:
        """One result per distinct name."""

        def decide(items: Sequence[NewTopic]) -> Iterator[TopicDecision]:
            start = secrets.randbelow(1 << 30)
            return decide_create_topics(
                self._image, self._rules, items, new_topic_id=new_topic_id, start=start
            )

        def shows(result: TopicResult) -> bool:
            return result.topic_id in self._image.topics_by_id

        call = Call(topics, decide, _name_of_topic, _name_of_result, shows, _give_up_topic)
        return await self._topics(call, [t.name for t in topics], validate_only, timeout_ms)

    async def create_partitions(
        self, requests: Sequence[NewPartitions], *, validate_only: bool = False, timeout_ms: int | None = None
    ) -> list[TopicResult]:
        """One result per distinct name."""

        def decide(items: Sequence[NewPartitions]) -> Iterator[TopicDecision]:
            start = secrets.randbelow(1 << 30)
            return decide_create_partitions(self._image, self._rules, items, start=start)

        def shows(result: TopicResult) -> bool:
            topic = self._image.topics_by_id.get(result.topic_id)
            return topic is not None and topic.partition_count == result.partition_count

        call = Call(requests, decide, lambda r: r.name, _name_of_result, shows, _give_up_topic)
        return await self._topics(call, [r.name for r in requests], validate_only, timeout_ms)

    async def delete_topics(
        self, topic_ids: Sequence[bytes], *, timeout_ms: int | None = None
    ) -> list[TopicResult]:
        """One result per id. The caller resolves names to ids, so that a new topic cannot take a name in
        between."""

        def decide(items: Sequence[bytes]) -> Iterator[TopicDecision]:
            return decide_delete_topics(self._image, self._rules, items)

        def shows(result: TopicResult) -> bool:
            return result.topic_id not in self._image.topics_by_id

        distinct = list(dict.fromkeys(topic_ids))
        call = Call(distinct, decide, lambda i: i, lambda r: r.topic_id, shows, _give_up_topic)
        try:
            return await self._carry_out(call, timeout_ms)
        except CallRefused as refused:
            return [TopicResult("", i, refused.error, _message(refused.error)) for i in distinct]

    async def alter_configs(
        self,
        alterations: Sequence[ConfigAlteration],
        *,
        validate_only: bool = False,
        timeout_ms: int | None = None,
    ) -> list[ConfigResult]:
        """One result per alteration."""

        def decide(items: Sequence[ConfigAlteration]) -> Iterator[ConfigDecision]:
            return decide_alter_configs(self._image, self._rules, items)

        def give_up(result: ConfigResult) -> ConfigResult:
            error = ErrorCode.REQUEST_TIMED_OUT
            return replace(result, error=error, message=_message(error))

        call = Call(alterations, decide, _resource, _resource, lambda result: False, give_up, reconciles=True)
        if validate_only:
            call = deciding_only(call)
        try:
            by_resource = {_resource(r): r for r in await self._carry_out(call, timeout_ms)}
            return [by_resource[_resource(a)] for a in alterations]
        except CallRefused as refused:
            message = _message(refused.error)
            return [ConfigResult(a.resource_type, a.name, refused.error, message) for a in alterations]

    async def reassign_partitions(
        self,
        wishes: Sequence[Reassignment],
        *,
        allow_replication_factor_change: bool = True,
        timeout_ms: int | None = None,
    ) -> list[PartitionResult]:
        """One result per distinct partition. Answered when the reassignment has begun."""

        def decide(items: Sequence[Reassignment]) -> Iterator[PartitionDecision]:
            return decide_reassignments(
                self._image,
                self._rules,
                items,
                allow_replication_factor_change=allow_replication_factor_change,
            )

        distinct = {(w.topic, w.partition): w for w in wishes}

        def shows(result: PartitionResult) -> bool:
            return is_carried_out(self._image, distinct[result.topic, result.partition])

        call = Call(list(distinct.values()), decide, _partition_of, _partition_of, shows, _give_up_partition)
        return await self._partitions(call, list(distinct), timeout_ms)

    async def elect_leaders(
        self, elections: Sequence[Election], kind: ElectionType, *, timeout_ms: int | None = None
    ) -> list[PartitionResult]:
        """One result per distinct partition."""

        def decide(items: Sequence[Election]) -> Iterator[PartitionDecision]:
            return decide_elections(self._image, self._rules, items, kind)

        def shows(result: PartitionResult) -> bool:
            return has_wanted_leader(self._image, Election(result.topic, result.partition), kind)

        distinct = list(dict.fromkeys(elections))
        call = Call(distinct, decide, _partition_of, _partition_of, shows, _give_up_partition)
        return await self._partitions(call, [(e.topic, e.partition) for e in distinct], timeout_ms)

    async def unregister_broker(self, broker_id: int) -> RemovalResult:
        """Takes a stopped broker out of the metadata. Any broker may do so: clients may ask any of them, and each
        transaction compares everything that its decision rests on. Raises ``StoreUnavailable``."""
        was_tried = False
        for _ in range(MAX_ATTEMPTS):
            if was_tried and is_removed(self._image, broker_id):
                return RemovalResult(broker_id)
            decision = decide_unregister(self._image, self._rules, broker_id)
            was_tried = bool(decision.txns)
            if await self._execute(decision.txns):
                return decision.result
        return RemovalResult(broker_id, ErrorCode.REQUEST_TIMED_OUT, _message(ErrorCode.REQUEST_TIMED_OUT))

    async def update_features(
        self,
        updates: Sequence[FeatureUpdate],
        *,
        validate_only: bool = False,
        timeout_ms: int | None = None,
    ) -> FeatureResult:
        """One result for all: they are made together or not at all."""

        def decide(items: Sequence[Sequence[FeatureUpdate]]) -> Iterator[FeatureDecision]:
            return (decide_feature_updates(self._image, i, validate_only=validate_only) for i in items)

        def shows(result: FeatureResult) -> bool:
            return self._image.features.above_base == result.levels

        call = Call([updates], decide, _only_one, _only_one, shows, _give_up_features)
        try:
            (result,) = await self._carry_out(call, timeout_ms)
        except CallRefused as refused:
            return FeatureResult(refused.error, _message(refused.error))
        return result

    async def _execute(self, txns: Sequence[Txn]) -> bool:
        """Executes them one after the other, without the controller's token; returns once the image shows it."""
        is_done = True
        for txn in txns:
            try:
                result = await self._store.txn(txn)
                is_done, revision = result.ok, result.revision
            except UnknownOutcome:
                is_done, revision = False, (await self._store.txn(Txn())).revision
            await self._runner.feed.wait_for_revision(revision)
            if not is_done:
                break
        return is_done

    async def allocate_producer_ids(self) -> tuple[int, int]:
        """A block ``[first, end)`` of producer ids that nobody else will get. Needs the store, not the
        controller; raises ``StoreUnavailable``."""
        while True:
            kv = await self._store.get(keys.PRODUCER_IDS)
            first = 0 if kv is None else records.decode_next_producer_id(kv.value)
            try:
                txn = producer_id_block(first, 0 if kv is None else kv.mod_revision)
                if (await self._store.txn(txn)).ok:
                    return first, first + records.PRODUCER_ID_BLOCK
            except UnknownOutcome:
                continue  # at worst a block is lost

    async def confirm_topic_dropped(self, topic_id: bytes, broker_id: int) -> None:
        """The broker has dropped its replicas of a deleted topic. Raises ``StoreUnavailable``."""
        await self._confirm(topic_id, broker_id=broker_id)

    async def confirm_tier_dropped(self, topic_id: bytes) -> None:
        """The remote objects of a deleted topic, and its tier heads, are gone. Raises
        ``StoreUnavailable``."""
        await self._confirm(topic_id, broker_id=None)

    async def _confirm(self, topic_id: bytes, broker_id: int | None) -> None:
        while True:
            topic = next((t for t in self._image.deleting_topics() if t.topic_id == topic_id), None)
            txn: Txn | None = None
            if topic is not None:
                txn = confirm_dropped(topic, broker_id=broker_id, tier=broker_id is None)
            if txn is None:
                return
            try:
                revision = (await self._store.txn(txn)).revision
            except UnknownOutcome:
                revision = (await self._store.txn(Txn())).revision
            await self._runner.feed.wait_for_revision(revision)

    async def _carry_out(self, call: Call[_Item, _Result], timeout_ms: int | None) -> list[_Result]:
        return await self._runner.carry_out(call, self._timeout_ms if timeout_ms is None else timeout_ms)

    async def _topics(
        self,
        call: Call[_Item, TopicResult],
        names: Sequence[str],
        validate_only: bool,
        timeout_ms: int | None,
    ) -> list[TopicResult]:
        if validate_only:
            call = deciding_only(call)
        try:
            return await self._carry_out(call, timeout_ms)
        except CallRefused as refused:
            message = _message(refused.error)
            return [TopicResult(name, error=refused.error, message=message) for name in dict.fromkeys(names)]

    async def _partitions(
        self,
        call: Call[_Item, PartitionResult],
        partitions: Sequence[tuple[str, int]],
        timeout_ms: int | None,
    ) -> list[PartitionResult]:
        try:
            return await self._carry_out(call, timeout_ms)
        except CallRefused as refused:
            message = _message(refused.error)
            return [PartitionResult(topic, n, refused.error, message) for topic, n in partitions]


def new_topic_id() -> bytes:
    """Random; never all zeros, never one whose text form starts with a dash (command lines would read an
    option)."""
    while True:
        topic_id = secrets.token_bytes(16)
        if not keys.format_topic_id(topic_id).startswith("-") and any(topic_id):
            return topic_id


def _name_of_topic(topic: NewTopic) -> str:
    return topic.name


def _name_of_result(result: TopicResult) -> str:
    return result.name


def _resource(of: ConfigAlteration | ConfigResult) -> tuple[str, str]:
    return of.resource_type, of.name


def _partition_of(of: Reassignment | Election | PartitionResult) -> tuple[str, int]:
    return of.topic, of.partition


def _only_one(of: object) -> None:
    """The key of the one item of a call, and of its result."""


def _give_up_features(result: FeatureResult) -> FeatureResult:
    return replace(result, error=ErrorCode.REQUEST_TIMED_OUT, message=_message(ErrorCode.REQUEST_TIMED_OUT))


def _give_up_partition(result: PartitionResult) -> PartitionResult:
    return replace(result, error=ErrorCode.REQUEST_TIMED_OUT, message=_message(ErrorCode.REQUEST_TIMED_OUT))


def _give_up_topic(result: TopicResult) -> TopicResult:
    return replace(result, error=ErrorCode.REQUEST_TIMED_OUT, message=_message(ErrorCode.REQUEST_TIMED_OUT))


def _message(error: ErrorCode) -> str:
    if error is ErrorCode.NOT_CONTROLLER:
        return "This is not the correct controller for this cluster."
    return "The request timed out."
