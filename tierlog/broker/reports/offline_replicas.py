"""Tells the controller which replicas here are offline, so that others lead and the ISRs go on without them.

A log directory that fails, or a single log that cannot be opened, costs its replicas and nothing else (KIP-112, KIP-858).
The directory's uuid is written into the record of each of its partitions, then the registration says that it is offline;
the controller treats such a replica as it treats one of a fenced broker. Logs that could not be opened at the start share a
directory that exists in name only, ``lost-<broker id>``.

Rules: the partitions are written before the registration, since only the latter makes the controller look; each write
compares the partition's record and this broker's registration, and is repeated on the newest image until the record shows
it. A replica's directory is written only when it fails: before that nobody needs it. Bound: 40 partitions a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import structlog

from tierlog.broker.cluster.registration import Registration
from tierlog.errors import StoreUnavailable
from tierlog.metadata import keys, records
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import PartitionState
from tierlog.metadata.stores.port import MetadataStore
from tierlog.metadata.transactions import Compare, Put, Txn

PARTITIONS_PER_TXN = 40
RETRY_S = 0.1

PartitionKey = tuple[bytes, int]
NOWHERE: Mapping[PartitionKey, str] = MappingProxyType({})

logger = structlog.get_logger()


def lost_dir(broker_id: int) -> str:
    return f"lost-{broker_id}"


def in_dir(state: PartitionState, broker_id: int, directory_id: str) -> PartitionState:
    """The record, with ``directory_id`` as the directory of this broker's replica."""
    known = dict(zip(state.replicas, state.dirs, strict=True)) if state.dirs else {}
    known[broker_id] = directory_id
    return state._replace(dirs=tuple(known.get(replica, "") for replica in state.replicas))


class OfflineReplicas:
    """One per broker."""

    def __init__(
        self,
        broker_id: int,
        store: MetadataStore,
        image: Callable[[], MetadataImage],
        registration: Registration,
    ) -> None:
        self._broker_id = broker_id
        self._store = store
        self._image = image
        self._registration = registration
        self._offline_dirs: dict[str, None] = {}

    async def report(
        self,
        directory_id: str,
        partitions: Iterable[PartitionKey],
        elsewhere: Mapping[PartitionKey, str] = NOWHERE,
    ) -> None:
        """Returns when the store has it all; goes on trying for as long as it takes. ``elsewhere``: healthy replicas and
        their directories, since the record of one may still name the failed directory from an earlier time."""
        self._offline_dirs[directory_id] = None
        wanted = dict.fromkeys(partitions, directory_id)
        while True:
            try:
                await self._assign(wanted, directory_id, elsewhere)
                await self._registration.report_offline_dirs(tuple(self._offline_dirs))
                return
            except StoreUnavailable as error:
                logger.error("the controller could not be told of offline replicas", why=str(error))
            await asyncio.sleep(RETRY_S)

    async def _assign(
        self, wanted: Mapping[PartitionKey, str], directory_id: str, elsewhere: Mapping[PartitionKey, str]
    ) -> None:
        while True:
            missing = [
                *self._differing(wanted),
                *(change for change in self._differing(elsewhere) if self._dir_in(change[1]) == directory_id),
            ]
            if not missing:
                return
            for i in range(0, len(missing), PARTITIONS_PER_TXN):
                nested = tuple(self._change(*change) for change in missing[i : i + PARTITIONS_PER_TXN])
                await self._store.txn(Txn((), nested))
            # Lets the image catch up; where somebody else wrote first, the write is tried again on it.
            await asyncio.sleep(RETRY_S)

    def _differing(
        self, wanted: Mapping[PartitionKey, str]
    ) -> Iterator[tuple[PartitionKey, PartitionState, str]]:
        for key, directory_id in wanted.items():
            state = self._image().partition(*key)
            if state is None or self._broker_id not in state.replicas:
                continue
            if self._dir_in(state) != directory_id:
                yield key, state, directory_id

    def _dir_in(self, state: PartitionState) -> str:
        return state.dirs[state.replicas.index(self._broker_id)] if state.dirs else ""

    def _change(self, key: PartitionKey, old: PartitionState, directory_id: str) -> Txn:
        name = keys.partition(*key)
        compares = (
            Compare(name, "mod", old.partition_epoch),
            Compare(keys.registration(self._broker_id), "create", self._registration.broker_epoch),
        )
        return Txn(
            compares, (Put(name, records.encode_partition(in_dir(old, self._broker_id, directory_id))),)
        )
