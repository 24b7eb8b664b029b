"""How long partitions were silent, and how long writes took."""

from __future__ import annotations

from tests.chaos.cluster.history import Outcome, Place, Send, Written
from tests.chaos.cluster.measures import latency, longest_silence_s, writable_again_s

ONE, TWO = Place("t", 0), Place("t", 1)


def send(place: Place, began_s: float, ended_s: float, outcome: Outcome = Outcome.ACKNOWLEDGED) -> Send:
    return Send(Written("p", int(began_s * 100)), place, began_s, ended_s, outcome)


def test_written_again_is_when_the_first_record_that_was_sent_since_is_acknowledged() -> None:
    sends = [
        send(ONE, 0.9, 1.1),
        send(ONE, 1.0, 3.0),
        send(ONE, 2.0, 2.5),
        send(TWO, 1.5, 2.0, Outcome.UNKNOWN),
    ]
    assert writable_again_s(sends, [ONE, TWO], 1.0) == {ONE: 1.5}


def test_the_longest_silence_is_that_of_the_worst_partition_up_to_both_ends() -> None:
    sends = [send(ONE, 0, at_s) for at_s in (1.0, 2.0, 3.0)] + [send(TWO, 0, at_s) for at_s in (1.0, 2.8)]
    assert longest_silence_s(sends, [ONE, TWO], 0.5, 3.5) == 2.8 - 1.0
    assert longest_silence_s(sends, [ONE], 0.0, 9.0) == 6.0
    assert longest_silence_s([], [ONE], 1.0, 3.0) == 2.0


def test_latency_counts_what_was_sent_in_the_time_and_what_of_it_failed() -> None:
    sends = [send(ONE, n / 100, n / 100 + n / 1000) for n in range(1000)]
    sends.append(send(ONE, 5.0, 0.0, Outcome.UNKNOWN))
    found = latency(sends, 0.0, 10.0)
    assert (found.count, found.failed) == (1001, 1)
    assert abs(found.p50_s - 0.5) < 0.01
    assert abs(found.p999_s - 0.999) < 1e-6
    assert latency(sends, 100.0, 101.0).count == 0
