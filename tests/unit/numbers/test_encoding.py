"""Encode decimals as integers and rescale records: the results equal those of plain Python, and are exact."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.errors import InputError
from deltabook.udfs.numbers.encoding import Codes, to_decimal, to_integer
from deltabook.udfs.numbers.scales import count_digits_needed, fits, rescale, to_decimals
from deltabook.udfs.sources.common.records import EMPTY_RECORD, Records

NUMBERS = st.integers(0, 10**38 - 1).map(to_decimal)
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
SCALES = st.integers(0, 18)
ROUND = st.integers(0, 40).map(lambda n: 10**9 * n)
VALUES = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 10**9), ROUND)


@st.composite
def records(draw) -> list[dict]:
    """Book updates and trades of scales of their own."""
    found = []
    for row in range(draw(st.integers(1, 6))):
        scales = {"price_scale": draw(SCALES), "size_scale": draw(SCALES)}
        if draw(st.booleans()):
            numbers = {"record": "trade", "price": draw(VALUES), "size": draw(VALUES)}
        else:
            numbers = {"record": "book_update"}
            for side in ("bid", "ask"):
                levels = draw(st.lists(st.tuples(VALUES, VALUES), max_size=3))
                numbers |= {f"{side}_prices": [p for p, _ in levels], f"{side}_sizes": [s for _, s in levels]}
        found.append(EMPTY_RECORD | scales | numbers | {"source_row": row})
    return found


def table_of(rows: list[dict]) -> pa.Table:
    held = Records("file")
    for row in rows:
        held.add(row)
    return pa.Table.from_batches([held.take_batch()])


def true_numbers(row: dict) -> dict[str, list[Decimal]]:
    """All prices and sizes of a record, as decimals."""
    names = SIDES if row["record"] == "book_update" else ("price", "size")
    with localcontext() as context:
        context.prec = 60
        return {
            name: [
                Decimal(value).scaleb(-row["price_scale" if "price" in name else "size_scale"])
                for value in (row[name] if name in SIDES else [row[name]])
            ]
            for name in names
        }


@given(st.lists(NUMBERS, min_size=1), st.lists(NUMBERS, min_size=1))
@cases(150)
def test_codes_order_prices_keep_sizes_apart_and_lead_back(prices, sizes):
    rows = pa.table(
        {
            "price": pa.array([*prices, Decimal(-1)], DECIMAL),
            "bid_sizes": pa.array([sizes, *[[]] * len(prices)], pa.list_(DECIMAL)),
        }
    )
    codes = Codes.of([rows])
    coded = codes.encode(rows)
    ranks = coded["price"].to_pylist()
    assert ranks == [sorted(set(prices)).index(price) for price in prices] + [-1]
    (sizes_coded,) = (found for found in coded["bid_sizes"].to_pylist() if found)
    assert [code == 0 for code in sizes_coded] == [size == 0 for size in sizes]
    assert codes.decode(coded).to_pydict() == rows.to_pydict()
    amounts = codes.amounts(coded["bid_sizes"].combine_chunks().flatten().to_numpy())
    assert amounts.tolist() == list(map(to_integer, sizes))


def test_a_number_that_was_not_collected_has_no_code():
    rows = [pa.table({"price": pa.array([Decimal(n)], DECIMAL)}) for n in (1, 2)]
    with pytest.raises(KeyError, match="price_scale"):
        Codes.of(rows[:1]).encode(rows[1])


def test_volumes_beyond_the_column_are_an_error_that_names_the_instrument():
    codes = Codes.of([])
    assert codes.volume([10**38 - 1], "X Y").to_pylist() == [to_decimal(10**38 - 1)]
    with pytest.raises(InputError, match="X Y: volumes add up to more"):
        codes.volume([10**38], "X Y")


@given(records())
@cases(150)
def test_any_int64_becomes_a_decimal_exactly(rows):
    found = to_decimals(table_of(rows)).to_pylist()
    for row, decimal in zip(rows, found, strict=True):
        for name, numbers in true_numbers(row).items():
            assert (decimal[name] if name in SIDES else [decimal[name]]) == numbers
        assert row["record"] == "trade" or (decimal["price"], decimal["size"]) == (-1, -1)


def test_numbers_that_no_int64_holds_are_decimals_as_printed():
    levels = {"bids": [["0.000000000000000001", "99999999999999999999", "more"]], "asks": [[2, "1E+19"]]}
    trade = {"price": "12345678901234567890.123456789012345678", "size": 3}
    rows = [
        EMPTY_RECORD | {"record": "book_update", "wide": json.dumps(levels).encode()},
        EMPTY_RECORD | {"record": "book_update", "bid_prices": [5], "bid_sizes": [10**8]},
        EMPTY_RECORD | {"record": "trade", "wide": json.dumps(trade).encode()},
    ]
    wide, usual, traded = to_decimals(table_of(rows)).to_pylist()
    assert [wide[side] for side in SIDES] == [[Decimal("1e-18")], [10**20 - 1], [2], [10**19]]
    assert (usual["bid_prices"], usual["bid_sizes"]) == ([Decimal("5e-8")], [1])
    assert (traded["price"], traded["size"]) == (Decimal(trade["price"]), 3)


@given(records(), st.integers(0, 17), st.integers(0, 17))
@cases(150)
def test_records_are_rescaled_exactly_or_told_apart(rows, price_scale, size_scale):
    scales = {"price": price_scale, "size": size_scale}
    table = table_of(rows)
    kept = iter(rescale(table, price_scale, size_scale).to_pylist())
    for row, fit in zip(rows, fits(table, price_scale, size_scale).tolist(), strict=True):
        with localcontext() as context:
            context.prec = 60
            wanted = {
                name: [number.scaleb(scales["price" if "price" in name else "size"]) for number in numbers]
                for name, numbers in true_numbers(row).items()
            }
        flat = [number for numbers in wanted.values() for number in numbers]
        assert fit == all(number == int(number) <= 2**63 - 1 for number in flat)
        if not fit and row["record"] == "trade":
            continue
        found = next(kept)
        assert (found["price_scale"], found["size_scale"]) == (price_scale, size_scale)
        assert found["damaged"] == (not fit)
        for name, numbers in wanted.items():
            assert (found[name] if name in SIDES else [found[name]]) == (numbers if fit else [])
    assert next(kept, None) is None


@given(records())
@cases(150)
def test_digits_needed_are_those_that_are_printed(rows):
    for what in ("price", "size"):
        told = [(name, found) for row in rows for name, found in true_numbers(row).items()]
        numbers = [number for name, found in told if what in name for number in found]
        printed = [f"{number:f}".partition(".") for number in numbers]
        decimals = max((len(fraction.rstrip("0")) for _, _, fraction in printed), default=0)
        digits = max((len(whole) for whole, _, _ in printed), default=0)
        assert count_digits_needed(table_of(rows), f"{what}_scale") == (decimals, digits)
