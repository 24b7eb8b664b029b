"""Google's price catalogue: SKUs as ``services.skus.list`` of the Cloud Billing API answers them, pages one after another.

SKUs are told by their descriptions, ``Standard Storage Iowa`` or ``Regional Standard Class A Operations``; prices are
units and nanos. Of several times the newest is taken. A catalogue of Compute Engine adds disks (pd-balanced) and traffic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tiering.cost.importers.book_text import Found
from tiering.cost.prices import LIST, READ, WRITE, Price, Step, WrongBook

_CLASS_OF = {
    "Standard": "standard",
    "Nearline": "infrequent",
    "Coldline": "cold",
    "Archive": "archive-instant",
}
_NAMES = "|".join(_CLASS_OF)
_STORAGE = re.compile(rf"({_NAMES}) Storage (?!.*(?:Multi-region|Dual-region|Early))", re.IGNORECASE)
_OPERATIONS = re.compile(rf"(?:Regional )?({_NAMES}) Class (A|B) Operations?", re.IGNORECASE)
_RETRIEVAL = re.compile(rf"({_NAMES}) (?:Storage )?(?:Data )?Retrieval", re.IGNORECASE)
_DISK = re.compile(r"Balanced PD Capacity(?! .*Regional)", re.IGNORECASE)
_BETWEEN_ZONES = re.compile(r"Network Inter Zone (?:Data Transfer Out|Egress)", re.IGNORECASE)
_OUT = re.compile(r"(?:Network Internet (?:Data Transfer Out|Egress)|Download Worldwide)", re.IGNORECASE)
ANYWHERE = "global"


def gcp_prices(lists: Sequence[tuple[str, Any]], region: str | None) -> Found:
    """``lists``: name of a file and what it holds. Raises WrongBook."""
    skus = [sku for where, document in lists for sku in _skus(where, document)]
    regions = {name for sku in skus for name in sku.get("serviceRegions", ())} - {ANYWHERE}
    if region is None and len(regions) != 1:
        raise WrongBook(
            (
                f"the lists tell of {len(regions)} regions: name one with --region, "
                f"as {min(regions, default='us-central1')}",
            )
        )
    chosen = region or regions.pop()
    found = Found("gcs", chosen, "Google Cloud Billing catalogue")
    for sku in skus:
        if chosen in sku.get("serviceRegions", ()) or ANYWHERE in sku.get("serviceRegions", ()):
            try:
                _take(found, sku)
            except (LookupError, TypeError, ValueError, ArithmeticError) as error:
                told = f"{sku.get('description', 'a SKU')} is not as Google writes it: {error!r}"
                raise WrongBook((f"{told}; take the answer of services.skus.list",)) from None
    return found


def _skus(where: str, document: Any) -> Sequence[Mapping[str, Any]]:
    skus = document.get("skus") if isinstance(document, dict) else document
    if not isinstance(skus, list) or not all(isinstance(sku, dict) for sku in skus):
        raise WrongBook(
            (f"{where}: this is no catalogue of Google's: skus are missing; take the API's answer",)
        )
    return skus


def _take(found: Found, sku: Mapping[str, Any]) -> None:
    description = str(sku.get("description", ""))
    if not sku.get("pricingInfo") or sku.get("category", {}).get("usageType", "OnDemand") != "OnDemand":
        return
    newest = max(sku["pricingInfo"], key=lambda each: str(each.get("effectiveTime", "")))
    if told := _RETRIEVAL.match(description):
        found.classes[_class(told[1])].retrieval_per_gb = _price(newest).steps[-1].per_gb
    elif told := _OPERATIONS.match(description):
        _take_operations(found, _class(told[1]), told[2].upper(), _price(newest).steps[-1].per_gb)
    elif told := _STORAGE.match(description):
        found.classes[_class(told[1])].storage = _without_free(_price(newest))
        found.as_of = max(found.as_of, str(newest.get("effectiveTime", ""))[:10])
        found.currency = newest["pricingExpression"]["tieredRates"][0]["unitPrice"]["currencyCode"]
    elif _DISK.match(description):
        found.disk_per_gb = _price(newest).steps[-1].per_gb
    elif _BETWEEN_ZONES.match(description):
        found.zone_out_per_gb = _price(newest).steps[-1].per_gb
    elif _OUT.match(description) and found.egress is None:
        found.egress = _price(newest)


def _class(word: str) -> str:
    return _CLASS_OF[word.capitalize()]


def _take_operations(found: Found, name: str, letter: str, price: Decimal) -> None:
    """Class A writes and lists, class B reads."""
    for kind in (WRITE, LIST) if letter == "A" else (READ,):
        found.classes[name].per_request[kind] = price


def _without_free(price: Price) -> Price:
    """The few free GB of each account are not a price by volume."""
    steps = price.steps
    return Price(steps[1:]) if len(steps) > 1 and not steps[0].per_gb else price


def _price(info: Mapping[str, Any]) -> Price:
    """Raises KeyError, ValueError, ArithmeticError."""
    rates = sorted(
        info["pricingExpression"]["tieredRates"],
        key=lambda rate: Decimal(str(rate.get("startUsageAmount", 0))),
    )
    starts = [Decimal(str(rate.get("startUsageAmount", 0))) for rate in rates]
    steps = []
    for number, rate in enumerate(rates):
        unit = rate["unitPrice"]
        amount = Decimal(str(unit.get("units", "0"))) + Decimal(unit.get("nanos", 0)).scaleb(-9)
        steps.append(Step(starts[number + 1] if number + 1 < len(rates) else None, amount))
    return Price(tuple(steps))
