"""List prices of storage classes, for a first estimate: US dollars, S3 in us-east-1, Google in us-central1, first tier.

They are written down by hand and say from when they are. Discounts, taxes and traffic are not in them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tierlog.errors import UserError

AS_OF = "2026-05"
GB = 10**9


class ClassPrice(NamedTuple):
    """``retrieval_per_gb`` is paid for each byte read, by a move out of the class too."""

    per_gb_month: float
    per_1000_writes: float
    per_1000_reads: float
    retrieval_per_gb: float


S3 = {
    "standard": ClassPrice(0.023, 0.005, 0.0004, 0.0),
    "infrequent": ClassPrice(0.0125, 0.01, 0.001, 0.01),
    "cold": ClassPrice(0.004, 0.02, 0.01, 0.03),
    "archive-instant": ClassPrice(0.004, 0.02, 0.01, 0.03),
}
GCS = {
    "standard": ClassPrice(0.020, 0.005, 0.0004, 0.0),
    "infrequent": ClassPrice(0.010, 0.01, 0.001, 0.01),
    "cold": ClassPrice(0.004, 0.02, 0.01, 0.02),
    "archive-instant": ClassPrice(0.0012, 0.05, 0.05, 0.05),
}
PROVIDERS = {"s3": S3, "gcs": GCS}


def prices_of(provider: str) -> dict[str, ClassPrice]:
    """Raises UserError."""
    if provider not in PROVIDERS:
        raise UserError(f"there are no prices of {provider}; there are {', '.join(PROVIDERS)}")
    return PROVIDERS[provider]


def monthly_cost(prices: dict[str, ClassPrice], name: str, held_bytes: int) -> float:
    """Dollars a month."""
    return prices[name].per_gb_month * held_bytes / GB


def move_cost(prices: dict[str, ClassPrice], move: dict[str, Any]) -> float:
    """Dollars for copies into ``to``, and the reads out of ``from``."""
    source, target = prices[move["from"]], prices[move["to"]]
    segments, moved_bytes = int(move["segments"]), int(move["bytes"])
    requests = segments * (target.per_1000_writes + source.per_1000_reads) / 1000
    return requests + source.retrieval_per_gb * moved_bytes / GB
