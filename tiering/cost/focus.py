"""A bill as rows of FOCUS 1.2, the FinOps specification of cost and usage: one row per charge and day, of charges that
topics share one row for each topic, with the columns that FOCUS 1.3 has for such parts.

There are no commitments and no invoices here: those columns are null. Columns of capacity reservations and zones are left
out, as the specification allows. What is ours begins with ``x_``. Unit prices are the cost over the quantity, so where a
price falls with the volume they are the mean. Empty texts are null, as the specification asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from json import dumps
from typing import Any, NamedTuple

from tiering.cost.allocation import Allocated, allocated, allocation_columns
from tiering.cost.bill import Bill, Charge
from tiering.cost.exact import exact
from tiering.cost.prices import Book
from tiering.cost.usage import UNIT_OF, Item, Unit, Use
from tiering.ledger.rows import ALL

VERSION = "1.2"
PROVIDERS = {"s3": "Amazon Web Services", "gcs": "Google Cloud", "own": "Own hardware"}
_UNITS = {Unit.BYTE_HOURS: "GiB-Months", Unit.BYTES: "GiB", Unit.REQUESTS: "Requests"}
_GRAIN = Decimal("1e-18")
_EPOCH = date(1970, 1, 1)

NULLS = (
    "InvoiceId",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "CommitmentDiscountUnit",
)


class Account(NamedTuple):
    """Who gets the invoice."""

    billing_id: str
    name: str


class _Service(NamedTuple):
    name: str
    category: str
    subcategory: str


_BLOCK = _Service("Block volumes", "Storage", "Block Storage")
_OBJECT = _Service("Object storage", "Storage", "Object Storage")
_NETWORK = _Service("Data transfer", "Networking", "Network Connectivity")
_SERVICES = {
    Item.DISK: _BLOCK,
    Item.DISK_FREE: _BLOCK,
    Item.STORAGE: _OBJECT,
    Item.OVERHEAD: _OBJECT,
    Item.EARLY: _OBJECT,
    Item.REQUESTS: _OBJECT,
    Item.RETRIEVAL: _OBJECT,
    Item.CROSS_ZONE: _NETWORK,
    Item.EGRESS: _NETWORK,
    Item.STORE_TRANSFER: _NETWORK,
}
_METERS = {
    Item.DISK: "Disk held by replicas",
    Item.DISK_FREE: "Disk provisioned and free",
    Item.STORAGE: "Bytes stored",
    Item.OVERHEAD: "Bytes stored beside segments",
    Item.EARLY: "Bytes deleted before the minimum days",
    Item.REQUESTS: "Requests",
    Item.RETRIEVAL: "Bytes retrieved",
    Item.CROSS_ZONE: "Bytes between zones",
    Item.EGRESS: "Bytes out of the region",
    Item.STORE_TRANSFER: "Bytes from a store of another region",
}


@exact
def focus_rows(bill: Bill, account: Account, owners: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """``owners``: owner and cost centre by topic; the owner is the sub account."""
    return [_row(each, bill.book, account, owners) for each in allocated(bill)]


def _row(
    each: Allocated, book: Book, account: Account, owners: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    use, service = each.charge.use, _SERVICES[each.charge.use.item]
    owner, cost_center = owners.get(use.topic, ("", ""))
    row = {
        **_costs(each.charge, each.origin),
        **_periods(use),
        **_price_list(use, book),
        "BillingAccountId": account.billing_id,
        "BillingAccountName": account.name,
        "BillingAccountType": "Cluster",
        "BillingCurrency": book.currency,
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": _description(use),
        "ChargeFrequency": "Usage-Based",
        "InvoiceIssuerName": PROVIDERS[book.provider],
        "PricingCategory": "Standard",
        "PricingCurrency": book.currency,
        "ProviderName": PROVIDERS[book.provider],
        "PublisherName": PROVIDERS[book.provider],
        "RegionId": book.region,
        "RegionName": book.region,
        "ResourceId": f"topic/{use.topic}" if use.topic else None,
        "ResourceName": use.topic or None,
        "ResourceType": "Topic" if use.topic else None,
        "ServiceCategory": service.category,
        "ServiceName": service.name,
        "ServiceSubcategory": service.subcategory,
        "SubAccountId": owner or None,
        "SubAccountName": owner or None,
        "SubAccountType": "Owner" if owner else None,
        "Tags": _tags(owner, cost_center),
        **dict.fromkeys(NULLS),
        **allocation_columns(each.part, _tags(*owners.get(each.part.topic, ("", ""))) if each.part else None),
    }
    return {name: row[name] for name in sorted(row)} | _own_columns(use, cost_center)


def _costs(charge: Charge, origin: Charge) -> dict[str, Any]:
    """Prices are those of the origin, which is not cut."""
    quantity, unit = charge.quantity.quantize(_GRAIN), _UNITS[UNIT_OF[charge.use.item]]
    listed = (origin.list_cost / origin.quantity).quantize(_GRAIN)
    contracted = (origin.cost / origin.quantity).quantize(_GRAIN)
    return {
        "BilledCost": charge.cost,
        "ContractedCost": charge.cost,
        "ContractedUnitPrice": contracted,
        "EffectiveCost": charge.cost,
        "ListCost": charge.list_cost,
        "ListUnitPrice": listed,
        "PricingCurrencyContractedUnitPrice": contracted,
        "PricingCurrencyEffectiveCost": charge.cost,
        "PricingCurrencyListUnitPrice": listed,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
    }


def _periods(use: Use) -> dict[str, str]:
    day = _day(use)
    month = day.replace(day=1)
    next_month = (month + timedelta(days=32)).replace(day=1)
    return {
        "BillingPeriodStart": _midnight(month),
        "BillingPeriodEnd": _midnight(next_month),
        "ChargePeriodStart": _midnight(day),
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
    }


def _day(use: Use) -> date:
    return _EPOCH + timedelta(days=use.day)


def _midnight(day: date) -> str:
    return day.isoformat() + "T00:00:00Z"


def _price_list(use: Use, book: Book) -> dict[str, str | None]:
    """A SKU is what is sold, a SKU price is what this book asks for it."""
    parts = [book.provider, book.region, str(use.item), use.storage_class]
    if use.item is Item.REQUESTS:
        parts.append(use.what)
    sku = "/".join(part for part in parts if part)
    return {
        "SkuId": sku,
        "SkuMeter": _METERS[use.item],
        "SkuPriceId": f"{sku}@{book.as_of.isoformat()}",
        "SkuPriceDetails": dumps({"x_PriceBook": book.name}),
    }


def _description(use: Use) -> str:
    details = ", ".join(part for part in (use.what, use.storage_class, use.cause) if part)
    return f"{_METERS[use.item]} ({details})" if details else _METERS[use.item]


def _tags(owner: str, cost_center: str) -> str | None:
    tags = {name: value for name, value in (("owner", owner), ("cost_center", cost_center)) if value}
    return dumps(tags) if tags else None


def _own_columns(use: Use, cost_center: str) -> dict[str, Any]:
    texts = {
        "x_Cause": use.cause,
        "x_ClientId": use.client_id,
        "x_CostCenter": cost_center,
        "x_Host": use.host,
        "x_Item": str(use.item),
        "x_Operation": use.what,
        "x_Principal": use.principal,
        "x_StorageClass": use.storage_class,
        "x_Topic": use.topic,
    }
    partition = None if use.partition == ALL else use.partition
    return {name: text or None for name, text in texts.items()} | {"x_Partition": partition}
