"""A broker's session with the cluster: registration under a lease, keepalive, unfencing, clean stop.

The broker epoch is the create revision of the registration. What the broker wants (be unfenced, stop) it
writes into its registration, which keeps its epoch; the controller answers in the broker's state. The
keepalive is a task of the loop that serves clients, so a loop that hangs loses its lease. A lost lease (a
pause longer than the session timeout) leads to a new registration with a new epoch: the controller takes
leadership away first, then gives it back. While the store is unreachable nothing happens at all: nobody can
elect either.

A start that finds its id registered looks at the log directories: others' are a running broker's, and the start is
refused. Its own, on this boot of this machine, cannot be in use, since it has locked them: the session that died is
ended at once. Its own otherwise (the machine was restarted, or the disk moved) are waited for until their lease is over.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tierlog.broker.metadata_feed import MetadataFeed
from tierlog.errors import StoreUnavailable, UserError
from tierlog.metadata import keys, records
from tierlog.metadata.commits import leave_clean_stop, register
from tierlog.metadata.image import ImageDelta
from tierlog.metadata.records import BrokerRegistration, Endpoint
from tierlog.metadata.store import Compare, Get, KeyValue, LeaseNotFound, MetadataStore, Put, Txn

RETRY_S = 0.2
# A store may let a lease live longer than asked for (etcd counts in seconds and starts all anew with a new leader).
WAIT_MARGIN_S = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerDescription:
    """What the node says about itself. ``dirs``: uuids of its log directories, as far as they are known; ``offline_dirs``:
    those of them that it cannot use, ``cordoned_dirs``: those that are to get no new replicas.
    ``cluster_id``: the one in the log dirs' ``meta.properties``, None
    when they are new. ``lossless_since``: the oldest broker epoch since which no written data was lost, 0
    unknown; ``is_lossy``: something is known to be lost (see ``session_marker``)."""

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
    features: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Registration:
    """See the module head. ``broker_epoch``, ``cluster_id`` and ``lossless_since`` mean something after
    ``start``; the node keeps ``lossless_since`` beside the data, for a start after the process alone has
    died."""

    def __init__(
        self,
        store: MetadataStore,
        feed: MetadataFeed,
        description: BrokerDescription,
        *,
        session_timeout_ms: int = 9000,
        heartbeat_interval_ms: int = 2000,
        on_registered: Callable[[int], None] | None = None,
        on_replaced: Callable[[UserError], None] | None = None,
    ) -> None:
        """``on_registered(broker_epoch)`` is called at each registration, also the ones after a lost
        lease; ``on_replaced(why)`` when another process took the broker id meanwhile: stop then."""
        self._store = store
        self._feed = feed
        self._description = description
        self._session_timeout_ms = session_timeout_ms
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._on_registered = on_registered
        self._on_replaced = on_replaced
        self.broker_id = description.broker_id
        self.broker_epoch = 0
        self.lossless_since = 0
        self._is_lossy = description.is_lossy
        self.cluster_id = ""
        self.lease = 0
        self._record = BrokerRegistration(
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
        self._keepalive: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        feed.subscribe(self._on_delta)

    async def start(self) -> None:
        """Creates or checks the cluster id, registers, starts the keepalive. Raises ``UserError`` when the
        id is taken by a running broker (at once, or after the session timeout where it may have died) or the data
        belongs to another cluster."""
        self.cluster_id = await self._find_cluster_id()
        await self._register_at_start()
        self._keepalive = asyncio.create_task(self._keep_alive(), name="registration")

    async def activate(self) -> None:
        """The logs are recovered: ask to be unfenced; returns when the image shows it."""
        await self._until(lambda: self._is_handled)
        await self._want(want_fence=False)
        await self._until(lambda: self.is_active)

    @property
    def is_active(self) -> bool:
        """The image shows this very registration as unfenced: this broker may lead and join ISRs."""
        broker = self._feed.image.brokers.get(self.broker_id)
        return broker is not None and broker.is_active and broker.broker_epoch == self.broker_epoch

    async def report_offline_dirs(self, offline_dirs: tuple[str, ...]) -> None:
        """Log directory failure: the controller takes leadership of what lies there away."""
        await self._want(offline_dirs=offline_dirs)

    async def report_cordoned_dirs(self, cordoned_dirs: tuple[str, ...]) -> None:
        """The controller places nothing new on a broker that has no other."""
        await self._want(cordoned_dirs=cordoned_dirs)

    async def prepare_stop(self, timeout_s: float) -> bool:
        """Controlled shutdown: True when this broker leads nothing that another could lead, False at the
        timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._want(want_shut_down=True)
                await self._until(self._has_nothing_to_hand_over)
        except (TimeoutError, StoreUnavailable):
            return False
        return True

    async def close(self, *, clean: bool) -> None:
        """``clean``: all data is flushed; leaves the clean-stop marker. Gives the lease back."""
        if self._keepalive is not None:
            self._keepalive.cancel()
            await asyncio.wait([self._keepalive])
        if not self.broker_epoch:
            return
        with contextlib.suppress(StoreUnavailable):
            if clean:
                dirs, since = self._record.dirs, self.lossless_since
                await self._store.txn(leave_clean_stop(self.broker_id, self.broker_epoch, dirs, since))
            await self._store.revoke(self.lease)

    # -- cluster id

    async def _find_cluster_id(self) -> str:
        found = self._feed.image.cluster_id
        if found is None:
            new = self._description.cluster_id or new_cluster_id()
            put = Put(keys.CLUSTER, records.encode_cluster_id(new))
            txn = Txn((Compare(keys.CLUSTER, "mod", 0),), (put,), (Get(keys.CLUSTER),))
            result = await self._store.txn(txn)
            kv = None if result.ok else result.gets[0]
            found = new if kv is None else records.decode_cluster_id(kv.value)
        expected = self._description.cluster_id
        if expected is not None and expected != found:
            raise UserError(
                f"the log directories belong to cluster {expected}, but the metadata store to cluster {found}; "
                "point metadata.store at the right store, or log.dirs at the right directories"
            )
        return found

    # -- registering

    async def _register_at_start(self) -> None:
        """See the module head for what is done about a registration that is in the way."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._session_timeout_ms / 1000 + WAIT_MARGIN_S
        has_waited = False
        while (found := await self._register()) is not None:
            other = records.decode_registration(found.value)
            # One directory says it: another may have been lost, or come, between the two sessions.
            is_own = bool(set(other.dirs) & set(self._record.dirs) - set(self._record.offline_dirs))
            if is_own and other.boot_id and _place(other) == _place(self._record):
                log.info("broker %d died and its lease lives on: it is ended", self.broker_id)
                await self._store.revoke(found.lease)
                continue
            if not is_own or loop.time() >= deadline_s:
                raise UserError(self._taken(other))
            if not has_waited:
                has_waited = True
                log.warning(
                    "the last session of broker %d still lives: waiting up to %d ms for its end",
                    self.broker_id,
                    self._session_timeout_ms,
                )
            await self._until_gone(found, deadline_s)

    async def _until_gone(self, found: KeyValue, deadline_s: float) -> None:
        """Until the registration is gone, or the deadline."""
        loop = asyncio.get_running_loop()
        while loop.time() < deadline_s:
            now = await self._store.get(found.key)
            if now is None or now.create_revision != found.create_revision:
                return
            await asyncio.sleep(RETRY_S)

    async def _register(self) -> KeyValue | None:
        """The registration that is in the way, None when there is none and this one stands."""
        key = keys.registration(self.broker_id)
        lease = await self._store.grant(self._session_timeout_ms)
        marker = await self._store.get(keys.clean_stop(self.broker_id))
        wanted = replace(self._record, want_fence=True)
        txn, record = register(self.broker_id, wanted, lease, marker, is_lossy=self._is_lossy)
        try:
            result = await self._store.txn(txn)
            epoch, other = result.revision, None if result.ok else result.gets[0]
            if not result.ok and other is None:
                raise StoreUnavailable("the clean-stop marker changed during registration")
        except StoreUnavailable:
            # It may have been applied: then the key in the store is under our lease.
            found = await self._store.get(key)
            if found is None or found.lease != lease:
                raise
            epoch, other = found.create_revision, None
        if other is not None:
            await self._store.revoke(lease)
            return other
        self.lease, self.broker_epoch, self._record = lease, epoch, record
        self.lossless_since = record.lossless_since or epoch
        self._is_lossy = False
        log.info("registered as broker %d, broker epoch %d", self.broker_id, epoch)
        if self._on_registered is not None:
            self._on_registered(epoch)
        return None

    def _taken(self, other: BrokerRegistration) -> str:
        where = ", ".join(f"{e.host}:{e.port}" for e in other.endpoints)
        return (
            f"broker id {self.broker_id} is taken by a running broker at {where}; stop that one, wait "
            f"{self._session_timeout_ms} ms if it died on another machine, or choose another node.id"
        )

    async def _want(
        self,
        *,
        want_fence: bool | None = None,
        want_shut_down: bool | None = None,
        offline_dirs: tuple[str, ...] | None = None,
        cordoned_dirs: tuple[str, ...] | None = None,
    ) -> None:
        """Writes a wish into the registration; its epoch stays."""
        record = self._record
        self._record = replace(
            record,
            want_fence=record.want_fence if want_fence is None else want_fence,
            want_shut_down=record.want_shut_down if want_shut_down is None else want_shut_down,
            offline_dirs=record.offline_dirs if offline_dirs is None else offline_dirs,
            cordoned_dirs=record.cordoned_dirs if cordoned_dirs is None else cordoned_dirs,
        )
        key = keys.registration(self.broker_id)
        guard = Compare(key, "create", self.broker_epoch)
        with contextlib.suppress(LeaseNotFound):  # the keepalive registers again
            put = Put(key, records.encode_registration(self._record), self.lease)
            await self._store.txn(Txn((guard,), (put,)))

    # -- staying

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_interval_ms / 1000)
            try:
                if not await self._store.keepalive(self.lease):
                    await self._register_again()
            except StoreUnavailable as error:
                log.warning("metadata store: %s; the registration is not confirmed", error)
            except UserError as error:
                log.error("%s", error)
                if self._on_replaced is not None:
                    self._on_replaced(error)
                return

    async def _register_again(self) -> None:
        log.warning("the lease of broker epoch %d is lost: registering again", self.broker_epoch)
        wants_to_serve = not self._record.want_fence
        # This process has lost nothing that it wrote, so its replicas stay eligible.
        self._record = replace(self._record, lossless_since=self.lossless_since)
        other = await self._register()
        if other is not None:
            raise UserError(self._taken(records.decode_registration(other.value)))
        if wants_to_serve:
            await self._until(lambda: self._is_handled)
            await self._want(want_fence=False)

    # -- what the image says

    def _on_delta(self, delta: ImageDelta) -> None:
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    @property
    def _is_handled(self) -> bool:
        broker = self._feed.image.brokers.get(self.broker_id)
        return broker is not None and broker.is_handled and broker.broker_epoch == self.broker_epoch

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
