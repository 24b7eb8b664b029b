"""Feature levels with real clients: a cluster of an earlier version that is rolled to this one, and a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import InvalidUpdateVersionError

from tests.conftest import NO_RETENTION
from tests.e2e.test_cli import tierlog
from tests.patience import PATIENT_S
from tests.servers import kafka
from tests.servers.several import wait_until
from tests.servers.tierlog import BrokerProcess
from tierlog.admin import features
from tierlog.admin.client import Client
from tierlog.errors import UserError
from tierlog.metadata import keys, records
from tierlog.metadata.features import TIER_FORMAT, highest_levels
from tierlog.metadata.stores.sqlite import SqliteStore
from tierlog.metadata.transactions import Put, Txn

OLD = 9
WISH = f"{TIER_FORMAT}=2"


@pytest.fixture
def rolled(tmp_path: Path) -> Iterator[BrokerProcess]:
    """One broker of this version, in a cluster that was founded before there were levels."""
    with asyncio.Runner() as runner:
        store = runner.run(SqliteStore.open(tmp_path / "metadata.db"))
        cluster = records.encode_cluster_id("bGV2ZWxzLXdlcmUtbm9uZQ")
        assert runner.run(store.txn(Txn((), (Put(keys.CLUSTER, cluster),)))).ok
        runner.run(store.close())
    with BrokerProcess(tmp_path, NO_RETENTION) as broker:
        yield broker


@contextmanager
def a_broker_of_an_earlier_version(directory: Path) -> Iterator[None]:
    """Its registration, as it wrote it, in the store that the brokers share, for as long as it lives."""
    record = records.encode_registration(records.BrokerRegistration("old", ()))
    with asyncio.Runner() as runner:
        store = runner.run(SqliteStore.open(directory / "metadata.db"))
        lease = runner.run(store.grant(int(PATIENT_S * 1000)))
        assert runner.run(store.txn(Txn((), (Put(keys.registration(OLD), record, lease),)))).ok
        yield
        runner.run(store.revoke(lease))
        runner.run(store.close())


@pytest.mark.java
@pytest.mark.usefixtures("java")
def test_a_rolling_upgrade(rolled: BrokerProcess) -> None:
    at = rolled.bootstrap
    with closing(KafkaAdminClient(bootstrap_servers=at)) as admin, Client(at, PATIENT_S) as client:
        assert admin.describe_features()[TIER_FORMAT]["finalized"] == (1, 1)
        with a_broker_of_an_earlier_version(rolled.directory):
            wait_until(lambda: "Broker 9 only" in refused(client, {TIER_FORMAT: 2}), "broker 9 is not seen")
            complaint = tierlog("cluster", "features", "upgrade", "--all", bootstrap=at).err
            assert (
                "nothing was changed: Invalid update version 2 for feature tierlog.tier.format." in complaint
            )
            assert "Broker 9 only supports versions 1; tierlog cluster features shows what" in complaint
            says = f"Could not upgrade {TIER_FORMAT} to 2.*Broker 9 only supports versions 1"
            with pytest.raises(AssertionError, match=says):
                feature_tool(at, "upgrade", "--feature", WISH)
            with pytest.raises(InvalidUpdateVersionError):
                admin.update_features({TIER_FORMAT: 2})
            assert level(client) == 1
        wait_until(lambda: not refused(client, {TIER_FORMAT: 2}), "broker 9 stays")
        assert level(client) == 1
        assert f"{TIER_FORMAT} was upgraded to 2." in feature_tool(at, "upgrade", "--feature", WISH)
        described = feature_tool(at, "describe").split()
        assert described[described.index("FinalizedVersionLevel:") + 1] == "2"
        assert admin.describe_features()[TIER_FORMAT]["finalized"] == (2, 2)
        assert admin.update_features({TIER_FORMAT: 2}, validate_only=True) == {TIER_FORMAT: "OK"}
        with pytest.raises(AssertionError, match="It cannot be downgraded"):
            feature_tool(at, "downgrade", "--feature", f"{TIER_FORMAT}=1", "--unsafe")
        assert level(client) == 2


def feature_tool(at: str, *arguments: str) -> str:
    return kafka.tool("FeatureCommand", "--bootstrap-server", at, *arguments).out


def level(client: Client) -> int:
    levels = {row["feature"]: row["level"] for row in features.features_of(client)["features"]}
    return int(levels[TIER_FORMAT])


def refused(client: Client, wishes: dict[str, int]) -> str:
    """Why, without doing it; "" where it would be done."""
    try:
        answer = features.upgrade(client, wishes, dry_run=True)
    except UserError as error:
        return str(error)
    assert answer["changes"] == [
        {"feature": name, "before": 1, "after": number} for name, number in wishes.items()
    ]
    return ""


def test_a_new_cluster_has_the_highest_levels(broker: BrokerProcess) -> None:
    at = broker.bootstrap
    answer = tierlog("cluster", "features", "-o", "json", bootstrap=at).json
    assert {row["feature"]: row["level"] for row in answer["features"]} == highest_levels()
    for row in answer["features"]:
        assert row["brokers"] == [{"id": 1, "running": True, "min": 1, "max": 2}]
    nothing = tierlog("cluster", "features", "upgrade", "--all", "--dry-run", bootstrap=at)
    assert (nothing.code, nothing.out) == (0, "nothing to do: no level can rise\n")


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"tierlog.tier.fromat": 2}, f"there is no feature tierlog.tier.fromat; did you mean {TIER_FORMAT}?"),
        ({"x": 2}, "there is no feature x; tierlog cluster features shows what there is"),
        ({TIER_FORMAT: 1}, "it is at level 2, and upgrade lowers nothing"),
        ({TIER_FORMAT: 3}, "Local controller 1 only supports versions 1-2; tierlog cluster features shows"),
    ],
)
def test_what_is_wrong_is_said(broker: BrokerProcess, wishes: dict[str, int], says: str) -> None:
    with Client(broker.bootstrap, PATIENT_S) as client:
        assert says in refused(client, wishes)
