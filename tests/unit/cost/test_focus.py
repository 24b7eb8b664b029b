"""The bill as FOCUS rows: our own reading of the specification's rules, and its validator where there is one.

The validator needs a Python of its own (3.12): ``tools/install_test_deps.sh`` makes it one. Its exit code says nothing, so
its output is counted. In its rules for 1.2 one of InvoiceId-C-004 (null) and InvoiceId-C-005 (not null) fails on any row:
neither has its condition; the rule above them, which asks for one of the two, passes.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.unit.cost.rows import small_cluster, write_json_lines
from tiering.cost.bill import make_bill
from tiering.cost.focus import Account, focus_rows
from tiering.cost.shipped import names, shipped
from tierlog.cli.app import app

MANDATORY = {
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
}
NEVER_NULL = MANDATORY - {"ChargeClass"}
NUMBERS = {"BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingQuantity", "ConsumedQuantity",
           "ListUnitPrice", "ContractedUnitPrice"}  # fmt: skip
APPLIES = (
    "ACCOUNT_NAMING MULTIPLE_PRICING_CATEGORIES MULTIPLE_SUB_ACCOUNT_TYPES MULTIPLE_BILLING_ACCOUNT_TYPES "
    "NEGOTIATED_PRICING PUBLIC_PRICE_LIST USAGE_MEASUREMENT UNIT_PRICING SUB_ACCOUNT BILLING_BASED_ON_PROVISIONED_RESOURCES "
    "RESOURCE_TYPE_ASSIGNMENT PRICING_BILLING_CURRENCY_DIFFERENCES REGION TAGGING"
)
OWNERS = {"flights": ("ops", "7")}
VALIDATOR = Path(__file__).parents[3] / ".cache/focus/bin/focus-validator"
CONTRADICTED = "InvoiceId-C-005-C"


@pytest.fixture(scope="module", params=["aws-eu-central-1", "gcs-us-central1", "own-hardware"])
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return focus_rows(make_bill(small_cluster(50), shipped(request.param)), Account("acme", "ACME"), OWNERS)


def test_columns(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row.keys() >= MANDATORY
        assert [name for name in NEVER_NULL if row[name] is None] == []
        assert "" not in row.values()
        ours = [name for name in row if name.startswith("x_")]
        assert list(row)[-len(ours) :] == ours
        assert all(re.fullmatch(r"(x_)?([A-Z][a-z]+)+", name) for name in row)
    assert len({tuple(row) for row in rows}) == 1


def test_values(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert {row["ChargeCategory"], row["ChargeFrequency"], row["PricingCategory"]} == {
            "Usage",
            "Usage-Based",
            "Standard",
        }
        assert (row["ServiceCategory"], row["ServiceSubcategory"]) in {
            ("Storage", "Block Storage"),
            ("Storage", "Object Storage"),
            ("Networking", "Network Connectivity"),
        }
        assert row["PricingUnit"] in ("GiB-Months", "GiB", "Requests")
        assert all(isinstance(row[name], Decimal) and row[name] >= 0 for name in NUMBERS)
        times = [
            row[name]
            for name in ("BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodEnd")
        ]
        assert times == sorted(times)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", time) for time in times)
        assert (row["ResourceId"] is None) == (row["ResourceName"] is None) == (row["ResourceType"] is None)
        assert (row["SubAccountId"] is None) == (row["SubAccountType"] is None) == (row["Tags"] is None)
        assert row["Tags"] is None or json.loads(row["Tags"]) == {"owner": "ops", "cost_center": "7"}


def test_unit_prices_times_quantities_are_costs(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
            assert abs(row[price] * row["PricingQuantity"] - row[cost]) <= Decimal("1e-9") * max(row[cost], 1)


def test_it_is_the_whole_bill(rows: list[dict[str, Any]]) -> None:
    book = next(name for name in names() if rows[0]["SkuPriceDetails"] == json.dumps({"x_PriceBook": name}))
    assert sum(row["BilledCost"] for row in rows) == make_bill(small_cluster(50), shipped(book)).total
    assert len({row["SkuId"] for row in rows}) == len({row["SkuPriceId"] for row in rows})


def export(tmp_path: Path, format: str, *more: str) -> Path:
    rows = write_json_lines(small_cluster(50), tmp_path / "rows.jsonl")
    (tmp_path / "owners.toml").write_text('[[owner]]\npattern = "flights"\nowner = "ops"\n')
    out = tmp_path / f"focus.{format}"
    command = [
        "cost",
        "export",
        "--rows",
        str(rows),
        "--since",
        "2025-01-01",
        "--owners",
        str(tmp_path / "owners.toml"),
    ]
    result = CliRunner().invoke(
        app, [*command, "-o", format, "--out", str(out), *more], env={"TIERLOG_BOOTSTRAP_SERVER": None}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return out


def test_files(tmp_path: Path) -> None:
    table = pq.read_table(export(tmp_path, "parquet"))
    lines = list(csv.DictReader(export(tmp_path, "csv").read_text().splitlines()))
    assert list(table.column_names) == list(lines[0])
    assert sum(table["BilledCost"].to_pylist()) == sum(Decimal(line["BilledCost"]) for line in lines)
    assert {line["SubAccountName"] for line in lines} == {"ops", ""}
    with pytest.raises(Exception, match=r"--focus 9\.9: this tierlog writes FOCUS 1\.2"):
        export(tmp_path, "csv", "--focus", "9.9")


@pytest.mark.skipif(not VALIDATOR.exists(), reason="no Python 3.12 for the FOCUS validator")
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_validator_finds_nothing(tmp_path: Path, format: str) -> None:
    # It looks for its own tables in the directory that it is started in.
    (home,) = VALIDATOR.parents[1].glob("lib/python3*/site-packages")
    criteria = ",".join(f"{each}_SUPPORTED" for each in APPLIES.split())
    done = subprocess.run(
        [VALIDATOR, "--data-file", export(tmp_path, format), "--validate-version", "1.2", "--block-download",
         "--applicability-criteria", criteria],
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.search(r"Pass: [1-9]\d\d", done.stdout), done.stderr[-2000:]
    assert set(re.findall(r"❌ (\S+): FAIL", done.stdout)) == {CONTRADICTED}
    assert "✅ InvoiceId-C-003-C: PASS" in done.stdout
