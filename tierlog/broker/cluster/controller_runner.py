"""Runs the controller where this broker holds the controller lease, and carries admin requests to it.

One task does everything that the controller does, one thing after the other: an admin call is decided on
the image, executed, and seen in the image before the next one is looked at; so is each round of the
reconciler. Every transaction carries the controller token. When an outcome is unknown, or a comparison
fails, the image is brought up to date and everything is decided again: nothing is ever retried blindly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import structlog

from tierlog.broker.cluster.controller_calls import Call, CallRefused
from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.registration import Registration
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.slices import in_slices
from tierlog.errors import ErrorCode, StoreUnavailable, UnknownOutcome
from tierlog.metadata.control.controller import acquire, guarded, needs_reconciling, reconcile
from tierlog.metadata.control.election import gather_facts
from tierlog.metadata.control.leadership import balance_changes
from tierlog.metadata.image import ImageDelta
from tierlog.metadata.rules import TopicRules
from tierlog.metadata.stores.port import LeaseNotFound, MetadataStore
from tierlog.metadata.transactions import Txn

FULL_SCAN_S = 30.0
RETRY_S = 0.1
MAX_ATTEMPTS = 5
MAX_QUEUED_CALLS = 1000
MAX_CONCURRENT_TXNS = 32
# Decisions of one call that are executed before the image is looked at again.
DECISIONS_AT_ONCE = 100
# The reconciler's transactions under way. Each holds many changes, and all answers may come in one turn of the loop.
MAX_CONCURRENT_ROUNDS = 8

logger = structlog.get_logger()

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class ControllerRunner:
    """``start`` after ``Registration.start`` and before ``Registration.activate``, which waits for a
    controller."""

    def __init__(
        self,
        store: MetadataStore,
        feed: MetadataFeed,
        registration: Registration,
        rules: TopicRules,
        *,
        background: Background | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """``rules``: defaults and validators of topics (server.properties). ``on_failure(why)``: a bug
        ended the controller; the broker should stop, so that another one takes over."""
        self._background = Background() if background is None else background
        self._on_failure = on_failure
        self.feed = feed
        self.rules = rules
        self.store = store
        self._registration = registration
        self._calls: deque[Call[Any, Any]] = deque()
        self._wake = asyncio.Event()
        self._is_dirty = True
        self._balance_at_s = 0.0
        self._task: Kept | None = None
        feed.subscribe(self._on_delta)

    def start(self) -> None:
        assert self._task is None, "started twice"
        self._task = self._background.forever("controller", self._run, vital=self._ended)

    async def close(self) -> None:
        """Stops the task; another broker takes over when this one's lease is given back."""
        if self._task is not None:
            await self._task.stop()
        self._refuse_calls(ErrorCode.NOT_CONTROLLER)

    @property
    def is_controller(self) -> bool:
        """Whether the image says so; a transaction of ours may still be refused because it is no longer true."""
        controller = self.feed.image.controller
        return (
            controller is not None
            and controller.broker_id == self._registration.broker_id
            and controller.broker_epoch == self._registration.broker_epoch
        )

    async def carry_out(self, call: Call[ItemT, ResultT], timeout_ms: int) -> list[ResultT]:
        """The answers, once the image shows what was done. Raises ``CallRefused``."""
        if self.feed.image.controller is not None and not self.is_controller:
            raise CallRefused(ErrorCode.NOT_CONTROLLER)
        if len(self._calls) >= MAX_QUEUED_CALLS:
            # Calls whose callers have left meanwhile take up no room.
            self._calls = deque(queued for queued in self._calls if not queued.answer.done())
        if len(self._calls) >= MAX_QUEUED_CALLS:
            raise CallRefused(ErrorCode.REQUEST_TIMED_OUT)
        self._calls.append(call)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await call.answer
        except TimeoutError:
            raise CallRefused(ErrorCode.REQUEST_TIMED_OUT) from None

    # -- the task

    def _ended(self, error: BaseException) -> None:
        self._refuse_calls(ErrorCode.NOT_CONTROLLER)
        if self._on_failure is not None:
            self._on_failure(error)

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except (StoreUnavailable, LeaseNotFound) as error:
                logger.warning("the controller cannot go on: trying again", why=str(error))
                await asyncio.sleep(RETRY_S)

    async def _turn(self) -> None:
        if self.feed.image.controller is None:
            await self._acquire()
            if self.feed.image.controller is None:
                self._refuse_calls(ErrorCode.NOT_CONTROLLER)
        elif not self.is_controller:
            self._refuse_calls(ErrorCode.NOT_CONTROLLER)
            await self._wait()
        elif self._calls:
            await self._answer(self._calls.popleft())
        elif self._is_dirty:
            await self._reconcile()
        elif self._until_balance_s() <= 0:
            await self._balance()
        else:
            await self._wait()

    async def _wait(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(min(FULL_SCAN_S, self._until_balance_s())):
                await self._wake.wait()
        except TimeoutError:
            self._is_dirty = True

    def _until_balance_s(self) -> float:
        if not self.is_controller or not self.rules.balance_interval_ms:
            return FULL_SCAN_S
        return self._balance_at_s - asyncio.get_running_loop().time()

    def _schedule_balance(self) -> None:
        self._balance_at_s = asyncio.get_running_loop().time() + self.rules.balance_interval_ms / 1000

    async def _balance(self) -> None:
        """Gives partitions back to their preferred leaders."""
        self._schedule_balance()
        txns = [(txn,) for txn in balance_changes(self.feed.image, self.rules)]
        if txns:
            await self._execute_all(txns, MAX_CONCURRENT_ROUNDS)

    async def _acquire(self) -> None:
        registration = self._registration
        if not registration.lease:
            await asyncio.sleep(RETRY_S)  # without a lease the controller role would never be released
            return
        txn = acquire(registration.broker_id, registration.broker_epoch, registration.lease)
        result = await self.store.txn(txn)
        await self.feed.wait_for_revision(result.revision)
        if result.ok:
            self._is_dirty = True
            self._schedule_balance()
            logger.info(
                "this broker is the controller", broker_id=registration.broker_id, token=result.revision
            )
        elif self.feed.image.controller is None:
            await asyncio.sleep(RETRY_S)  # our registration is gone; a new one is under way

    def _on_delta(self, delta: ImageDelta) -> None:
        if not self.is_controller and not delta.controller_changed:
            return
        self._is_dirty = (
            self._is_dirty
            or delta.is_reload
            or delta.controller_changed
            or bool(delta.brokers_changed or delta.configs_changed or delta.features_changed)
            or bool(delta.topics_deleted or delta.tombstones_changed or delta.log_ends_changed)
            or self._needs_election(delta)
        )
        if self._is_dirty:
            self._wake.set()

    def _needs_election(self, delta: ImageDelta) -> bool:
        changed = [c.new for c in delta.partitions_changed if c.new is not None]
        return bool(changed) and needs_reconciling(changed, gather_facts(self.feed.image))

    # -- reconciling

    async def _reconcile(self) -> None:
        """Runs rounds until nothing is left to do. After a failure it is due again at once, not at the next full scan."""
        self._is_dirty = False
        try:
            await self._reconcile_rounds()
        except BaseException:
            self._is_dirty = True
            raise

    async def _reconcile_rounds(self) -> None:
        while self.is_controller:
            txns = []
            for item in reconcile(self.feed.image, self.rules):
                if item is None:
                    await asyncio.sleep(0)
                else:
                    txns.append(item)
            if not txns:
                return
            outcomes = await self._execute_all([(txn,) for txn in txns], MAX_CONCURRENT_ROUNDS)
            if not any(outcomes):
                await asyncio.sleep(RETRY_S)

    async def _execute_all(
        self, sequences: Sequence[Sequence[Txn]], at_once: int = MAX_CONCURRENT_TXNS
    ) -> list[bool]:
        """Executes sequences of transactions side by side, ``at_once`` at most, then waits until the image shows them. True
        where each transaction of a sequence was applied; False where one was refused or its outcome is unknown."""
        token = self.feed.image.controller_token
        limit = asyncio.Semaphore(at_once)
        revision = 0

        async def execute(txns: Sequence[Txn]) -> bool:
            nonlocal revision
            async with limit:
                for txn in txns:
                    try:
                        result = await self.store.txn(guarded(txn, token))
                    except (UnknownOutcome, LeaseNotFound):
                        return False
                    revision = max(revision, result.revision)
                    if not result.ok:
                        return False
            return True

        outcomes = await asyncio.gather(*(execute(txns) for txns in sequences))
        if not all(outcomes):
            revision = (await self.store.txn(Txn())).revision
        await self.feed.wait_for_revision(revision)
        return outcomes

    # -- admin calls

    async def _answer(self, call: Call[Any, Any]) -> None:
        if call.answer.done():
            return  # its caller no longer waits
        try:
            results = await self._attempt(call)
            if call.reconciles:
                await self._reconcile()
        except StoreUnavailable as error:
            logger.warning("the controller cannot carry out a call", why=str(error))
            if not call.answer.done():
                call.answer.set_exception(CallRefused(ErrorCode.REQUEST_TIMED_OUT))
            return
        if not call.answer.done():
            call.answer.set_result(results)

    async def _attempt(self, call: Call[Any, Any]) -> list[Any]:
        results: dict[Hashable, Any] = {call.item_key(item): None for item in call.items}
        items = list(call.items)
        for _ in range(MAX_ATTEMPTS):
            failed: set[Hashable] = set()
            decided: list[Any] = []
            async for decision in in_slices(call.decide(items)):
                decided.append(decision)
                if len(decided) >= DECISIONS_AT_ONCE:
                    failed |= await self._carry_out_decisions(call, decided, results)
                    decided = []
            failed |= await self._carry_out_decisions(call, decided, results)
            if not failed or not self.is_controller:
                break
            items = [item for item in items if call.item_key(item) in failed]
        return list(results.values())

    async def _carry_out_decisions(
        self, call: Call[Any, Any], decisions: Sequence[Any], results: dict[Hashable, Any]
    ) -> set[Hashable]:
        """Fills in the results; returns the keys of those that failed."""
        # Most refusals need no transaction, and then the store is not asked.
        needed = [d for d in decisions if d.txns]
        applied = iter(await self._execute_all([d.txns for d in needed]) if needed else ())
        failed: set[Hashable] = set()
        for decision in decisions:
            key = call.result_key(decision.result)
            is_applied = not decision.txns or next(applied)
            if is_applied or call.shows(decision.result):
                results[key] = decision.result
            else:
                failed.add(key)
                results[key] = call.give_up(decision.result)
        return failed

    def _refuse_calls(self, error: ErrorCode) -> None:
        while self._calls:
            call = self._calls.popleft()
            if not call.answer.done():
                call.answer.set_exception(CallRefused(error))
