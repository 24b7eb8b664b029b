"""AWS's bulk price lists: the region files of AmazonS3, of AmazonEC2 for volumes, of AWSDataTransfer for traffic.

A list has ``products`` by SKU with their attributes, and ``terms.OnDemand`` by SKU with price dimensions, which have ranges
where the price falls with the volume. Products are told by their usage type, which outside of us-east-1 has the region's
short name in front. Ranges of storage are in GB; prices of requests are of a single one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tiering.cost.importers.book_text import Found
from tiering.cost.prices import LIST, READ, WRITE, Price, Step, WrongBook

_PREFIX = re.compile(r"^[A-Z]{2,4}\d?-(?=[A-Z])")
_STORAGE = {
    "TimedStorage-ByteHrs": ("standard",),
    "TimedStorage-SIA-ByteHrs": ("infrequent",),
    "TimedStorage-GIR-ByteHrs": ("cold", "archive-instant"),
}
_RETRIEVAL = {"Retrieval-SIA": ("infrequent",), "Retrieval-GIR": ("cold", "archive-instant")}
_ALL = ("standard", "infrequent", "cold", "archive-instant")
_REQUESTS = {
    "Requests-Tier1": (("standard",), WRITE),
    "Requests-Tier2": (("standard",), READ),
    "Requests-SIA-Tier1": (("infrequent",), WRITE),
    "Requests-SIA-Tier2": (("infrequent",), READ),
    "Requests-GIR-Tier1": (("cold", "archive-instant"), WRITE),
    "Requests-GIR-Tier2": (("cold", "archive-instant"), READ),
}
_VOLUME, _BETWEEN_ZONES, _OUT = "EBS:VolumeUsage.gp3", "DataTransfer-Regional-Bytes", "DataTransfer-Out-Bytes"


def aws_prices(lists: Sequence[tuple[str, Any]], region: str | None) -> Found:
    """``lists``: name of a file and what it holds. ``region``: needed where they tell of several. Raises WrongBook."""
    regions: set[str] = set()
    for where, document in lists:
        regions |= {told for told in map(_region_of, _products(where, document).values()) if told}
    if region is None and len(regions) != 1:
        raise WrongBook(
            (
                f"the lists tell of {len(regions)} regions: name one with --region, as {min(regions, default='us-east-1')}",
            )
        )
    chosen = region or regions.pop()
    found = Found("s3", chosen, "AWS price list " + ", ".join(_version(document) for _, document in lists))
    found.as_of = min(str(document.get("publicationDate", ""))[:10] for _, document in lists)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", found.as_of) is None:
        raise WrongBook((f"{lists[0][0]}: publicationDate is missing: name the list as AWS publishes it",))
    for where, document in lists:
        terms = document.get("terms", {}).get("OnDemand", {})
        for sku, product in _products(where, document).items():
            if _region_of(product) in ("", chosen):
                _take(found, product["attributes"], terms.get(sku, {}), where)
    return found


def _products(where: str, document: Any) -> Mapping[str, Any]:
    products = document.get("products") if isinstance(document, dict) else None
    if not isinstance(products, dict) or not isinstance(document.get("terms"), dict):
        raise WrongBook(
            (f"{where}: this is no price list of AWS: products or terms are missing; take index.json",)
        )
    return {sku: product for sku, product in products.items() if product.get("attributes")}


def _version(document: Mapping[str, Any]) -> str:
    return re.sub(
        r"[^\w. -]", "", f"{document.get('offerCode', 'unnamed')} {document.get('version', '')}"
    ).strip()


def _region_of(product: Mapping[str, Any]) -> str:
    attributes = product["attributes"]
    return str(attributes.get("regionCode") or attributes.get("fromRegionCode") or "")


def _take(found: Found, attributes: Mapping[str, Any], offers: Mapping[str, Any], where: str) -> None:
    usage = _PREFIX.sub("", str(attributes.get("usagetype", "")))
    dimensions = [each for offer in offers.values() for each in offer.get("priceDimensions", {}).values()]
    if not dimensions:
        return
    try:
        if usage in _STORAGE:
            for name in _STORAGE[usage]:
                found.classes[name].storage = _price(dimensions)
        elif usage in _RETRIEVAL:
            for name in _RETRIEVAL[usage]:
                found.classes[name].retrieval_per_gb = _price(dimensions).first
        elif usage in _REQUESTS:
            _take_requests(found, usage, _price(dimensions).first)
        elif usage == _VOLUME:
            found.disk_per_gb = _price(dimensions).first
        elif usage == _BETWEEN_ZONES:
            found.zone_out_per_gb = found.zone_in_per_gb = _price(dimensions).first
        elif usage == _OUT and attributes.get("toLocation", "External") == "External":
            found.egress = _price(dimensions)
    except (KeyError, ValueError, ArithmeticError) as error:
        raise WrongBook(
            (f"{where}: the price of {usage} is not as AWS writes it: {error}; take index.json",)
        ) from None


def _take_requests(found: Found, usage: str, price: Decimal) -> None:
    names, kind = _REQUESTS[usage]
    if not price:
        return
    for name in names:
        found.classes[name].per_request[kind] = price
    if usage == "Requests-Tier1":
        # Listing is a request of the bucket, whatever classes its objects have.
        for name in _ALL:
            found.classes[name].per_request[LIST] = price


def _price(dimensions: Iterable[Mapping[str, Any]]) -> Price:
    """Raises KeyError, ArithmeticError."""
    steps = []
    for each in sorted(dimensions, key=lambda each: Decimal(each["beginRange"])):
        end = each["endRange"]
        steps.append(Step(None if end == "Inf" else Decimal(end), Decimal(each["pricePerUnit"]["USD"])))
    return Price(tuple(steps))
