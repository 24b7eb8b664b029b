"""Feature levels: who may finalize what, and who may run then."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.metadata.cluster import Cluster
from tests.unit.metadata.test_drivers import Node
from tierlog.errors import ErrorCode, UserError
from tierlog.metadata import keys, records
from tierlog.metadata.control import controller
from tierlog.metadata.control.features import FeatureUpdate, UpgradeType, decide_feature_updates
from tierlog.metadata.features import (
    BASE_RANGE,
    FEATURES,
    TIER_FORMAT,
    TOPIC_STORES,
    Feature,
    FinalizedLevels,
    Range,
    above_base,
    explain_gap,
    highest_levels,
    supported_ranges,
)
from tierlog.metadata.stores.memory import MemoryStore
from tierlog.metadata.transactions import MAX_TXN_OPS, Delete, Put, Txn

TABLE = {
    "f": Feature(Range(1, 3), "may fall", may_fall=True),
    "g": Feature(Range(1, 2), "stays", may_fall=False),
}
ALL = supported_ranges(TABLE)


def update(cluster: Cluster, *updates: FeatureUpdate) -> str:
    """Decides and carries out; what the answer says, "" when it is yes."""
    decision = decide_feature_updates(cluster.image, updates, table=TABLE)
    assert (decision.result.error is ErrorCode.NONE) == (decision.result.message is None)
    for txn in decision.txns:
        assert cluster.txn(txn).ok
        assert cluster.image.features.above_base == decision.result.levels
    return decision.result.message or ""


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (FeatureUpdate("nope", 1), "Local controller -1 does not support this feature."),
        (FeatureUpdate("f", -1), "A feature version cannot be less than 0."),
        (FeatureUpdate("f", 0, UpgradeType.SAFE_DOWNGRADE), "Local controller -1 only supports versions 1-3"),
        (FeatureUpdate("f", 4), "Local controller -1 only supports versions 1-3"),
        (FeatureUpdate("f", 1), "Can't downgrade the version of this feature without setting"),
        (FeatureUpdate("f", 3, UpgradeType.SAFE_DOWNGRADE), "Can't downgrade to a newer version."),
        (
            FeatureUpdate("f", 3, UpgradeType.UNKNOWN),
            "The controller does not support the given upgrade type.",
        ),
        (FeatureUpdate("f", 1, UpgradeType.SAFE_DOWNGRADE), "Only an unsafe downgrade is carried out."),
        (
            FeatureUpdate("g", 1, UpgradeType.SAFE_DOWNGRADE),
            "It cannot be downgraded: what is written at version 2",
        ),
        (
            FeatureUpdate("g", 1, UpgradeType.UNSAFE_DOWNGRADE),
            "It cannot be downgraded: what is written at version 2",
        ),
    ],
)
def test_what_is_refused(wish: FeatureUpdate, says: str) -> None:
    cluster = Cluster(brokers=2, features=ALL)
    assert not update(cluster, FeatureUpdate("f", 2), FeatureUpdate("g", 2))
    before = cluster.image.features
    decision = decide_feature_updates(cluster.image, [FeatureUpdate("g", 2), wish], table=TABLE)
    assert (decision.result.error, decision.txns) == (ErrorCode.INVALID_UPDATE_VERSION, ())
    message = decision.result.message or ""
    assert message.startswith(f"Invalid update version {wish.level} for feature {wish.feature}. ")
    assert says in message and "\n" not in message
    assert cluster.image.features == before


def test_up_down_and_as_it_is() -> None:
    cluster = Cluster(brokers=1, features=ALL)
    assert (cluster.image.features.level("f"), cluster.image.features.level("unknown")) == (1, 1)
    assert not update(cluster, FeatureUpdate("f", 3), FeatureUpdate("g", 2))
    revision = cluster.image.features.revision
    for kind in (UpgradeType.UPGRADE, UpgradeType.SAFE_DOWNGRADE):
        assert not update(cluster, FeatureUpdate("f", 3, kind))
    assert (cluster.image.features.revision, cluster.image.features.level("f")) == (revision, 3)
    assert not update(cluster, FeatureUpdate("f", 1, UpgradeType.UNSAFE_DOWNGRADE))
    assert cluster.image.features.above_base == {"g": 2}


def test_without_levels_above_the_first_there_is_no_key() -> None:
    cluster = Cluster(brokers=1, features=ALL)
    assert not update(cluster, FeatureUpdate("f", 2))
    assert not update(cluster, FeatureUpdate("f", 1, UpgradeType.UNSAFE_DOWNGRADE))
    assert cluster.image.features == FinalizedLevels()
    assert not update(cluster, FeatureUpdate("f", 2))  # the guard of an absent key


def test_only_checking_changes_nothing() -> None:
    cluster = Cluster(brokers=1, features=ALL)
    for wish, error in (
        (FeatureUpdate("f", 3), ErrorCode.NONE),
        (FeatureUpdate("f", 4), ErrorCode.INVALID_UPDATE_VERSION),
    ):
        decision = decide_feature_updates(cluster.image, [wish], validate_only=True, table=TABLE)
        assert (decision.result.error, decision.txns) == (error, ())


@pytest.mark.parametrize("fenced", [True, False])
def test_a_broker_of_an_earlier_version_holds_up_the_upgrade(fenced: bool) -> None:
    cluster = Cluster(brokers=2, features=ALL)
    cluster.register(7, fenced=fenced)  # it knows of no features
    assert "Broker 7 only supports versions 1" in update(cluster, FeatureUpdate("f", 2))
    assert not update(cluster, FeatureUpdate("f", 1))
    cluster.registration(7, features={"f": Range(1, 2)})
    assert "Broker 7 only supports versions 1-2" in update(cluster, FeatureUpdate("f", 3))
    assert not update(cluster, FeatureUpdate("f", 2))


def test_who_registers_after_the_decision_is_not_unfenced() -> None:
    """M13: the decision did not know of it."""
    cluster = Cluster(brokers=1, features=ALL)
    (txn,) = decide_feature_updates(cluster.image, [FeatureUpdate("f", 2)], table=TABLE).txns
    cluster.registration(7, want_fence=False)
    assert cluster.txn(txn).ok
    cluster.reconcile()
    assert cluster.image.brokers[7].is_handled and not cluster.image.brokers[7].is_active
    # The same after the level has fallen, and for one that has learned it.
    assert not update(cluster, FeatureUpdate("f", 1, UpgradeType.UNSAFE_DOWNGRADE))
    cluster.reconcile()
    assert cluster.image.brokers[7].is_active
    cluster.registration(7, want_fence=False, features=ALL)
    assert not update(cluster, FeatureUpdate("f", 3))
    cluster.reconcile()
    assert cluster.image.brokers[7].is_active


def test_more_brokers_than_a_transaction_compares() -> None:
    cluster = Cluster(brokers=MAX_TXN_OPS + 2, features=ALL)
    decision = decide_feature_updates(cluster.image, [FeatureUpdate("f", 2)], table=TABLE)
    (txn,) = decision.txns
    assert cluster.txn(controller.guarded(txn, 0)).ok
    cluster.register(MAX_TXN_OPS + 2)
    assert "only supports versions 1" in update(cluster, FeatureUpdate("f", 3))


_ranges = st.fixed_dictionaries(
    {},
    optional={
        "f": st.sampled_from([Range(1, 1), Range(1, 2), Range(1, 3), Range(2, 3)]),
        "g": st.sampled_from([Range(1, 1), Range(1, 2)]),
    },
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("register"), st.integers(1, 3), _ranges),
        st.tuples(st.just("stop"), st.integers(1, 3)),
        st.tuples(st.just("fence"), st.integers(1, 3), st.booleans()),
        st.tuples(
            st.just("update"),
            st.lists(
                st.builds(
                    FeatureUpdate, st.sampled_from("fgh"), st.integers(-1, 4), st.sampled_from(UpgradeType)
                ),
                max_size=3,
            ),
        ),
        # The transaction comes late: others may have registered meanwhile.
        st.tuples(
            st.just("late update"), st.sampled_from("fg"), st.integers(1, 3), st.integers(1, 3), _ranges
        ),
        st.tuples(st.just("reconcile")),
    ),
    max_size=25,
)


class Steps:
    def __init__(self) -> None:
        self.cluster = Cluster(brokers=2, features=ALL)

    def take(self, step: tuple[Any, ...]) -> None:
        cluster, brokers = self.cluster, self.cluster.image.brokers
        match step:
            case ("register", broker_id, ranges):
                cluster.registration(broker_id, want_fence=False, features=ranges)
            case ("stop", broker_id) if self.is_registered(broker_id):
                cluster.delete(keys.registration(broker_id))
            case ("fence", broker_id, fenced) if self.is_registered(broker_id):
                cluster.want(broker_id, want_fence=fenced)
            case ("update", updates):
                before = cluster.image.features
                if not update(cluster, *updates):
                    self.check_finalized({u.feature: u.level for u in updates})
                    self.check_falls(before, updates)
            case ("late update", name, level, broker_id, ranges):
                decision = decide_feature_updates(cluster.image, [FeatureUpdate(name, level)], table=TABLE)
                was_known = broker_id in brokers
                cluster.registration(broker_id, want_fence=False, features=ranges)
                for txn in decision.txns:
                    assert cluster.txn(txn).ok is not was_known
            case ("reconcile",):
                cluster.reconcile()
        for broker in brokers.values():
            if broker.is_active:
                assert broker.registration is not None
                assert cluster.image.features.first_gap(broker.registration.features) is None, "M13"

    def is_registered(self, broker_id: int) -> bool:
        broker = self.cluster.image.brokers.get(broker_id)
        return broker is not None and broker.registration is not None

    def check_finalized(self, levels: dict[str, int]) -> None:
        """Whatever was agreed to, every registered broker supports, and this version too."""
        for name, level in levels.items():
            assert level in (ALL[name] if name in ALL else Range(0, 0))
            for broker in self.cluster.image.brokers.values():
                if broker.registration is not None and name in ALL:
                    assert level in broker.registration.features.get(name, BASE_RANGE)

    def check_falls(self, before: FinalizedLevels, updates: list[FeatureUpdate]) -> None:
        for each in updates:
            if self.cluster.image.features.level(each.feature) < before.level(each.feature):
                assert TABLE[each.feature].may_fall
                assert any(
                    u.feature == each.feature and u.upgrade_type is UpgradeType.UNSAFE_DOWNGRADE
                    for u in updates
                )


@given(_steps)
def test_no_level_above_what_some_registered_broker_supports(steps: list[tuple[Any, ...]]) -> None:
    taken = Steps()
    for step in steps:
        taken.take(step)


def test_what_a_broker_that_must_not_run_is_told() -> None:
    levels = FinalizedLevels({"f": 4, "later": 2})
    gap = levels.first_gap({"f": Range(1, 3)})
    assert gap == ("f", Range(1, 3))
    assert explain_gap(levels, *gap) == (
        "the cluster has finalized f at level 4, this tierlog supports 1-3: start the version that the other brokers run"
    )
    assert levels.first_gap({"f": Range(1, 4)}) == ("later", BASE_RANGE)
    assert levels.first_gap({"f": Range(1, 4), "later": Range(1, 2)}) is None
    behind = FinalizedLevels()
    gap = behind.first_gap({"f": Range(2, 3)})
    assert gap is not None
    assert "still at level 1 of f, this tierlog supports 2-3" in explain_gap(behind, *gap)
    assert "tierlog cluster features upgrade f=2" in explain_gap(behind, *gap)


def test_the_table() -> None:
    assert highest_levels() == {TIER_FORMAT: 2, TOPIC_STORES: 2}
    assert supported_ranges() == {TIER_FORMAT: (1, 2), TOPIC_STORES: (1, 2)}
    for name, feature in FEATURES.items():
        assert 1 <= feature.levels.min_level <= feature.levels.max_level, name
        assert feature.meaning
    assert above_base({"f": 1, "g": 2}) == {"g": 2}


# -- brokers


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore(lambda: time.monotonic_ns() // 1_000_000)
    yield store
    await store.close()


async def before_features(store: MemoryStore) -> None:
    """The store of a cluster that an earlier version has founded."""
    await store.txn(Txn((), (Put(keys.CLUSTER, records.encode_cluster_id("a" * 22)), Delete(keys.FEATURES))))


async def test_a_new_cluster_begins_at_the_highest_levels(store: MemoryStore) -> None:
    node = await Node(store).start()
    assert node.image.features.above_base == highest_levels()
    assert node.image.brokers[1].registration is not None
    assert node.image.brokers[1].registration.features == supported_ranges()
    with pytest.raises(
        UserError, match=r"finalized tierlog.tier.format at level 2, this tierlog supports 1: start"
    ):
        await Node(store, 2, features={}).start()
    await node.stop()


@pytest.mark.parametrize("applied", [True, False, None])
async def test_a_rolling_upgrade(store: MemoryStore, applied: bool | None) -> None:
    """``applied``: the outcome of the decisive transaction is unknown, and it was applied or not."""
    await before_features(store)
    one, old = await Node(store).start(), await Node(store, 2, features={}).start()
    await one.until(lambda: 2 in one.image.brokers)
    wish = [FeatureUpdate(TIER_FORMAT, 2)]
    refused = await one.admin.update_features(wish)
    assert refused.error is ErrorCode.INVALID_UPDATE_VERSION
    assert "Broker 2 only supports versions 1" in (refused.message or "")
    assert one.image.features.level(TIER_FORMAT) == 1
    await old.stop()
    new = await Node(store, 2).start()
    await one.until(lambda: one.image.brokers[2].is_active)
    assert (await one.admin.update_features(wish, validate_only=True)).error is ErrorCode.NONE
    assert one.image.features.level(TIER_FORMAT) == 1
    if applied is not None:
        store.lose_next_outcome(applied=applied)
    assert (await one.admin.update_features(wish)).error is ErrorCode.NONE
    await new.until(lambda: new.image.features.level(TIER_FORMAT) == 2)
    assert (await one.admin.update_features(wish)).error is ErrorCode.NONE
    await new.stop()
    with pytest.raises(UserError, match="start the version that the other brokers run"):
        await Node(store, 2, features={}).start()
    await one.stop()


async def test_who_runs_below_a_level_stops(store: MemoryStore) -> None:
    """Its lease was lost when the level was finalized; it was not asked."""
    await before_features(store)
    failures: list[BaseException] = []
    old = Node(store, features={})
    old.registration._on_replaced = failures.append
    await old.start()
    await store.txn(Txn((), (Put(keys.FEATURES, records.encode_features({TIER_FORMAT: 2})),)))
    await old.until(lambda: bool(failures))
    assert "this tierlog supports 1" in str(failures[0])
    await old.stop()
