"""What the configurations of a bucket have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """``prefix`` is empty or ends without ``/``."""

    bucket: str
    prefix: str = ""

    def full_key(self, key: str) -> str:
        """The key as the bucket has it."""
        return f"{self.prefix}/{key}" if self.prefix else key
