"""What a decoder of values is, and the bounds that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa

DEPTH_MAX = 32
"""Of types: what lies deeper is text."""
FIELDS_MAX = 2_000
"""Of a type, with all that it holds."""


class Undecodable(Exception):
    """A value that becomes a dead letter; says why, in one line."""


class Decoder(Protocol):
    type: pa.DataType | None
    """Of the column ``value``; None until it is settled."""
    has_schema_ids: bool
    """Whether a value needs what a header says of its schema."""

    def settle(self, values: Sequence[bytes]) -> None:
        """Sets the type from the first values, if they tell it. Raises UserError."""
        ...

    def remembered(self) -> str:
        """What another run needs to decode to the same type; only once it is settled."""
        ...

    def decode(self, value: bytes) -> Any:
        """What ``column`` takes. Raises Undecodable; UserError if the registry does not answer."""
        ...

    def column(self, rows: list[Any]) -> pa.Array:
        """Decoded values, and None, as Arrow. Raises Undecodable, or an error of Arrow, if one of them does not fit."""
        ...
