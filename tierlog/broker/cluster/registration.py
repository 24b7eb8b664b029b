"""A broker's session with the cluster: carries out what ``metadata.session`` decides.

The broker epoch is the create revision of the registration. The broker writes its wishes (be unfenced, stop)
into its registration, which keeps its epoch; the controller answers in the broker's state. All of it runs
on the loop that serves clients, so a loop that hangs loses its lease. A lost lease (a pause longer than the session
timeout) leads to a new registration with a new epoch: the controller takes leadership away first, then gives it
back. While the store is unreachable nothing happens at all: no controller can elect a leader either.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from tierlog.broker.cluster.metadata_feed import MetadataFeed
from tierlog.broker.cluster.patience import TELL_S, patiently
from tierlog.broker.work.background import Background, Kept
from tierlog.errors import StoreUnavailable, UserError
from tierlog.metadata import records
from tierlog.metadata.commits import found_cluster, leave_clean_stop
from tierlog.metadata.features import Ranges, explain_gap, supported_ranges
from tierlog.metadata.image import ImageDelta
from tierlog.metadata.records import BrokerRegistration, Endpoint
from tierlog.metadata.session import (
    Call,
    End,
    Grant,
    KeepAlive,
    Look,
    Notice,
    Register,
    Registered,
    Session,
    Stop,
    Timing,
    Waits,
    Write,
)
from tierlog.metadata.stores.port import LeaseNotFound, MetadataStore

# A store may let a lease live longer than asked for (etcd counts in seconds).
WAIT_MARGIN_S = 3.0
# For the last writes, to a store that may not answer.
CLOSE_S = 6.0
RETRY_S = 0.2

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BrokerDescription:
    """What the node says about itself. ``dirs``: uuids of its log directories, as far as they are known; ``offline_dirs``:
    those of them that it cannot use, ``cordoned_dirs``: those that are to get no new replicas.
    ``cluster_id``: the one in the log dirs' ``meta.properties``, None
    when they are new. ``lossless_since``: the oldest broker epoch since which no written data was lost, 0
    unknown; ``is_lossy``: something is known to be lost (see ``disk.session_verdict``)."""

    broker_id: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    host: str = ""
    dirs: tuple[str, ...] = ()
    offline_dirs: tuple[str, ...] = ()
    cordoned_dirs: tuple[str, ...] = ()
    boot_id: str = ""
    cluster_id: str | None = None
    lossless_since: int = 0
    is_lossy: bool = False
    features: Ranges = field(default_factory=supported_ranges)


class Registration:
    """See the module head. ``broker_epoch``, ``cluster_id`` and ``lossless_since`` are valid after
    ``start``; the node also keeps ``lossless_since`` beside the data, for a start after only the process has
    died."""

    def __init__(
        self,
        store: MetadataStore,
        feed: MetadataFeed,
        description: BrokerDescription,
        *,
        session_timeout_ms: int = 9000,
        heartbeat_interval_ms: int = 2000,
        background: Background | None = None,
        on_registered: Callable[[int], None] | None = None,
        on_replaced: Callable[[BaseException], None] | None = None,
    ) -> None:
        """``on_registered(broker_epoch)`` is called at each registration, also the ones after a lost
        lease; ``on_replaced(why)`` when another process took the broker id meanwhile, or a bug keeps this one from
        staying in the cluster: stop then."""
        self._store = store
        self._feed = feed
        self._description = description
        self._on_registered = on_registered
        self._on_replaced = on_replaced
        self.broker_id = description.broker_id
        self.cluster_id = ""
        record = BrokerRegistration(
            incarnation=secrets.token_hex(8),
            endpoints=description.endpoints,
            rack=description.rack,
            host=description.host,
            dirs=description.dirs,
            offline_dirs=description.offline_dirs,
            cordoned_dirs=description.cordoned_dirs,
            boot_id=description.boot_id,
            features=description.features,
            lossless_since=description.lossless_since,
        )
        self._session_timeout_ms = session_timeout_ms
        # Twice the timeout: another session's lease may begin anew once, when the store gets a new leader.
        wait_ms = 2 * session_timeout_ms + round(1000 * WAIT_MARGIN_S)
        timing = Timing(session_timeout_ms, heartbeat_interval_ms, wait_ms)
        self._session = Session(self.broker_id, record, timing, is_lossy=description.is_lossy)
        self._loop = asyncio.get_running_loop()
        self._background = Background() if background is None else background
        self._driver: Kept | None = None
        self._calls: set[Kept] = set()
        self._was_told = False
        self._has_registered = False
        # Why this broker cannot be in the cluster.
        self._refused: UserError | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        feed.subscribe(self._on_delta)

    @property
    def broker_epoch(self) -> int:
        """Broker epoch of the newest registration, which may be lost; 0 before the first."""
        return self._session.broker_epoch

    @property
    def lossless_since(self) -> int:
        return self._session.lossless_since

    @property
    def lease(self) -> int:
        """Lease of the registration; 0 while that is lost, until there is a new one."""
        return self._session.lease if self._session.is_registered else 0

    async def start(self) -> None:
        """Creates or checks the cluster id, and registers; waits for the store while it does not answer. Raises
        ``UserError`` when the id is taken by a running broker (at once, or after the session timeout where it may have
        died), the data belongs to another cluster, or this version does not know the cluster's feature levels."""
        self.cluster_id = await patiently(self._find_cluster_id, "to join the cluster")
        if (gap := self._gap_in_features()) is not None:
            raise gap
        self._driver = self._background.forever("registration", self._drive, vital=self._end)
        await self._until(lambda: self._session.is_registered, "waiting for the metadata store, to register")

    async def activate(self) -> None:
        """Asks to be unfenced, once the logs are recovered; returns when the image shows it."""
        self._wish(want_fence=False)
        await self._until(lambda: self.is_active, "waiting for the controller, to be unfenced")

    @property
    def is_active(self) -> bool:
        """Whether the image shows this very registration as unfenced: then this broker may lead and join ISRs."""
        broker = self._feed.image.brokers.get(self.broker_id)
        return broker is not None and broker.is_active and broker.broker_epoch == self.broker_epoch

    async def report_offline_dirs(self, offline_dirs: tuple[str, ...]) -> None:
        """Reports failed log directories: the controller moves the leadership of replicas there to other brokers. Returns
        once the store has it."""
        self._wish(offline_dirs=offline_dirs)
        await self._until(lambda: self._session.is_written, "waiting to report offline log directories")

    async def report_cordoned_dirs(self, cordoned_dirs: tuple[str, ...]) -> None:
        """The controller places no new replicas on a broker that has only cordoned ones. Returns once the store has it."""
        self._wish(cordoned_dirs=cordoned_dirs)
        await self._until(lambda: self._session.is_written, "waiting to report cordoned log directories")

    async def prepare_stop(self, timeout_s: float) -> bool:
        """Controlled shutdown: True when this broker leads nothing that another could lead, False at the
        timeout, or when the store does not answer."""
        self._wish(want_shut_down=True)
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self._has_nothing_to_hand_over() or not self._is_confirmed())
        except (TimeoutError, UserError):
            return False
        return self._has_nothing_to_hand_over()

    async def close(self, *, clean: bool) -> None:
        """``clean``: all data is flushed; leaves the clean-stop marker. Gives the lease back. Takes ``CLOSE_S`` at most."""
        if self._driver is not None:
            await self._driver.stop()
        for call in self._calls:
            await call.stop()
        # Revoking the lease also ends a registration that is under way.
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                if clean and self.broker_epoch:
                    await self._leave_clean_stop()
                if self._session.lease:
                    await self._store.revoke(self._session.lease)

    async def _leave_clean_stop(self) -> None:
        dirs = self._session.record.dirs
        txn = leave_clean_stop(self.broker_id, self.broker_epoch, dirs, self.lossless_since)
        while True:
            try:
                await self._store.txn(txn)
                return
            except StoreUnavailable as error:
                # Doing it twice does no harm, and without it the next start doubts all data.
                logger.warning(
                    "the clean stop cannot be noted in the metadata store: trying again", why=str(error)
                )
                await asyncio.sleep(RETRY_S)

    # -- cluster id

    async def _find_cluster_id(self) -> str:
        found = self._feed.image.cluster_id
        if found is None:
            new = self._description.cluster_id or new_cluster_id()
            result = await self._store.txn(found_cluster(new))
            kv = None if result.ok else result.gets[0]
            found = new if kv is None else records.decode_cluster_id(kv.value)
        expected = self._description.cluster_id
        if expected is not None and expected != found:
            raise UserError(
                f"the log directories belong to cluster {expected}, but the metadata store to cluster {found}; "
                "point metadata.store at the right store, or log.dirs at the right directories"
            )
        return found

    # -- what the session decides

    def _wish(
        self,
        *,
        want_fence: bool | None = None,
        want_shut_down: bool | None = None,
        offline_dirs: tuple[str, ...] | None = None,
        cordoned_dirs: tuple[str, ...] | None = None,
    ) -> None:
        record = self._session.record
        self._session.wish(
            replace(
                record,
                want_fence=record.want_fence if want_fence is None else want_fence,
                want_shut_down=record.want_shut_down if want_shut_down is None else want_shut_down,
                offline_dirs=record.offline_dirs if offline_dirs is None else offline_dirs,
                cordoned_dirs=record.cordoned_dirs if cordoned_dirs is None else cordoned_dirs,
            )
        )
        self._wake.set()

    async def _drive(self) -> None:
        self._look_at_image()
        while True:
            for effect in self._session.poll(self._now_ms()):
                if isinstance(effect, Notice):
                    self._notice(effect)
                else:
                    self._begin(effect)
            due_ms = self._session.due_ms()
            wait_s = None if due_ms is None else max(due_ms - self._now_ms(), 0) / 1000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()

    def _begin(self, effect: KeepAlive | Call) -> None:
        name = "keepalive" if isinstance(effect, KeepAlive) else "registration call"
        self._calls = {call for call in self._calls if not call.is_over}
        self._calls.add(self._background.job(name, partial(self._carry_out, effect), again=False))

    async def _carry_out(self, effect: KeepAlive | Call) -> None:
        """Carries out a call, and tells the session of every outcome."""
        session = self._session
        try:
            # A store bounds its calls itself; one that does not must not hold up the rest for ever.
            async with asyncio.timeout(self._call_timeout_s):
                await self._ask(effect)
        except LeaseNotFound:
            session.on_failed(effect, self._now_ms(), is_lease_gone=True)
        except (StoreUnavailable, TimeoutError) as error:
            if not self._was_told:
                logger.warning(
                    "the metadata store does not confirm the registration", why=str(error) or "no answer"
                )
            self._was_told = True
            session.on_failed(effect, self._now_ms())
        except UserError as error:
            self._refuse(error)  # written by a newer version
        except BaseException:
            session.on_failed(effect, self._now_ms())
            self._wake.set()
            raise
        else:
            self._was_told = False
        self._wake.set()
        self._changed.set()

    async def _ask(self, effect: KeepAlive | Call) -> None:
        session, store = self._session, self._store
        match effect:
            case KeepAlive(lease):
                is_alive = await store.keepalive(lease)
                if not is_alive and lease == session.lease and session.is_registered:
                    logger.warning("the lease is lost: registering again", broker_epoch=self.broker_epoch)
                session.on_kept_alive(lease, is_alive, self._now_ms())
            case Look(registration, clean_stop):
                found, marker = await store.get(registration), await store.get(clean_stop)
                session.on_looked(found, marker, self._now_ms())
            case Grant(ttl_ms):
                session.on_granted(await store.grant(ttl_ms), self._now_ms())
            case Register() | Write():
                session.on_answered(effect, await store.txn(effect.txn), self._now_ms())
            case End(lease):
                logger.info("an earlier process of this broker died: its lease is ended")
                await store.revoke(lease)
                session.on_ended(self._now_ms())

    def _notice(self, notice: Notice) -> None:
        match notice:
            case Registered(broker_epoch):
                # The first one is said with "broker started"; a start that fails says why, and nothing else.
                if self._has_registered:
                    logger.info("registered again", broker_id=self.broker_id, broker_epoch=broker_epoch)
                self._has_registered = True
                if self._on_registered is not None:
                    self._on_registered(broker_epoch)
            case Waits():
                logger.warning(
                    "another session of this broker still lives: waiting for its end",
                    broker_id=self.broker_id,
                    wait_max_ms=self._session.timing.wait_ms,
                )
            case Stop(other):
                self._refuse(UserError(self._taken(other)))
        self._changed.set()

    def _refuse(self, error: UserError) -> None:
        logger.error("not in the cluster", why=str(error))
        self._end(error)

    def _end(self, error: BaseException) -> None:
        """This broker cannot be in the cluster."""
        self._refused = error if isinstance(error, UserError) else UserError(f"not in the cluster: {error}")
        self._changed.set()
        if self._on_replaced is not None and self.broker_epoch:
            self._on_replaced(error)

    def _taken(self, other: BrokerRegistration) -> str:
        where = ", ".join(f"{e.host}:{e.port}" for e in other.endpoints)
        return (
            f"broker id {self.broker_id} is taken by a running broker at {where}; stop that one, wait "
            f"{self._session_timeout_ms} ms if it died on another machine, or choose another node.id"
        )

    def _now_ms(self) -> int:
        return int(1000 * self._loop.time())

    @property
    def _call_timeout_s(self) -> float:
        return max(2 * self._session_timeout_ms / 1000, 15.0)

    def _is_confirmed(self) -> bool:
        return self._session.is_confirmed(self._now_ms())

    # -- what the image says

    def _on_delta(self, delta: ImageDelta) -> None:
        if delta.is_reload or self.broker_id in delta.brokers_changed:
            self._look_at_image()
        if delta.features_changed and (gap := self._gap_in_features()) is not None:
            self._refuse(gap)
        self._changed.set()

    def _gap_in_features(self) -> UserError | None:
        """A level may have been finalized while nobody knew of this broker; it must not run then."""
        levels = self._feed.image.features
        gap = levels.first_gap(self._description.features)
        return None if gap is None else UserError(explain_gap(levels, *gap))

    def _look_at_image(self) -> None:
        image = self._feed.image
        self._session.on_image(image.revision, image.brokers.get(self.broker_id))
        self._wake.set()

    async def _until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Waits for ``condition``, and logs ``what`` once a minute. Raises ``UserError`` when this broker cannot be in the
        cluster."""
        tell_at_s = self._loop.time() + TELL_S
        while not condition():
            if self._refused is not None:
                raise self._refused
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
            if what and self._loop.time() >= tell_at_s:
                tell_at_s += TELL_S
                logger.warning(what, broker_id=self.broker_id)

    def _has_nothing_to_hand_over(self) -> bool:
        image = self._feed.image
        broker = image.brokers.get(self.broker_id)
        if broker is None or broker.state is None or not broker.state.shutting_down:
            return broker is None or broker.state is None or broker.state.fenced
        available = {b.broker_id for b in image.brokers.values() if b.is_available}
        return not any(
            state.leader == self.broker_id and any(r in available for r in state.isr)
            for topic in image.topics_by_name.values()
            for state in topic.partitions.values()
        )


def _place(registration: BrokerRegistration) -> tuple[str, str]:
    return registration.boot_id, registration.host


def new_cluster_id() -> str:
    """Kafka's form: 22 characters of URL-safe base64 that do not start with a dash."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16))[:22].decode()
        if not text.startswith("-"):
            return text
