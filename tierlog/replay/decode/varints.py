"""Zigzag varints at many positions at once.

A table of all pairs of bytes answers for numbers of one or two bytes, which nearly all are. Longer ones, up to eight bytes,
are cut out of 64-bit words. What is longer still is ``Unusual``.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Positions: TypeAlias = npt.NDArray[np.int64]
SLACK_BYTES = 8
"""So many bytes must lie behind the last position that is read."""
_CONTINUES = np.uint64(0x8080808080808080)


class Unusual(Exception):
    """Bytes that the vector steps do not decide on."""


def _tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    pair = np.arange(1 << 16, dtype=np.int64)
    first, second = pair & 0xFF, pair >> 8
    is_short, is_long = first < 0x80, (first >= 0x80) & (second >= 0x80)
    number = np.where(is_short, first, first & 0x7F | second << 7)
    width = np.where(is_short, 1, np.where(is_long, 0, 2))
    return (number >> 1) ^ -(number & 1), width


_VALUE, _WIDTH = _tables()
STEP = np.where((_WIDTH > 0) & (_VALUE >= 0), _VALUE + _WIDTH, 0)
"""By a pair of bytes: how far behind a length field the next record begins; 0 where two bytes do not tell."""


class Arena(NamedTuple):
    """One buffer, and the pairs and words that begin at each of its bytes."""

    data: npt.NDArray[np.uint8]
    pairs: npt.NDArray[np.uint16]
    words: npt.NDArray[np.uint64]

    @staticmethod
    def of(data: bytes | bytearray | memoryview) -> Arena:
        size = len(data)
        assert size >= SLACK_BYTES
        return Arena(
            np.frombuffer(data, dtype=np.uint8),
            np.ndarray((size - 1,), dtype="<u2", buffer=data, strides=(1,)),
            np.ndarray((size - 7,), dtype="<u8", buffer=data, strides=(1,)),
        )


def varints_at(arena: Arena, at: Positions) -> tuple[Positions, Positions]:
    """(values, positions behind them). Raises Unusual."""
    try:
        pairs = arena.pairs[at]
        values, widths = _VALUE[pairs], _WIDTH[pairs]
        if not widths.all():
            longer = np.flatnonzero(widths == 0)
            values[longer], widths[longer] = _long_varints(arena.words[at[longer]])
    except IndexError:
        raise Unusual("beyond the end") from None
    return values, at + widths


def _long_varints(words: npt.NDArray[np.uint64]) -> tuple[Positions, Positions]:
    """(values, widths) of the varints at the low end of each word."""
    ends = ~words & _CONTINUES
    if not ends.all():
        raise Unusual("a number of more than eight bytes")
    below = (ends & -ends) - np.uint64(1)
    words = words & below
    number = words & np.uint64(0x7F)
    for byte in range(1, 8):
        number |= (words & np.uint64(0x7F << 8 * byte)) >> np.uint64(byte)
    signed = number.astype(np.int64)
    widths = (np.bitwise_count(below).astype(np.int64) + 1) >> 3
    return (signed >> 1) ^ -(signed & 1), widths
