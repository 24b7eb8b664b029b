"""Each error of the cluster names what to do next."""

from __future__ import annotations

import pytest

from tierlog.admin.errors import check, describe_error, no_such_topic
from tierlog.errors import ErrorCode, UserError


def test_the_code_stands_behind_what_was_said() -> None:
    assert describe_error(ErrorCode.INVALID_PARTITIONS, "Not an increase.") == (
        "Not an increase (INVALID_PARTITIONS)"
    )
    assert describe_error(ErrorCode.UNKNOWN_SERVER_ERROR) == "UNKNOWN_SERVER_ERROR"
    assert describe_error(9999) == "error 9999"


def test_next_steps() -> None:
    assert "--if-not-exists" in describe_error(ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'a' already exists.")
    assert "did you mean retention.ms?" in describe_error(
        ErrorCode.INVALID_CONFIG, "Unknown topic config name: retenton.ms"
    )
    assert "--all-configs" in describe_error(ErrorCode.INVALID_CONFIG, "Unknown topic config name: zzz")
    other = describe_error(ErrorCode.INVALID_CONFIG, "Invalid value x for configuration retention.ms")
    assert other == "Invalid value x for configuration retention.ms (INVALID_CONFIG)"


def test_the_nearest_topic() -> None:
    assert str(no_such_topic("fligths", ["flights", "events"])) == (
        "there is no topic fligths; did you mean flights?"
    )
    assert "tierlog topic list" in str(no_such_topic("a", []))


def test_check() -> None:
    check(0, "a")
    with pytest.raises(UserError, match=r"^a: said \(INVALID_REQUEST\)$"):
        check(ErrorCode.INVALID_REQUEST, "a", "said")
