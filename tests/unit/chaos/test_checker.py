"""The history checker of the chaos runs: each kind of bad history, written by hand, is flagged; good ones are not."""

from __future__ import annotations

from random import Random

import pytest

from tests.chaos.cluster.checker import KINDS, check, sent_again
from tests.chaos.cluster.history import (
    Batch,
    History,
    Outcome,
    Place,
    Poll,
    Send,
    Written,
    decode_value,
    encode_value,
)

HERE = Place("t", 0)
OK, FAILED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.FAILED, Outcome.UNKNOWN


def rec(number: int, producer: str = "p") -> Written:
    return Written(producer, number)


def sent(number: int, outcome: Outcome = OK, offset: int | None = None, producer: str = "p") -> Send:
    return Send(rec(number, producer), HERE, number, number + 1, outcome, offset)


def polled(offset: int, number: int | None, run: int = 0, consumer: str = "c") -> Poll:
    return Poll(consumer, run, HERE, offset, None if number is None else rec(number))


def history(
    sends: list[Send], log: list[Written | None], *polls: Poll, batches: list[Batch] | None = None
) -> History:
    return History(sends, list(polls), {HERE: list(enumerate(log))}, {HERE: batches or []})


def kinds(bad: History) -> set[str]:
    return {anomaly.kind for anomaly in check(bad)}


