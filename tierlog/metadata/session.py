"""A broker's session with the cluster, as a pure state machine: it decides the next call to the metadata store from the
store's answers and from the broker's wish.

Two lanes, each with one call under way: the **keepalive**, which waits for nothing else, and the **calls** that bring the
store to the wish. Rules:

* Nothing is retried blindly: after an unknown outcome the session reads the store. It knows its own registration by the
  incarnation, so it takes over a registration whose answer was lost, even one that appears late.
* The wish (fenced, shut down, offline and cordoned directories) is compared with the stored registration as long as this
  process lives. Where they differ the session writes the wish again, with backoff, whatever became of earlier writes.
* A registration asks to be unfenced only after the controller has dealt with it, since that raises the leader epochs of
  the partitions it leads.
* A lease is lost when the store says so (a keepalive, a refused write, the image). Then everything begins anew, with a new
  lease and a new broker epoch; this process keeps its knowledge that it has lost no data.
* Another registration may hold the id. If it names none of these log directories, it is a running broker, and this one
  stops. If it shares a directory, is from this boot of this machine, and this process has not registered yet, it is a
  leftover, since this process has locked the directories: the session ends it. If it shares a directory otherwise, the
  session waits for as long as a lease can outlive its owner while the store answers; a registration that stays is alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from tierlog.metadata import keys, records
from tierlog.metadata.commits import register
from tierlog.metadata.image import BrokerImage
from tierlog.metadata.records import BrokerRegistration
from tierlog.metadata.transactions import Compare, KeyValue, Put, Txn, TxnResult


@dataclass(frozen=True, slots=True)
class Timing:
    """``wait_ms``: how long a lease that nobody renews may live at most. Failed calls are repeated after
    ``retry_ms``, then after twice as long, up to the heartbeat interval."""

    session_timeout_ms: int = 9000
    heartbeat_interval_ms: int = 2000
    wait_ms: int = 12_000
    retry_ms: int = 100


# -- effects


class KeepAlive(NamedTuple):
    """Answered by ``on_kept_alive``."""

    lease: int


class Look(NamedTuple):
    """Read the registration and the clean-stop marker; answered by ``on_looked``."""

    registration: str
    clean_stop: str


class Grant(NamedTuple):
    """Answered by ``on_granted``."""

    ttl_ms: int


class Register(NamedTuple):
    """Answered by ``on_answered``."""

    txn: Txn
    lease: int
    record: BrokerRegistration


class Write(NamedTuple):
    """Answered by ``on_answered``."""

    txn: Txn
    lease: int
    record: BrokerRegistration
    broker_epoch: int


class End(NamedTuple):
    """Revoke the lease; answered by ``on_ended``."""

    lease: int


class Registered(NamedTuple):
    """A notice; not answered."""

    broker_epoch: int
    lossless_since: int


class Waits(NamedTuple):
    """A notice: the session waits for the end of another one; not answered."""

    other: BrokerRegistration


class Stop(NamedTuple):
    """A notice: ``other`` holds the broker id, so the session does nothing more."""

    other: BrokerRegistration


Call: TypeAlias = Look | Grant | Register | Write | End
Notice: TypeAlias = Registered | Waits | Stop
Effect: TypeAlias = KeepAlive | Call | Notice


class Session:
    """See the module head. After each input call ``poll`` for the effects to carry out; call it again at ``due_ms``."""

    def __init__(
        self, broker_id: int, record: BrokerRegistration, timing: Timing, *, is_lossy: bool = False
    ) -> None:
        """``record``: the wish, and the facts about this process. ``is_lossy``: the broker knows that some of its data is
        missing, whatever a clean-stop marker says."""
        self.broker_id = broker_id
        # In the form in which the store gives it back, so that the two can be compared.
        self.record = records.decode_registration(records.encode_registration(record))
        self.timing = timing
        # Broker epoch of this process's newest registration, which may be gone by now; 0 before the first.
        self.broker_epoch = 0
        self.lossless_since = 0
        self.is_registered = False
        self.lease = 0
        self.stopped: Stop | None = None
        self._is_lossy = is_lossy
        # The registration as it stands in the store; None: not known.
        self._written: BrokerRegistration | None = None
        self._written_revision = 0
        self._handled_epoch = 0
        # Set: nobody holds the id, and this is the clean-stop marker. None: the session must look first.
        self._free: tuple[KeyValue | None] | None = None
        self._to_end = 0
        self._lost_lease = 0
        self._wait_until_ms: int | None = None
        self._notices: list[Notice] = []
        self._call: Call | None = None
        self._retry_at_ms = 0
        self._backoff_ms = 0
        self._is_keeping_alive = False
        self._keep_alive_at_ms = 0
        self._confirmed_ms = 0

    # -- the wish and the present state

    def wish(self, record: BrokerRegistration) -> None:
        """``record``: the present one with new values in the fields that may change."""
        self.record = record

    @property
    def is_handled(self) -> bool:
        """Whether the controller has dealt with this registration, as far as is known."""
        return self.is_registered and self._handled_epoch == self.broker_epoch

    @property
    def is_written(self) -> bool:
        """Whether the stored registration equals the wish."""
        return self.is_registered and self._written == self._target

    def is_confirmed(self, now_ms: int) -> bool:
        """Whether the store has said within the last session timeout that the registration lives."""
        return self.is_registered and now_ms - self._confirmed_ms < self.timing.session_timeout_ms

    @property
    def _target(self) -> BrokerRegistration:
        return replace(self.record, want_fence=self.record.want_fence or not self.is_handled)

    # -- effects

    def poll(self, now_ms: int) -> list[Effect]:
        """The effects to carry out, each once. Every call must be answered, at least by ``on_failed``."""
        effects: list[Effect] = [*self.notices()]
        if self.stopped is not None:
            return effects
        if self.lease and not self._is_keeping_alive and now_ms >= self._keep_alive_at_ms:
            self._is_keeping_alive = True
            self._keep_alive_at_ms = now_ms + self.timing.heartbeat_interval_ms
            effects.append(KeepAlive(self.lease))
        if self._call is None and now_ms >= self._retry_at_ms:
            self._call = self._next_call()
            effects += [] if self._call is None else [self._call]
        return effects

    def notices(self) -> list[Notice]:
        """Notices that must not wait for the next ``poll``."""
        notices, self._notices = self._notices, []
        return notices

    def due_ms(self) -> int | None:
        """When to call ``poll`` even if nothing has happened; None: never."""
        if self.stopped is not None:
            return None
        times = []
        if self.lease and not self._is_keeping_alive:
            times.append(self._keep_alive_at_ms)
        if self._call is None and not self.is_written:
            times.append(self._retry_at_ms)
        return min(times, default=None)

    def _next_call(self) -> Call | None:
        if self.is_registered:
            return None if self.is_written else self._write()
        if self._to_end:
            return End(self._to_end)
        if self._free is None:
            return Look(keys.registration(self.broker_id), keys.clean_stop(self.broker_id))
        if not self.lease:
            return Grant(self.timing.session_timeout_ms)
        return self._register(self._free[0])

    def _register(self, clean_stop: KeyValue | None) -> Register:
        self._free = None  # no longer known, whatever the answer
        wanted = replace(self.record, want_fence=True)
        txn, record = register(self.broker_id, wanted, self.lease, clean_stop, is_lossy=self._is_lossy)
        # This registration deletes the marker and may itself die before its answer comes. What the marker vouched for
        # stays true meanwhile, since this process has locked the directories.
        self.record = replace(self.record, lossless_since=record.lossless_since)
        return Register(txn, self.lease, record)

    def _write(self) -> Write:
        key, target = keys.registration(self.broker_id), self._target
        guard = Compare(key, "create", self.broker_epoch)
        put = Put(key, records.encode_registration(target), self.lease)
        return Write(Txn((guard,), (put,)), self.lease, target, self.broker_epoch)

    # -- answers of the store

    def on_kept_alive(self, lease: int, is_alive: bool, now_ms: int) -> None:
        self._is_keeping_alive = False
        if lease != self.lease:
            return
        if is_alive:
            self._confirmed_ms = now_ms
        else:
            self._lose()

    def on_granted(self, lease: int, now_ms: int) -> None:
        self._done(now_ms)
        self.lease = lease
        self._keep_alive_at_ms = now_ms + self.timing.heartbeat_interval_ms
        self._confirmed_ms = now_ms

    def on_looked(self, found: KeyValue | None, clean_stop: KeyValue | None, now_ms: int) -> None:
        self._done(now_ms)
        if found is None:
            self._free = (clean_stop,)
            return
        other = records.decode_registration(found.value)
        if other.incarnation != self.record.incarnation:
            self._meet(other, found.lease, now_ms)
        elif found.lease == self._lost_lease:
            self._to_end = found.lease
        else:
            # The answer to an earlier call was lost. The age of its lease is not known.
            self.lease, self._keep_alive_at_ms = found.lease, now_ms
            self._registered(found.create_revision, other, now_ms)
            self._written_revision = found.mod_revision

    def on_ended(self, now_ms: int) -> None:
        self._done(now_ms)
        self._to_end = 0

    def on_answered(self, call: Register | Write, result: TxnResult, now_ms: int) -> None:
        self._done(now_ms)
        if isinstance(call, Register):
            # After a refusal the next look shows why. If its lease was lost meanwhile, the registration is gone already.
            if result.ok and call.lease == self.lease:
                self._registered(result.revision, call.record, now_ms)
        elif not self.is_registered or call.broker_epoch != self.broker_epoch:
            pass
        elif not result.ok:
            self._lose()
        elif result.revision > self._written_revision:
            self._written, self._written_revision = call.record, result.revision

    def on_failed(self, effect: KeepAlive | Call, now_ms: int, *, is_lease_gone: bool = False) -> None:
        """The outcome is unknown, or, with ``is_lease_gone``, the store refused the call because the lease is gone."""
        if isinstance(effect, KeepAlive):
            self._is_keeping_alive = False
            self._keep_alive_at_ms = min(self._keep_alive_at_ms, now_ms + self.timing.retry_ms)
            return
        self._call = None
        self._backoff_ms = min(
            max(2 * self._backoff_ms, self.timing.retry_ms), self.timing.heartbeat_interval_ms
        )
        self._retry_at_ms = now_ms + self._backoff_ms
        # No lease ends while the store is away, and a store that comes back may have restarted all leases.
        self._wait_until_ms = None
        if isinstance(effect, End):
            self._to_end = 0
        elif isinstance(effect, Write) and effect.broker_epoch == self.broker_epoch:
            self._written = None
        if is_lease_gone and isinstance(effect, Register | Write) and effect.lease == self.lease:
            self._lose()

    # -- input from the image

    def on_image(self, revision: int, broker: BrokerImage | None) -> None:
        """``broker``: this broker as of ``revision``. The broker epoch that the controller has handled is always taken over;
        nothing else is of a revision older than this registration."""
        state = None if broker is None else broker.state
        self._handled_epoch = 0 if state is None else state.broker_epoch
        if not self.is_registered or revision < self.broker_epoch:
            return
        if broker is None or broker.registration is None or broker.broker_epoch != self.broker_epoch:
            self._lose()
        elif broker.registration_revision > self._written_revision:
            self._written, self._written_revision = broker.registration, broker.registration_revision

    # -- inside

    def _done(self, now_ms: int) -> None:
        self._call = None
        self._backoff_ms = 0
        self._retry_at_ms = now_ms

    def _registered(self, broker_epoch: int, record: BrokerRegistration, now_ms: int) -> None:
        self.is_registered = True
        self._confirmed_ms = now_ms
        self._wait_until_ms = None
        self._is_lossy = False
        self._written, self._written_revision = record, broker_epoch
        self.broker_epoch = broker_epoch
        # This process has lost nothing that it wrote, so its replicas stay eligible in its next registrations.
        self.lossless_since = record.lossless_since or broker_epoch
        self.record = replace(self.record, lossless_since=record.lossless_since)
        self._notices.append(Registered(broker_epoch, self.lossless_since))

    def _lose(self) -> None:
        """The registration is gone, or the lease that was granted for it."""
        if self.is_registered:
            self.record = replace(self.record, lossless_since=self.lossless_since)
        self.is_registered = False
        self._lost_lease, self.lease = self.lease, 0
        self._free = self._written = None

    def _meet(self, other: BrokerRegistration, lease: int, now_ms: int) -> None:
        """Handles another registration of this broker id; see the module head."""
        # One shared directory is enough: another one may have been lost or added between the two sessions.
        is_own = bool(set(other.dirs) & set(self.record.dirs) - set(self.record.offline_dirs))
        is_here = other.boot_id and (other.boot_id, other.host) == (self.record.boot_id, self.record.host)
        if is_own and is_here and not self.broker_epoch:
            self._to_end = lease
            return
        if self._wait_until_ms is None:
            self._wait_until_ms = now_ms + self.timing.wait_ms
            self._notices += [Waits(other)] if is_own else []
        if is_own and now_ms < self._wait_until_ms:
            self._retry_at_ms = now_ms + self.timing.retry_ms
        else:
            self.stopped = Stop(other)
            self._notices.append(self.stopped)
