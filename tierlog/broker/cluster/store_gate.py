"""Whether a topic may get an object store, as request handling sees it; ``offload.stores.admission`` answers."""

from __future__ import annotations

from typing import Protocol

from tierlog.config.tiers import Rung
from tierlog.metadata.image import TopicImage


class StoreGate(Protocol):
    """Answers are one line that says what is wrong and what to do; None where nothing speaks against it."""

    async def problem_of(self, url: str, *, claims: bool) -> str | None:
        """Why no topic may have this store. ``claims``: whether it becomes the cluster's where one may."""

    async def problem_of_change(self, topic: TopicImage) -> str | None:
        """Why this topic may not change over to another store."""

    async def problem_of_classes(self, url: str, tiers: tuple[Rung, ...]) -> str | None:
        """Why this ladder cannot be followed in the store; empty: the brokers' own."""