ONE = [sent(0)]
THREE = [sent(0), sent(1), sent(2)]
# A batch of two, and the same again under the next epoch.
AGAIN = [Batch(0, 1, 7, 1, 0), Batch(2, 3, 7, 2, 0)]
BAD: dict[str, tuple[set[str], History]] = {
    "an acknowledged record is missing in the middle": ({"lost"}, history(THREE, [rec(0), rec(2)])),
    "the first one is missing": ({"lost"}, history(THREE, [rec(1), rec(2)])),
    "its offset was told, and lies inside the log": (
        {"lost"},
        history([sent(0), sent(1, offset=0), sent(2, UNKNOWN)], [rec(0), rec(2)])
        if False
        else history([sent(0), sent(3, UNKNOWN), sent(1, offset=1)], [rec(0), rec(3), rec(3, "q")]),
    ),
    "a consumer saw what is gone": (
        {"lost"},
        history([sent(0), sent(1, UNKNOWN), sent(2)], [rec(0), rec(2)], polled(5, 1)),
    ),
    "the log ends before an acknowledged record": ({"unseen"}, history(THREE, [rec(0), rec(1)])),
    "the log is empty": ({"unseen"}, history(THREE, [])),
    "the log ends before the offset that was told": (
        {"unseen"},
        history([sent(0), sent(1, offset=1)], [rec(0)]),
    ),
    "a record is there twice in a row": ({"duplicated"}, history(THREE, [rec(0), rec(1), rec(1), rec(2)])),
    "a record comes again later": (
        {"duplicated", "reordered"},
        history(THREE, [rec(0), rec(1), rec(2), rec(0)]),
    ),
    "a record of unknown outcome is there twice": (
        {"duplicated"},
        history([sent(0), sent(1, UNKNOWN)], [rec(0), rec(1), rec(1)]),
    ),
    "two records changed places": ({"reordered"}, history(THREE, [rec(0), rec(2), rec(1)])),
    "one of unknown outcome overtook": (
        {"reordered"},
        history([sent(0), sent(1, UNKNOWN), sent(2)], [rec(0), rec(2), rec(1)]),
    ),
    "a consumer went back": (
        {"reordered"},
        history(THREE, [rec(0), rec(1), rec(2)], polled(1, 1), polled(0, 0)),
    ),
    "a consumer got one offset twice": (
        {"reordered"},
        history(THREE, [rec(0), rec(1), rec(2)], polled(1, 1), polled(1, 1)),
    ),
    "a consumer jumped": ({"skipped"}, history(THREE, [rec(0), rec(1), rec(2)], polled(0, 0), polled(2, 2))),
    "a consumer jumped where it was assigned anew": (
        {"skipped"},
        history(THREE, [rec(0), rec(1), rec(2)], polled(0, 0), polled(2, 2, run=1)),
    ),
    "the final reading has a hole": (
        {"skipped"},
        History([sent(0), sent(1)], [], {HERE: [(0, rec(0)), (2, rec(1))]}),
    ),
    "a consumer saw another record at that offset": (
        {"inconsistent"},
        history([sent(0), sent(1, UNKNOWN)], [rec(0)], polled(0, 1)),
    ),
    "two consumers saw two records": (
        {"inconsistent"},
        history([sent(0), sent(1)], [rec(0), rec(1)], polled(0, 0), polled(0, 1, consumer="d")),
    ),
    "it was acknowledged at another offset": (
        {"inconsistent"},
        history([sent(0, offset=0), sent(1, offset=0)], [rec(0), rec(1)]),
    ),
    "a spurious offset 0": (
        {"inconsistent"},
        history([*THREE, sent(3, offset=0)], [rec(n) for n in range(4)]),
    ),
    "a refused record is there": ({"ghost"}, history([sent(0), sent(1, FAILED)], [rec(0), rec(1)])),
    "a refused record was seen": ({"ghost"}, history([sent(0), sent(1, FAILED)], [rec(0)], polled(1, 1))),
    "a record of nobody": ({"corrupt"}, history([sent(0)], [rec(0), rec(7)])),
    "damaged bytes": ({"corrupt"}, history([sent(0)], [rec(0), None])),
    "a copy under the same epoch": (
        {"duplicated", "unsequenced"},
        history(ONE, [rec(0), rec(0)], batches=[Batch(0, 0, 7, 1, 0), Batch(1, 1, 7, 1, 0)]),
    ),
    "a copy under the same epoch, with a sequence of its own": (
        {"duplicated"},
        history(ONE, [rec(0), rec(0)], batches=[Batch(0, 0, 7, 1, 0), Batch(1, 1, 7, 1, 1)]),
    ),
    "a copy under an older epoch": (
        {"duplicated", "unsequenced"},
        history(ONE, [rec(0), rec(0)], batches=[Batch(0, 0, 7, 2, 0), Batch(1, 1, 7, 1, 0)]),
    ),
    "a copy of another producer id": (
        {"duplicated"},
        history(ONE, [rec(0), rec(0)], batches=[Batch(0, 0, 7, 1, 0), Batch(1, 1, 8, 2, 0)]),
    ),
    "copies without a producer id": (
        {"duplicated"},
        history(ONE, [rec(0), rec(0)], batches=[Batch(0, 0, -1, -1, -1), Batch(1, 1, -1, 0, -1)]),
    ),
    "a copy of which no batch is known": (
        {"duplicated"},
        history(ONE, [rec(0), rec(0)], batches=[Batch(0, 0, 7, 1, 0)]),
    ),
    "a third copy under the epoch of the second": (
        {"duplicated", "unsequenced"},
        history(
            ONE,
            [rec(0), rec(0), rec(0)],
            batches=[Batch(0, 0, 7, 1, 0), Batch(1, 1, 7, 2, 0), Batch(2, 2, 7, 2, 0)],
        ),
    ),
    "a new record under the newer epoch lies before an older one": (
        {"reordered"},
        history(THREE, [rec(0), rec(2), rec(1)], batches=[Batch(0, 0, 7, 1, 0), Batch(1, 2, 7, 2, 0)]),
    ),
    "what was sent again is in the wrong order": (
        {"reordered"},
        history(THREE, [rec(0), rec(1), rec(1), rec(0), rec(2)], batches=[*AGAIN, Batch(4, 4, 7, 2, 2)]),
    ),
    "a copy was told at an offset that holds another": (
        {"inconsistent"},
        history([sent(0, offset=5)], [rec(0), rec(0)], batches=[Batch(0, 0, 7, 1, 0), Batch(1, 1, 7, 2, 0)]),
    ),
    "a gap in the sequences": (
        {"unsequenced"},
        history(THREE, [rec(0), rec(1), rec(2)], batches=[Batch(0, 1, 7, 1, 0), Batch(2, 2, 7, 1, 3)]),
    ),
    "a new epoch does not begin at zero": (
        {"unsequenced"},
        history(THREE, [rec(0), rec(1), rec(2)], batches=[Batch(0, 1, 7, 1, 0), Batch(2, 2, 7, 2, 2)]),
    ),
    "a consumer got damaged bytes": ({"corrupt"}, history([sent(0)], [rec(0)], polled(0, None))),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_called_by_its_name(name: str) -> None:
    expected, bad = BAD[name]
    assert expected <= kinds(bad)


def test_every_kind_is_among_the_bad_histories() -> None:
    assert set().union(*(expected for expected, _ in BAD.values())) == set(KINDS)


@pytest.mark.parametrize(
    "good",
    [
        history([], []),
        history(THREE, [rec(0), rec(1), rec(2)]),
        history([sent(0), sent(1, UNKNOWN), sent(2)], [rec(0), rec(2)]),
        history([sent(0), sent(1, UNKNOWN), sent(2)], [rec(0), rec(1), rec(2)]),
        history([sent(0), sent(1, FAILED), sent(2)], [rec(0), rec(2)]),
        history([sent(0), sent(0, producer="q")], [rec(0, "q"), rec(0)]),
        history(
            THREE, [rec(0), rec(1), rec(2)], polled(0, 0), polled(1, 1), polled(0, 0, 1), polled(1, 1, 1)
        ),
        history(THREE, [rec(0), rec(1), rec(2)], polled(1, 1), polled(2, 2)),
    ],
)
def test_a_good_history_has_none(good: History) -> None:
    assert check(good) == []


def test_what_a_client_sent_again_under_a_newer_epoch_is_counted_and_no_anomaly() -> None:
    batches = [*AGAIN, Batch(4, 4, 8, 0, 0), Batch(5, 5, 7, 3, 0), Batch(6, 6, 7, 3, 1)]
    sends = [sent(0, offset=0), sent(1, offset=3), sent(0, producer="q"), sent(2)]
    log: list[Written | None] = [rec(0), rec(1), rec(0), rec(1), rec(0, "q"), rec(1), rec(2)]
    again = history(
        sends, log, *(polled(n, record.number) for n, record in enumerate(log) if record), batches=batches
    )
    again.polls[4].record = rec(0, "q")
    assert check(again) == []
    assert sent_again(again) == {"p": 3}
    assert sent_again(history(THREE, [rec(0), rec(1), rec(2)])) == {}
    again.batches = {}
    assert kinds(again) == {"duplicated", "reordered"}
    assert sent_again(again) == {}


def test_random_good_histories_have_none_and_each_loss_doubling_and_swap_in_them_is_found() -> None:
    for seed in range(30):
        rng = Random(seed)
        sends, log = [], []
        for number in range(rng.randrange(5, 60)):
            producer = rng.choice("pqr")
            outcome = rng.choice([OK, OK, OK, UNKNOWN, FAILED])
            there = outcome is OK or (outcome is UNKNOWN and rng.random() < 0.5)
            told = rng.random() < 0.8
            sends.append(sent(number, outcome, len(log) if there and told else None, producer))
            if there:
                log.append(rec(number, producer))
        assert check(history(sends, list(log))) == []
        at = next(
            (
                n
                for n, record in enumerate(log)
                if Outcome.ACKNOWLEDGED in {s.outcome for s in sends if s.record == record}
            )
        )
        assert kinds(history(sends, [*log[:at], *log[at + 1 :]])) & {"lost", "unseen"}
        assert "duplicated" in kinds(history(sends, [*log[:at], log[at], *log[at:]]))
        same = [n for n, record in enumerate(log) if record.producer == log[0].producer]
        if len(same) > 1:
            swapped = list(log)
            swapped[same[0]], swapped[same[1]] = swapped[same[1]], swapped[same[0]]
            assert "reordered" in kinds(history(sends, list(swapped)))


def test_a_value_says_what_it_is_and_whether_it_is_whole() -> None:
    value = encode_value(rec(5), HERE)
    assert decode_value(value, HERE) == rec(5)
    assert decode_value(value, Place("t", 1)) is None
    assert decode_value(value[:-1], HERE) is None
    assert decode_value(value.replace(b"p 5", b"p 6"), HERE) is None
    assert decode_value(b"", HERE) is None
    assert decode_value(None, HERE) is None
