"""Commits of heads that name objects which were just written: what becomes of the objects if the commit does not come.

An object is noted before it is written and until the head names it (``tiering.lifecycle.Attempts``), so that none is left
behind and none is deleted that a delayed commit may still name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from tiering.manifest import Manifests
from tiering.model import MetaObject, TierHead
from tiering.pages import PageChange, Pages
from tierlog.broker.offload.heads import Fenced, HeadMoved
from tierlog.broker.offload.tier import PartitionTier
from tierlog.errors import StoreUnavailable, UnknownOutcome

REFUSED = (Fenced, HeadMoved, StoreUnavailable)
"""Nothing was committed, and nothing will be."""


class Commits:
    """For all partitions."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests

    async def of_written(
        self,
        tier: PartitionTier,
        uuids: Sequence[bytes],
        change: Callable[[TierHead], TierHead],
        pages: Callable[[], Pages] | None = None,
    ) -> None:
        """Commits a head that names these objects. The sequence of the head that it is made from is noted in the same step,
        since another commit may have gone first. Raises as ``PartitionTier.commit``."""

        def noted(head: TierHead) -> TierHead:
            changed = change(head)
            for uuid in uuids:
                tier.attempts.committing(uuid, head.sequence)
            return changed

        try:
            await tier.commit(noted, pages)
        except BaseException as error:
            is_refused = isinstance(error, REFUSED) and not isinstance(error, UnknownOutcome)
            for uuid in uuids:
                (tier.attempts.failed if is_refused else tier.attempts.interrupted)(uuid)
            raise
        for uuid in uuids:
            tier.attempts.committed(uuid)

    async def of_pages(
        self, tier: PartitionTier, change: PageChange, after: Callable[[TierHead], TierHead]
    ) -> None:
        """Writes the pages and their index, then commits ``after(head)``, which names them.

        Raises ``ObjectStoreError``, and as ``of_written``."""
        names = [change.index_ref.name, *(row.name for row, _ in change.written)]
        for each in names:
            tier.attempts.copying(each)
        try:
            await self._manifests.write(tier.keys, change, tier.head.format_version)
        except BaseException:
            for each in names:
                tier.attempts.failed(each.uuid)
            raise
        await self.of_written(tier, [each.uuid for each in names], after, lambda: change.pages)


def fresh_name(tier: PartitionTier) -> MetaObject:
    """For a page or an index that is written from the present head."""
    return MetaObject(tier.head.sequence, tier.leader_epoch, secrets.token_bytes(16))
