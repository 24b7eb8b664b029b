"""Explains an error of the cluster to the user, with the next step."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from tierlog.config.lookup import TOPIC
from tierlog.errors import ErrorCode, UserError

_NEXT_STEP = {
    ErrorCode.TOPIC_ALREADY_EXISTS: "--if-not-exists lets that pass",
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "there is no such topic; tierlog topic list shows what there is",
    ErrorCode.INVALID_REPLICATION_FACTOR: "one broker can hold one replica of a partition: try -r 1",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "you may not do this to the topic",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "you may not do this to the cluster",
    ErrorCode.REQUEST_TIMED_OUT: "the cluster is at it still or cannot: look again with tierlog topic list",
    ErrorCode.TOPIC_DELETION_DISABLED: "the brokers run with delete.topic.enable=false",
    ErrorCode.NOT_LEADER_OR_FOLLOWER: "its leader has just moved: try again",
    ErrorCode.INVALID_UPDATE_VERSION: "tierlog cluster features shows what each broker supports",
    ErrorCode.KAFKA_STORAGE_ERROR: "the disk of the broker fails or is full: see its log",
}


_UNKNOWN_CONFIG = "Unknown topic config name: "


def _config_hint(said: str) -> str:
    """The known config nearest to one that the cluster does not know."""
    if not said.startswith(_UNKNOWN_CONFIG):
        return ""
    near = get_close_matches(said.removeprefix(_UNKNOWN_CONFIG), TOPIC, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else "tierlog topic describe TOPIC --all-configs shows them all"


def describe_error(error_code: int, message: str | None = None, code: bool = True) -> str:
    """One line: the cluster's message, the name of the code, and the next step if one is known."""
    try:
        error = ErrorCode(error_code)
    except ValueError:
        return message or f"error {error_code}"
    said = (message or "").strip().rstrip(".")
    step = _config_hint(said) if error is ErrorCode.INVALID_CONFIG else _NEXT_STEP.get(error, "")
    parts = [said, step if step and not said.endswith(step) else ""]
    text = "; ".join(part for part in parts if part)
    if not text:
        return error.name
    return f"{text} ({error.name})" if code else text


def check(error_code: int, what: str, message: str | None = None) -> None:
    """Raises UserError for an error code of a response."""
    if error_code:
        raise UserError(f"{what}: {describe_error(error_code, message)}")


def no_such_topic(name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown topic; it suggests the nearest known name, if there is one."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "tierlog topic list shows what there is"
    return UserError(f"there is no topic {name}; {hint}")
