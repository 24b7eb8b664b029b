"""A CRC-32C as Google writes it: base64 of its four bytes, the highest first. Pure."""

from __future__ import annotations

import base64


def base64_of(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def crc_of(text: str) -> int:
    return int.from_bytes(base64.b64decode(text), "big")
