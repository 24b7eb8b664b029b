"""``tierlog.tiers``: what it may say, what it stands for, and the one line that a mistake gets."""

from __future__ import annotations

import pytest

from tiering.objects.classes import StorageClass
from tierlog.config.broker import BrokerConfig
from tierlog.config.describe import describe_topic
from tierlog.config.properties import load
from tierlog.config.tiers import CLASSES, Rung, local_ms_of, parse_tiers, retention_ms_of
from tierlog.config.topic_configs import effective_topic_config, validate_topic_configs

HOUR, DAY = 3_600_000, 86_400_000
LADDER = "local:6h,standard:30d,infrequent:1y,archive-instant:7y"
REMOTE = {"remote.storage.enable": "true"}


def broker(**configs: str) -> BrokerConfig:
    dotted = {name.replace("_", "."): value for name, value in configs.items()}
    return load({"remote.log.storage.system.enable": "true", **dotted})


def test_the_classes_are_those_of_the_stores() -> None:
    assert tuple(each.label for each in StorageClass) == CLASSES


def test_a_ladder_is_read() -> None:
    rungs = parse_tiers(LADDER)
    assert rungs == (
        Rung("local", 6 * HOUR),
        Rung("standard", 30 * DAY),
        Rung("infrequent", 365 * DAY),
        Rung("archive-instant", 7 * 365 * DAY),
    )
    assert (local_ms_of(rungs), retention_ms_of(rungs)) == (6 * HOUR, 7 * 365 * DAY)
    forever = parse_tiers(" standard:90m , cold:forever ")
    assert (local_ms_of(forever), retention_ms_of(forever)) == (None, -1)
    assert parse_tiers("") == ()
    assert (local_ms_of(()), retention_ms_of(())) == (None, None)


MISTAKES = {
    "standard": "'standard' is no CLASS:AGE, as standard:30d",
    "standard:30": "is no CLASS:AGE",
    "standard:-3d": "is no CLASS:AGE",
    "standard:1.5.5d": "is no CLASS:AGE",
    "standard:30d,": "'' is no CLASS:AGE",
    "glacier:30d": "there is no class glacier; there are standard, infrequent, cold, archive-instant",
    "infrequent:30d,standard:60d": "standard stands behind infrequent; the order is local, standard",
    "standard:30d,local:60d": "local stands behind standard",
    "standard:30d,standard:60d": "standard stands behind standard",
    "standard:30d,infrequent:30d": "infrequent must end later than standard",
    "standard:30d,infrequent:7d": "infrequent must end later than standard",
    "standard:forever,infrequent:7d": "nothing follows standard:forever; give it an age",
    "local:6h": "local alone is no tier; add one, as local:6h,standard:30d",
    "standard:0d": "the age of standard must be more than nothing",
    "standard:999999999999y": "less than 146 million years",
    "local:1s,standard:1m,infrequent:1h,cold:1d,archive-instant:1w,cold:1y": "at most 5 tiers",
    "x" * 32_000: "is no CLASS:AGE",
    ",".join(["standard:1d"] * 3_000): "at most 5 tiers",
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:30])
def test_a_mistake_gets_one_line_and_changes_nothing(text: str) -> None:
    (line,) = validate_topic_configs({**REMOTE, "tierlog.tiers": text}, broker=broker())
    assert line.startswith("Invalid value ") and "for configuration tierlog.tiers: " in line
    assert MISTAKES[text] in line
    assert "\n" not in line and len(line) < 500


def test_the_ladder_stands_for_the_ages_that_the_topic_does_not_set() -> None:
    config = effective_topic_config({**REMOTE, "tierlog.tiers": LADDER}, broker())
    assert (config.local_retention_ms, config.retention_ms) == (6 * HOUR, 7 * 365 * DAY)
    shown = {e.name: e.value for e in describe_topic({**REMOTE, "tierlog.tiers": LADDER}, broker(), 1)}
    assert shown["retention.ms"] == str(7 * 365 * DAY)
    assert shown["local.retention.ms"] == str(6 * HOUR)
    assert shown["tierlog.tiers"] == LADDER
    # Without remote storage there is no tier to move through.
    local = effective_topic_config({"tierlog.tiers": LADDER}, broker())
    assert local.retention_ms == 7 * DAY


def test_a_default_of_the_cluster_holds_for_topics_with_remote_storage() -> None:
    given = broker(tierlog_tiers=LADDER)
    assert effective_topic_config(REMOTE, given).retention_ms == 7 * 365 * DAY
    assert effective_topic_config({}, given).retention_ms == 7 * DAY
    assert effective_topic_config({**REMOTE, "tierlog.tiers": ""}, given).retention_ms == 7 * DAY
    aged = {**REMOTE, "retention.ms": "86400000"}
    assert validate_topic_configs(aged, broker=given) == [], (
        "the cluster's default hinders no topic's own ages"
    )
    assert effective_topic_config(aged, given).retention_ms == DAY
    own = {**REMOTE, "tierlog.tiers": "standard:30d"}
    assert effective_topic_config(own, given).retention_ms == 30 * DAY


def test_a_topic_may_not_contradict_its_ladder() -> None:
    configs = {**REMOTE, "tierlog.tiers": LADDER}
    assert validate_topic_configs(configs, broker=broker()) == []
    assert validate_topic_configs({**configs, "retention.ms": str(7 * 365 * DAY)}, broker=broker()) == []
    (line,) = validate_topic_configs({**configs, "retention.ms": "604800000"}, broker=broker())
    assert line == (
        "tierlog.tiers says 220752000000 ms where retention.ms says 604800000: "
        "leave retention.ms out, or make them equal"
    )
    assert len(validate_topic_configs({**configs, "local.retention.ms": "1000"}, broker=broker())) == 1
