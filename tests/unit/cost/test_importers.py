"""Price books from small lists in the providers' own forms."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tiering.cost.prices import Book, parse_book
from tierlog.cli.app import app

S3 = {
    "EUC1-TimedStorage-ByteHrs": [
        ("0", "51200", "0.0245"),
        ("512000", "Inf", "0.0225"),
        ("51200", "512000", "0.0235"),
    ],
    "EUC1-TimedStorage-SIA-ByteHrs": [("0", "Inf", "0.0135")],
    "EUC1-TimedStorage-GIR-ByteHrs": [("0", "Inf", "0.005")],
    "EUC1-TimedStorage-GDA-ByteHrs": [("0", "Inf", "0.0018")],
    "EUC1-Requests-Tier1": [("0", "Inf", "0.0000054000")],
    "EUC1-Requests-Tier2": [("0", "Inf", "0.0000004300")],
    "EUC1-Requests-SIA-Tier1": [("0", "Inf", "0.00001")],
    "EUC1-Requests-SIA-Tier2": [("0", "Inf", "0.000001")],
    "EUC1-Requests-GIR-Tier1": [("0", "Inf", "0.00002")],
    "EUC1-Retrieval-SIA": [("0", "Inf", "0.01")],
    "EUC1-Retrieval-GIR": [("0", "Inf", "0.03")],
}
REST = {
    "EUC1-EBS:VolumeUsage.gp3": [("0", "Inf", "0.0952")],
    "EUC1-EBS:VolumeUsage.gp2": [("0", "Inf", "0.119")],
    "EUC1-DataTransfer-Regional-Bytes": [("0", "Inf", "0.01")],
    "EUC1-DataTransfer-Out-Bytes": [("0", "10240", "0.09"), ("10240", "Inf", "0.085")],
}
Ranges = list[tuple[str, str, str]]


def aws(prices: dict[str, Ranges], published: str, region: str = "eu-central-1") -> dict[str, Any]:
    products, terms = {}, {}
    for sku, (usage, ranges) in enumerate(prices.items()):
        products[f"SKU{sku}"] = {"sku": f"SKU{sku}", "attributes": {"usagetype": usage, "regionCode": region}}
        dimensions = {
            str(number): {
                "beginRange": begin,
                "endRange": end,
                "unit": "GB-Mo",
                "pricePerUnit": {"USD": price},
            }
            for number, (begin, end, price) in enumerate(ranges)
        }
        terms[f"SKU{sku}"] = {f"SKU{sku}.JRTC": {"priceDimensions": dimensions}}
    return {
        "formatVersion": "v1.0",
        "offerCode": "AmazonS3",
        "version": "20261101",
        "publicationDate": published,
        "products": products | {"BARE": {"sku": "BARE"}},
        "terms": {"OnDemand": terms},
    }


def gcp(*skus: tuple[str, list[tuple[float, int]]], region: str = "europe-west3") -> dict[str, Any]:
    return {
        "skus": [
            {
                "description": description,
                "category": {"usageType": "OnDemand"},
                "serviceRegions": ["global" if "Operations" in description else region],
                "pricingInfo": [
                    {"effectiveTime": "2020-01-01T00:00:00Z", "pricingExpression": {"tieredRates": []}},
                    {
                        "effectiveTime": "2026-10-30T07:00:00.123Z",
                        "pricingExpression": {
                            "usageUnit": "GiBy.mo",
                            "tieredRates": [
                                {
                                    "startUsageAmount": start,
                                    "unitPrice": {"currencyCode": "EUR", "units": "0", "nanos": nanos},
                                }
                                for start, nanos in rates
                            ],
                        },
                    },
                ],
            }
            for description, rates in skus
        ]
    }


CATALOGUE = gcp(
    ("Standard Storage Frankfurt", [(0, 0), (5, 23_000_000)]),
    ("Standard Storage Germany Dual-region", [(0, 46_000_000)]),
    ("Nearline Storage Frankfurt", [(0, 13_000_000)]),
    ("Nearline Storage Frankfurt (Early Delete)", [(0, 99_000_000)]),
    ("Regional Standard Class A Operations", [(0, 0), (5000, 5_000)]),
    ("Regional Standard Class B Operations", [(0, 0), (50000, 400)]),
    ("Multi-Region Standard Class A Operations", [(0, 10_000)]),
    ("Regional Nearline Class A Operations", [(0, 10_000)]),
    ("Regional Nearline Class B Operations", [(0, 1_000)]),
    ("Nearline Data Retrieval", [(0, 10_000_000)]),
    ("Balanced PD Capacity in Frankfurt", [(0, 120_000_000)]),
    ("Network Inter Zone Data Transfer Out", [(0, 10_000_000)]),
)  # fmt: skip


class Imported:
    def __init__(self, tmp_path: Path, provider: str, *lists: Any, more: tuple[str, ...] = ()) -> None:
        files = []
        for number, document in enumerate(lists):
            files.append(str(tmp_path / f"{number}.json"))
            Path(files[-1]).write_text(document if isinstance(document, str) else json.dumps(document))
        result = CliRunner().invoke(app, ["cost", "import-prices", provider, *files, *more])
        self.error, self.err, self.text = str(result.exception), result.stderr, result.stdout

    @property
    def book(self) -> Book:
        return parse_book(self.text, "imported")


def test_aws(tmp_path: Path) -> None:
    made = Imported(tmp_path, "aws", aws(S3, "2026-11-01T10:00:00Z"), aws(REST, "2026-10-15T00:00:00Z"))
    book = made.book
    assert (book.region, book.as_of, made.err) == ("eu-central-1", date(2026, 10, 15), "")
    standard, infrequent, cold = (book.classes[name] for name in ("standard", "infrequent", "cold"))
    assert [step.per_gb for step in standard.storage.steps] == [
        Decimal("0.0245"),
        Decimal("0.0235"),
        Decimal("0.0225"),
    ]
    assert [step.up_to_gb for step in standard.storage.steps] == [51200, 512000, None]
    assert (standard.request("part"), standard.request("get")) == (
        Decimal("0.0000054"),
        Decimal("0.00000043"),
    )
    assert infrequent.request("list") == Decimal("0.0000054")
    assert (infrequent.min_days, infrequent.min_object_bytes, cold.min_days) == (30, 131072, 90)
    assert (infrequent.retrieval_per_gb, cold.retrieval_per_gb) == (Decimal("0.01"), Decimal("0.03"))
    assert book.disk_per_gb_month == Decimal("0.0952")
    assert (book.network.zone_out_per_gb, book.network.zone_in_per_gb) == (Decimal("0.01"), Decimal("0.01"))
    assert book.network.egress.first == Decimal("0.09")


def test_what_a_list_lacks_is_told(tmp_path: Path) -> None:
    made = Imported(tmp_path, "aws", aws(S3, "2026-11-01"))
    assert made.book.disk_per_gb_month == 0
    assert made.err.count("the lists have no price of") == 3


def test_gcp(tmp_path: Path) -> None:
    book = Imported(tmp_path, "gcp", CATALOGUE).book
    assert (book.region, book.as_of, book.currency) == ("europe-west3", date(2026, 10, 30), "EUR")
    assert book.classes.keys() == {"standard", "infrequent"}
    standard, infrequent = book.classes.values()
    assert (standard.storage.first, infrequent.storage.first) == (Decimal("0.023"), Decimal("0.013"))
    assert (standard.request("put"), standard.request("head")) == (Decimal("0.000005"), Decimal("0.0000004"))
    assert infrequent.request("list") == Decimal("0.00001")
    assert (infrequent.retrieval_per_gb, infrequent.min_days) == (Decimal("0.01"), 30)
    assert (book.disk_per_gb_month, book.network.zone_out_per_gb) == (Decimal("0.12"), Decimal("0.01"))


def test_regions(tmp_path: Path) -> None:
    both = (aws(S3, "2026-11-01"), aws(S3, "2026-11-01", "eu-west-1"))
    assert "the lists tell of 2 regions: name one with --region" in Imported(tmp_path, "aws", *both).error
    assert Imported(tmp_path, "aws", *both, more=("--region", "eu-west-1")).book.region == "eu-west-1"
    elsewhere = Imported(tmp_path, "aws", both[0], more=("--region", "mars-1"))
    assert "the list has no prices of the standard class in mars-1" in elsewhere.error


@pytest.mark.parametrize(
    ("provider", "document", "line"),
    [
        ("aws", "{", "it is no JSON"),
        ("aws", [], "this is no price list of AWS"),
        ("aws", {"products": {}}, "this is no price list of AWS"),
        ("aws", aws(S3, ""), "publicationDate is missing"),
        ("aws", aws({"TimedStorage-ByteHrs": [("0", "x", "1")]}, "2026-11-01"), "the price of TimedStorage-ByteHrs is not"),
        ("gcp", {"services": []}, "this is no catalogue of Google's"),
        ("gcp", {"skus": []}, "the lists tell of 0 regions"),
        ("gcp", gcp(("Standard Storage Frankfurt", [])), "Standard Storage Frankfurt is not as Google writes it"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path: Path, provider: str, document: Any, line: str) -> None:
    error = Imported(tmp_path, provider, document).error
    assert line in error
    assert "\n" not in error


def test_the_shelf() -> None:
    rows = json.loads(CliRunner().invoke(app, ["cost", "books", "-o", "json"]).stdout)
    assert "aws-us-east-1" in [row["name"] for row in rows]
    assert "AS OF" in CliRunner().invoke(app, ["cost", "books"]).stdout
