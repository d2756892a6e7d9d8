"""Convert stored numbers, also in lists, slices and structs, to exact decimals or integers at any scale."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.exact_numbers import choose_form, convert_column
from deltabook.schemas.columns import scaled
from deltabook.schemas.tables import BOOKS, BOOKS_DECIMAL

PRICE = scaled("bid_price", "Price", "price_scale")
PRICES = scaled("bid_prices", "Prices", "price_scale", "ARRAY<BIGINT>")
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)


def instrument(price_scale: int, is_decimal: bool = False) -> dict[str, Any]:
    return {"price_scale": price_scale, "size_scale": price_scale, "is_decimal": is_decimal}


@cases(100)
@given(st.lists(INT64), st.integers(0, 17), st.booleans())
def test_integers_become_exact_decimals_at_any_scale(numbers: list[int], scale: int, is_mixed: bool) -> None:
    known = [instrument(scale), *([instrument(18, is_decimal=True)] if is_mixed else [])]
    stored = pa.chunked_array([pa.array(numbers, pa.int64())])
    shown = convert_column(stored, PRICE, instrument(scale), choose_form(known, True))
    assert shown.to_pylist() == [Decimal(number).scaleb(-scale) for number in numbers]
    integers = convert_column(stored, PRICE, instrument(scale), choose_form(known, False))
    assert [int(number) for number in integers.to_pylist()] == numbers


@cases(100)
@given(st.lists(st.lists(INT64, max_size=4), min_size=1), st.data())
def test_a_slice_of_lists_is_converted_alone(lists: list[list[int]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lists) - 1))
    stored = pa.chunked_array([pa.array(lists, pa.list_(pa.int64()))]).slice(start, 2)
    shown = convert_column(stored, PRICES, instrument(8), choose_form([instrument(8)], True))
    expected = [[Decimal(one).scaleb(-8) for one in numbers] for numbers in lists[start : start + 2]]
    assert shown.to_pylist() == expected


def test_decimals_stay_and_become_integers_at_18_digits() -> None:
    column = next(one for one in BOOKS.columns if one.name == "buy_volume")
    stored_type = BOOKS_DECIMAL.arrow.field("buy_volume").type
    numbers = [Decimal("1.000000000000000001"), Decimal("-12345678901234567890.5")]
    stored = pa.chunked_array([pa.array(numbers, stored_type)])
    known = [instrument(18, is_decimal=True)]
    assert convert_column(stored, column, known[0], choose_form(known, True)).to_pylist() == numbers
    integers = convert_column(stored, column, known[0], choose_form(known, False)).to_pylist()
    assert integers == [Decimal(10**18 + 1), Decimal(-123456789012345678905 * 10**17)]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([instrument(2)], pa.decimal128(19, 2)),
        ([instrument(2), instrument(2)], pa.decimal128(19, 2)),
        ([instrument(2), instrument(3)], pa.decimal128(38, 18)),
        ([instrument(2), instrument(18, is_decimal=True)], pa.decimal128(38, 18)),
        ([], pa.decimal128(38, 18)),
    ],
)
def test_the_narrowest_type_that_holds_all_instruments(known: list[Any], expected: pa.DataType) -> None:
    assert choose_form(known, True).type_of("price_scale") == expected
