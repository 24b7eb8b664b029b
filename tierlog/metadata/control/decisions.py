"""The decision about one partition, and the facts that every such decision needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tierlog.errors import ErrorCode
from tierlog.metadata.commits import controllers_change
from tierlog.metadata.control.election import ClusterFacts, desired, gather_facts
from tierlog.metadata.image import NO_LOG_ENDS, MetadataImage, TopicImage
from tierlog.metadata.records import LogEnd, PartitionState
from tierlog.metadata.rules import TopicRules, configured_min_isr, unclean_leader_election
from tierlog.metadata.transactions import Txn


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """The answer about one partition."""

    topic: str
    partition: int
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionDecision:
    result: PartitionResult
    txns: tuple[Txn, ...] = ()


class PartitionFacts:
    """The facts behind the decisions of one admin request; valid as long as the image does not change."""

    def __init__(self, image: MetadataImage, rules: TopicRules) -> None:
        self.image = image
        self.rules = rules
        self.cluster: ClusterFacts = gather_facts(image)
        self._of_topic: dict[str, tuple[int, bool]] = {}

    def is_unclean_allowed(self, topic: TopicImage) -> bool:
        return self._configs(topic)[1]

    def settled(
        self,
        topic: TopicImage,
        old: PartitionState,
        changed: PartitionState,
        *,
        unclean: bool | None = None,
        ends: Mapping[int, LogEnd] = NO_LOG_ENDS,
    ) -> PartitionState:
        """The state that the reconciler would make of ``changed``, which a request made from ``old``."""
        min_isr, configured = self._configs(topic)
        unclean = configured if unclean is None else unclean
        return desired(changed, self.cluster, min_isr=min_isr, unclean=unclean, since=old, ends=ends)

    def txn(self, topic: TopicImage, partition: int, old: PartitionState, new: PartitionState) -> Txn:
        return controllers_change(topic.topic_id, partition, old, new, self.active)

    @property
    def active(self) -> Mapping[int, int]:
        return self.cluster.active

    def _configs(self, topic: TopicImage) -> tuple[int, bool]:
        found = self._of_topic.get(topic.name)
        if found is None:
            overrides = self.image.configs_of_topic(topic.name)
            found = self._of_topic[topic.name] = (
                configured_min_isr(self.image, self.rules, overrides),
                unclean_leader_election(self.image, self.rules, overrides),
            )
        return found
