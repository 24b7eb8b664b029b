"""DelayedResponse tells at once, and only once."""

from __future__ import annotations

import pytest

from tierlog.broker.work.delayed_response import DelayedResponse


def test_the_result_is_told_in_the_same_step_and_in_order() -> None:
    reply: DelayedResponse[int] = DelayedResponse()
    told: list[tuple[str, int | None]] = []
    reply.add_done_callback(lambda done: told.append(("first", done.result())))
    reply.add_done_callback(lambda done: told.append(("second", done.result())))
    assert not reply.done()
    reply.set_result(7)
    assert told == [("first", 7), ("second", 7)]
    assert reply.done()
    assert reply.exception() is None


def test_a_cancelled_one_says_so_and_stays_so() -> None:
    reply: DelayedResponse[int] = DelayedResponse()
    told: list[bool] = []
    reply.add_done_callback(lambda done: told.append(done.cancelled()))
    assert reply.cancel()
    assert not reply.cancel()
    assert told == [True]
    with pytest.raises(AssertionError):
        reply.set_result(1)


def test_an_error_is_handed_on() -> None:
    reply: DelayedResponse[int] = DelayedResponse()
    error = ValueError("why")
    reply.set_exception(error)
    assert reply.exception() is error
    assert not reply.cancelled()
