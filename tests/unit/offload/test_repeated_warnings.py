"""One line a minute and kind, however many complain."""

from __future__ import annotations

from typing import Any

from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of


def test_the_first_is_said_at_once_and_the_next_a_minute_later_with_a_count() -> None:
    now_s = 100.0
    said: list[tuple[str, dict[str, Any]]] = []
    warnings = RepeatedWarnings(lambda: now_s)

    def say(event: str, key: str, **fields: object) -> None:
        warnings.say(lambda event, **given: said.append((event, given)), event, key, **fields)

    for n in range(5):
        say("down", "Timeout", n=n)
    say("down", "Unavailable")
    say("broken", "Timeout")
    now_s = 161.0
    say("down", "Timeout", n=5)
    say("down", "Timeout", n=6)
    assert said == [
        ("down", {"n": 0}),
        ("down", {}),
        ("broken", {}),
        ("down", {"n": 5, "left_out": 4}),
    ]
    assert kind_of(TimeoutError("x")) == "TimeoutError"
