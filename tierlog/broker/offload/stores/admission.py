"""Whether a topic may get an object store: asked by the controller's broker before a topic is created or altered.

What the metadata tells is decided in ``metadata.control.topic_stores``. Here the URLs are compared with those in use, and
the store itself is asked: whether it is there, lets us in, is ours or nobody's, and does what a broker needs. The first
topic that names a store claims it for the cluster. Whether the topic has a tier already is looked up, so that the refusal
can say so.

Bound: one store is tried at a time, for 5 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tiering.doctor.first_use import require_classes
from tiering.errors import AccessDenied, ForeignBucket, TieringError
from tiering.ledger.rows import Cause
from tiering.metering.attribution import attributed
from tierlog.broker.offload.bucket import CLAIM_TIMEOUT_S, classes_in
from tierlog.broker.offload.stores.places import problem_beside
from tierlog.broker.offload.stores.topic_stores import TopicStores, is_passing
from tierlog.config.places import OBJECT_STORE, without_query
from tierlog.config.tiers import Rung
from tierlog.errors import StoreUnavailable
from tierlog.metadata import keys
from tierlog.metadata.image import MetadataImage, TopicImage
from tierlog.metadata.stores.port import MetadataStore


class StoreAdmission:
    """``cluster.store_gate.StoreGate`` over the stores of a broker."""

    def __init__(
        self,
        stores: TopicStores,
        store: MetadataStore,
        image: MetadataImage,
        is_own_ours: Callable[[], bool],
    ) -> None:
        """``is_own_ours``: whether the brokers' own store is known to be this cluster's."""
        self._is_own_ours = is_own_ours
        self._stores = stores
        self._store = store
        self._image = image
        self._turn = asyncio.Lock()

    async def problem_of(self, url: str, *, claims: bool) -> str | None:
        """Why no topic may have this store, in one line; None if one may. ``claims``: whether it becomes the cluster's."""
        if self._stores.is_own(url) or (url in self._image.topic_stores() and self._stores.has_open(url)):
            return None
        beside = problem_beside(url, {self._stores.own_url, *self._image.topic_stores()})
        if beside is not None:
            return f"{beside}; nothing was changed"
        try:
            async with self._turn:
                await self._stores.examine(url, claims=claims)
        except TieringError as error:
            return f"{OBJECT_STORE}={without_query(url)}: {_why(error)}; nothing was changed"
        return None

    async def problem_of_change(self, topic: TopicImage) -> str | None:
        """Why this topic may not change over to another store, in one line; None if it has no tier yet."""
        assert topic.record is not None
        prefix = f"{keys.TIER_HEADS}{keys.format_topic_id(topic.topic_id)}/"
        try:
            has_tier = bool((await self._store.range(prefix, limit=1)).kvs)
        except StoreUnavailable as error:
            return f"{OBJECT_STORE}: cannot tell whether the topic has a tier: {error}; try again"
        if not has_tier:
            return None
        where = self._stores.shown(self._stores.key_of(topic.record.store))
        return (
            f"{OBJECT_STORE} cannot be altered: the tier of topic {topic.name} lies in {where}, and stays there; make a new "
            "topic for another store; nothing was changed"
        )

    async def problem_of_classes(self, url: str, tiers: tuple[Rung, ...]) -> str | None:
        """Why this ladder cannot be followed in the store (empty: the brokers' own), in one line. A store that has one class
        takes any, since nothing moves there; so does one that does not answer now."""
        if self._stores.is_own(url) and not self._is_own_ours():
            return None
        named = [
            each for each in classes_in(tiers) if each in self._stores.class_names(self._stores.key_of(url))
        ]
        try:
            with attributed(Cause.START):
                async with self._turn, asyncio.timeout(CLAIM_TIMEOUT_S):
                    await require_classes(await self._stores.opened(url), named)
        except TimeoutError:
            return None
        except TieringError as error:
            return None if is_passing(error) else f"{error}; nothing was changed"
        return None


def _why(error: TieringError) -> str:
    if isinstance(error, ForeignBucket):
        return f"{error}; name a bucket or prefix of this cluster, or a free one"
    return f"access denied: {error}" if isinstance(error, AccessDenied) else str(error)
