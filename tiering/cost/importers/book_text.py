"""What an importer has found, and the text of the price book that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tiering.cost.prices import CLASSES, KINDS, Price, WrongBook

MIN_OBJECT_BYTES = {"s3": 128 << 10, "gcs": 0}
MIN_DAYS = {
    "s3": {"infrequent": 30, "cold": 90, "archive-instant": 90},
    "gcs": {"infrequent": 30, "cold": 90, "archive-instant": 365},
}


@dataclass(slots=True)
class FoundClass:
    """Of one storage class; ``per_request`` by kind."""

    storage: Price | None = None
    retrieval_per_gb: Decimal | None = None
    per_request: dict[str, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class Found:
    """What the lists of one region say. ``currency`` and ``as_of`` as they stand there."""

    provider: str
    region: str
    source: str
    currency: str = "USD"
    as_of: str = ""
    classes: dict[str, FoundClass] = field(default_factory=lambda: {name: FoundClass() for name in CLASSES})
    disk_per_gb: Decimal | None = None
    zone_out_per_gb: Decimal | None = None
    zone_in_per_gb: Decimal | None = None
    egress: Price | None = None

    @property
    def missing(self) -> list[str]:
        """What a book has and the lists do not, in words."""
        told = {
            "volumes (disk.per_gb_month)": self.disk_per_gb,
            "traffic between zones (network.zone_out_per_gb)": self.zone_out_per_gb,
            "traffic to the outside (network.egress_per_gb)": self.egress,
        }
        return [what for what, price in told.items() if price is None]


def book_text(found: Found) -> str:
    """TOML. Raises WrongBook where not even the standard class is there."""
    standard = found.classes["standard"]
    if standard.storage is None or "write" not in standard.per_request or "read" not in standard.per_request:
        raise WrongBook(
            (
                f"the list has no prices of the standard class in {found.region}: name the list of the object store, "
                "and the region as the provider writes it",
            )
        )
    parts = [
        f'name = "{found.provider}-{found.region}-imported"',
        f'provider = "{found.provider}"',
        f'region = "{found.region}"',
        f'currency = "{found.currency}"',
        f"as_of = {found.as_of}",
        f'source = "{found.source}"',
    ]
    for name in CLASSES:
        parts += _class_lines(found, name)
    parts += ["", "[disk]", f"per_gb_month = {_number(found.disk_per_gb or Decimal(0))}", "", "[network]"]
    if found.zone_out_per_gb is not None:
        parts.append(f"zone_out_per_gb = {_number(found.zone_out_per_gb)}")
    if found.zone_in_per_gb is not None:
        parts.append(f"zone_in_per_gb = {_number(found.zone_in_per_gb)}")
    if found.egress is not None:
        parts.append(f"egress_per_gb = {_price(found.egress)}")
    return "\n".join(parts) + "\n"


def _class_lines(found: Found, name: str) -> Sequence[str]:
    one = found.classes[name]
    if one.storage is None:
        return ()
    lines = ["", f"[classes.{name}]", f"storage_per_gb_month = {_price(one.storage)}"]
    if days := MIN_DAYS[found.provider].get(name):
        lines.append(f"min_days = {days}")
        if least := MIN_OBJECT_BYTES[found.provider]:
            lines.append(f"min_object_bytes = {least}")
    if one.retrieval_per_gb is not None:
        lines.append(f"retrieval_per_gb = {_number(one.retrieval_per_gb)}")
    asked = [f"{kind} = {_number(one.per_request[kind] * 1000)}" for kind in KINDS if kind in one.per_request]
    lines.append(f"requests_per_1000 = {{ {', '.join(asked)} }}")
    return lines


def _price(price: Price) -> str:
    if len(price.steps) == 1:
        return _number(price.first)
    steps = []
    for step in price.steps:
        bound = "" if step.up_to_gb is None else f"up_to_gb = {_number(step.up_to_gb)}, "
        steps.append(f"  {{ {bound}price = {_number(step.per_gb)} }},")
    return "\n".join(("[", *steps, "]"))


def _number(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
