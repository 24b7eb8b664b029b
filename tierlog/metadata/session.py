"""A broker's session with the cluster, as a machine that decides: what is to be asked of the store next, given what it has
said and what this broker wishes.

Two lanes, each with one call under way: the **keepalive**, which waits for nothing else, and the **calls** that bring the
store to the wish. Rules:

* Nothing is retried blindly: after an unknown outcome the store is looked at. A registration is told from another's by its
  incarnation, so one whose answer was lost is taken over, and a late one too.
* The wish (fenced, shut down, offline and cordoned directories) is held against what the registration says, as long as this
  process lives: where they differ it is written again, with backoff, whatever became of earlier writes.
* A registration asks to be unfenced once the controller has dealt with it, not before: that raises the epochs of what it
  leads.
* A lease is lost when the store says so (a keepalive, a refused write, the image): then everything begins anew, with a new
  lease and a new broker epoch, and this process's knowledge that it has lost no data.
* Another's registration in the way: not of these log directories, it is a running broker's, and this one stops. Of these,
  from this boot of this machine, and at the start: it cannot be in use, since this process has locked them, and is ended.
  Of these otherwise: it is waited for, as long as a lease can live on while the store answers; one that stays is alive.
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
    """``wait_ms``: how long a lease that nobody renews may live on at most. Failed calls are made again after
    ``retry_ms``, then after twice as long, up to the heartbeat interval."""

    session_timeout_ms: int = 9000
    heartbeat_interval_ms: int = 2000
    wait_ms: int = 12_000
    retry_ms: int = 100


# -- what is to be done


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
    """Good to know; not answered."""

    broker_epoch: int
    lossless_since: int


class Waits(NamedTuple):
    """For the end of another session; not answered."""

    other: BrokerRegistration


class Stop(NamedTuple):
    """``other`` holds the broker id: nothing more is done."""

    other: BrokerRegistration


Call: TypeAlias = Look | Grant | Register | Write | End
Notice: TypeAlias = Registered | Waits | Stop
Effect: TypeAlias = KeepAlive | Call | Notice


class Session:
    """See the module head. After each input ``poll`` says what is to be done; it is to be asked again at ``due_ms``."""

    def __init__(
        self, broker_id: int, record: BrokerRegistration, timing: Timing, *, is_lossy: bool = False
    ) -> None:
        """``record``: the wish, and what this process is. ``is_lossy``: some of its data is known to be missing, whatever a
        clean-stop marker says."""
        self.broker_id = broker_id
        # As it will be read back, to be compared with that.
        self.record = records.decode_registration(records.encode_registration(record))
        self.timing = timing
        # Of the newest registration of this process, which may be gone; 0 before the first.
        self.broker_epoch = 0
        self.lossless_since = 0
        self.is_registered = False
        self.lease = 0
        self.stopped: Stop | None = None
        self._is_lossy = is_lossy
        # What the registration says in the store; None: not known.
        self._written: BrokerRegistration | None = None
        self._written_revision = 0
        self._handled_epoch = 0
        # Nobody holds the id, and this is the clean-stop marker; None: to be looked at.
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

    # -- what is wished, and what is

    def wish(self, record: BrokerRegistration) -> None:
        """``record``: the present one, with other words in the fields that may change."""
        self.record = record

    @property
    def is_handled(self) -> bool:
        """The controller has dealt with this registration, as far as is known."""
        return self.is_registered and self._handled_epoch == self.broker_epoch

    @property
    def is_written(self) -> bool:
        """The store says what is wished."""
        return self.is_registered and self._written == self._target

    def is_confirmed(self, now_ms: int) -> bool:
        """The store has said within a session timeout that the registration lives."""
        return self.is_registered and now_ms - self._confirmed_ms < self.timing.session_timeout_ms

    @property
    def _target(self) -> BrokerRegistration:
        return replace(self.record, want_fence=self.record.want_fence or not self.is_handled)

    # -- what is to be done

    def poll(self, now_ms: int) -> list[Effect]:
        """Each is done once; every call is answered, by ``on_failed`` at least."""
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
        """What has happened, where that is not to wait for the next ``poll``."""
        notices, self._notices = self._notices, []
        return notices

    def due_ms(self) -> int | None:
        """When ``poll`` has something to say although nothing has happened; None: never."""
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
        self._free = None  # whatever is answered, it is no longer known
        wanted = replace(self.record, want_fence=True)
        txn, record = register(self.broker_id, wanted, self.lease, clean_stop, is_lossy=self._is_lossy)
        # The marker is used up by a registration that may die before its answer comes; what it has vouched for has not
        # changed since in the directories that this process has locked.
        self.record = replace(self.record, lossless_since=record.lossless_since)
        return Register(txn, self.lease, record)

    def _write(self) -> Write:
        key, target = keys.registration(self.broker_id), self._target
        guard = Compare(key, "create", self.broker_epoch)
        put = Put(key, records.encode_registration(target), self.lease)
        return Write(Txn((guard,), (put,)), self.lease, target, self.broker_epoch)

    # -- what the store answers

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
            # The answer to an earlier call was lost. How long its lease has lived is not known.
            self.lease, self._keep_alive_at_ms = found.lease, now_ms
            self._registered(found.create_revision, other, now_ms)
            self._written_revision = found.mod_revision

    def on_ended(self, now_ms: int) -> None:
        self._done(now_ms)
        self._to_end = 0

    def on_answered(self, call: Register | Write, result: TxnResult, now_ms: int) -> None:
        self._done(now_ms)
        if isinstance(call, Register):
            # Refused: it will be seen why. Under a lease that is lost meanwhile, it is gone already.
            if result.ok and call.lease == self.lease:
                self._registered(result.revision, call.record, now_ms)
        elif not self.is_registered or call.broker_epoch != self.broker_epoch:
            pass
        elif not result.ok:
            self._lose()
        elif result.revision > self._written_revision:
            self._written, self._written_revision = call.record, result.revision

    def on_failed(self, effect: KeepAlive | Call, now_ms: int, *, is_lease_gone: bool = False) -> None:
        """Nothing is known of what was asked, or, with ``is_lease_gone``, that it was refused for that."""
        if isinstance(effect, KeepAlive):
            self._is_keeping_alive = False
            self._keep_alive_at_ms = min(self._keep_alive_at_ms, now_ms + self.timing.retry_ms)
            return
        self._call = None
        self._backoff_ms = min(
            max(2 * self._backoff_ms, self.timing.retry_ms), self.timing.heartbeat_interval_ms
        )
        self._retry_at_ms = now_ms + self._backoff_ms
        # While the store is away no lease ends, and one that has come back may have begun them all anew.
        self._wait_until_ms = None
        if isinstance(effect, End):
            self._to_end = 0
        elif isinstance(effect, Write) and effect.broker_epoch == self.broker_epoch:
            self._written = None
        if is_lease_gone and isinstance(effect, Register | Write) and effect.lease == self.lease:
            self._lose()

    # -- what the image says

    def on_image(self, revision: int, broker: BrokerImage | None) -> None:
        """``broker``: this one's, as of ``revision``; older ones than what is known are of no interest."""
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
        """See the module head for what is done about a registration that is in the way."""
        # One directory says it: another may have been lost, or come, between the two sessions.
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
