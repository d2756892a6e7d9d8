"""Parse decimal text to integers: the fast and the strict parser agree, and no number is ever rounded."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.numbers.decimal_text import (
    DEFAULT_SCALE,
    MOST_DECIMALS,
    MOST_WHOLE_DIGITS,
    common_scale,
    exact,
    scale_levels,
    scale_trade,
    scan_decimal,
)

pytestmark = pytest.mark.kernel

PRINTED = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,12})?", fullmatch=True)
ANY_TEXT = st.one_of(
    PRINTED,
    st.from_regex(r"[-+]?[0-9]{0,22}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.text(alphabet="0123456789.-+eE_ ٣NaInf", max_size=24),
)


def scan(text: str, scale: int) -> int | None:
    """The fast way over `text` between quotes; None where it leaves the text to the strict way."""
    raw = f'"{text}"'.encode()
    value, behind = scan_decimal(np.frombuffer(raw, dtype=np.uint8), 1, scale)
    return int(value) if behind == len(raw) - 1 else None


def true_value(number: object, scale: int = 0) -> Decimal:
    with localcontext() as context:
        context.prec = 400
        return Decimal(str(number)) * 10**scale


def strict(number: object) -> Decimal:
    """What the strict way reads, as Decimal."""
    value, decimals = exact(number, "price")
    assert decimals >= 0 and (decimals == 0 or value % 10)
    with localcontext() as context:
        context.prec = 400
        return Decimal(value).scaleb(-decimals)


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("9007199254740993", 0, 2**53 + 1),
        ("90071992.54740993", 8, 2**53 + 1),
        ("999999999999999999", 0, 10**18 - 1),
        ("9999999999.99999999", 8, 10**18 - 1),
        ("61737.63000000", 8, 6_173_763_000_000),
        ("0.00000001", 8, 1),
        ("0", 8, 0),
        ("0.00000000", 8, 0),
        ("1", 8, 10**8),
        ("1.5", 8, 150_000_000),
        ("007.50", 2, 750),
    ],
)
def test_plain_decimal_is_exact_both_ways(text: str, scale: int, value: int) -> None:
    assert scan(text, scale) == value == strict(text) * 10**scale


@pytest.mark.parametrize("text", ["1000000000000000000", "9223372036854775807"])
def test_19_digits_are_left_to_the_strict_way_which_is_exact(text: str) -> None:
    assert (scan(text, 0), strict(text)) == (None, int(text))


@pytest.mark.parametrize("digits", [21, 40, 400, 4_301])
def test_more_digits_than_a_decimal_column_holds_are_refused_by_both(digits: int) -> None:
    """Python refuses to convert more than 4300 digits: that message would name neither field nor bound."""
    for text in ("9" * digits, "0." + "0" * (digits - 20) + "9" * 19):
        assert scan(text, 0) is None
        with pytest.raises(ValueError, match="more than 20 digits before the point or more than 18 behind"):
            exact(text, "price")


def test_as_many_digits_as_a_decimal_column_holds_are_exact() -> None:
    text = "9" * MOST_WHOLE_DIGITS + "." + "9" * MOST_DECIMALS
    assert exact(text, "price") == (10**38 - 1, MOST_DECIMALS)


@pytest.mark.parametrize(
    ("text", "scale"), [("1.2300", 2), ("1.230000000000000000000000000000", 2), ("5.0", 0)]
)
def test_zeros_beyond_the_scale_are_accepted(text: str, scale: int) -> None:
    assert scan(text, scale) == strict(text) * 10**scale == true_value(text, scale)


@pytest.mark.parametrize(
    ("text", "scale"), [("1.234", 2), ("0.001", 2), ("1.5", 0), ("0." + "0" * 19 + "1", 8)]
)
def test_digit_beyond_the_scale_is_left_to_the_strict_way_never_rounded(text: str, scale: int) -> None:
    assert scan(text, scale) is None


@pytest.mark.parametrize("text", ["-1", "-0.00000001", "-1e-8"])
def test_negative_number_is_refused(text: str) -> None:
    assert scan(text, 8) is None
    with pytest.raises(ValueError, match=f"size {text} is negative"):
        exact(text, "size")


def test_negative_zero_is_zero() -> None:
    assert [exact(text, "size") for text in ("-0", "-0.00", Decimal("-0"))] == [(0, 0)] * 3


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "+1", "--1", ".5", "5.", ".", "-", "1.2.3", "1,5", "1_000", "1_0.5", " 1", "1 ", "\t1",
        "1\n", "NaN", "nan", "sNaN", "-NaN", "Infinity", "-Infinity", "inf", "1e", "e5", "1e5.0", "1e99999",
        "0x10", "\N{ARABIC-INDIC DIGIT THREE}", "\N{FULLWIDTH DIGIT ONE}", "1\N{ARABIC-INDIC DIGIT THREE}",
    ],
)  # fmt: skip
def test_text_that_is_no_plain_number_is_refused(text: str) -> None:
    assert scan(text, 8) is None
    with pytest.raises(ValueError, match="is not a plain finite number"):
        exact(text, "price")


@pytest.mark.parametrize("number", [True, False, None, 1.5, [], {}, ["1"], b"1", float("nan")])
def test_value_that_is_no_number_is_refused(number: object) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        exact(number, "price")


@pytest.mark.parametrize(
    "number", [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("sNaN")]
)
def test_decimal_that_is_not_finite_is_refused(number: Decimal) -> None:
    with pytest.raises(ValueError, match="is not a plain finite number"):
        exact(number, "price")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (5, (5, 0)),
        (0, (0, 0)),
        (Decimal("1.50"), (15, 1)),
        (Decimal("1E+2"), (100, 0)),
        (Decimal("1E-8"), (1, 8)),
        ("1e2", (100, 0)),
        ("1.5E1", (15, 0)),
        ("2e-8", (2, 8)),
        ("0e9999", (0, 0)),
        ("100.0100", (10001, 2)),
    ],
)
def test_number_is_read_with_as_few_decimals_as_possible(number: object, value: tuple[int, int]) -> None:
    assert exact(number, "price") == value


@pytest.mark.parametrize("text", ["1e2", "1.5E1", "2e-8", "0e9999"])
def test_exponent_is_left_to_the_strict_way(text: str) -> None:
    assert scan(text, 8) is None


@pytest.mark.parametrize("text", ["1e9999", "1e20", "1e-9999", "1e-19"])
def test_wild_magnitude_is_refused_without_work(text: str) -> None:
    assert scan(text, 8) is None
    with pytest.raises(ValueError, match="price"):
        exact(text, "price")


def test_a_long_text_is_cut_in_the_message() -> None:
    for text in ("x" * 10_000, "-" + "1" * 4_000, "1" * 4_000):
        with pytest.raises(ValueError, match="price") as refused:
            exact(text, "price")
        assert len(str(refused.value)) < 300


def test_fast_way_reads_from_its_position_and_says_where_it_stopped() -> None:
    raw = np.frombuffer(b'[["12.5","0.1"]]', dtype=np.uint8)
    assert tuple(map(int, scan_decimal(raw, 3, 1))) == (125, 7)
    assert tuple(map(int, scan_decimal(raw, 10, 1))) == (1, 13)


@pytest.mark.parametrize(
    ("texts", "scale"),
    [
        ([], DEFAULT_SCALE),
        (["0", "1.5"], DEFAULT_SCALE),
        (["92233720368.54775807"], DEFAULT_SCALE),
        (["92233720369"], 7),
        (["9223372036854775807"], 0),
        (["92233720369", "0.5"], 7),
        (["0.0000000001", "1"], 10),
        (["0.000000000000000001", "9"], MOST_DECIMALS),
        (["0.000000000000000001", "10"], None),
        (["92233720368.54775808"], None),
        (["9223372036854775808"], None),
    ],
)
def test_common_scale_is_8_unless_a_number_needs_another(texts: list[str], scale: int | None) -> None:
    assert common_scale([exact(text, "price") for text in texts]) == scale


def test_levels_have_one_scale_for_prices_and_one_for_sizes() -> None:
    columns = scale_levels([["1.5", "100000000000"], ["1", "2"]], [[Decimal("2.0000000001"), 0, "more"]])
    assert columns == {
        "price_scale": 10,
        "bid_prices": [15_000_000_000, 10_000_000_000],
        "ask_prices": [20_000_000_001],
        "size_scale": 7,
        "bid_sizes": [10**18, 20_000_000],
        "ask_sizes": [0],
        "wide": b"",
    }


@pytest.mark.parametrize("place", [0, 1])
def test_levels_that_no_int64_holds_are_kept_as_printed(place: int) -> None:
    level = ["1", "1"]
    level[place] = "92233720368.54775808"
    columns = scale_levels([level], [["2", "1"]])
    assert json.loads(columns.pop("wide")) == {"bids": [level], "asks": [["2", "1"]]}
    assert [columns[name] for name in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")] == [[]] * 4


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ([["0", "1"]], "price 0"),
        ([["0.00", "1"]], "price 0"),
        ([["1", "-1"]], "size -1 is negative"),
        ([["1"]], "expected a level"),
        (["12"], "expected a level"),
        ([None], "expected a level"),
        ([[["1"], "1"]], "is not a number"),
        ([["1", None]], "is not a number"),
    ],
)
def test_level_that_is_none_is_refused(levels: list[list[str]], reason: str) -> None:
    for sides in ((levels, []), ([], levels)):
        with pytest.raises(ValueError, match=reason):
            scale_levels(*sides)


def test_trade_has_scales_of_its_own() -> None:
    found = scale_trade("0.0000000001", "100000000000")
    assert found == {"price": 1, "price_scale": 10, "size": 10**18, "size_scale": 7, "wide": b""}


def test_trade_that_no_int64_holds_is_kept_as_printed() -> None:
    found = scale_trade("1.5", "92233720368.54775808")
    assert json.loads(found["wide"]) == {"price": "1.5", "size": "92233720368.54775808"}
    assert (found["price"], found["size"], found["price_scale"]) == (0, 0, 8)


@pytest.mark.parametrize("good", ["1.5", "12.123456789012345678"])
@pytest.mark.parametrize("bad", ["abc", "-5", "NaN", "", None])
def test_trade_with_one_unreadable_number_is_refused_whatever_the_other_is(good: str, bad: str) -> None:
    for numbers in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=r"price|size"):
            scale_trade(*numbers)


@cases(400)
@given(text=PRINTED, scale=st.integers(0, 10))
@example(text="0." + "0" * 12, scale=0)
def test_plain_numbers_are_exact_or_left_alone(text: str, scale: int) -> None:
    """Both ways give Decimal's value; the fast one leaves only what int64 may not hold at the scale."""
    expected = true_value(text, scale)
    fast = scan(text, scale)
    assert strict(text) == true_value(text)
    assert fast is None or fast == expected
    if expected == expected.to_integral_value() and expected <= INT64_MAX:
        assert fast is not None or len(text.split(".")[0]) + scale > 18


@cases(400)
@given(text=ANY_TEXT, scale=st.integers(0, 10))
def test_what_the_fast_way_accepts_the_strict_way_accepts_alike(text: str, scale: int) -> None:
    fast = scan(text, scale)
    assume(fast is not None and len(text.partition(".")[2].rstrip("0")) <= MOST_DECIMALS)
    assert fast == strict(text) * 10**scale == true_value(text, scale)


@cases(400)
@given(text=ANY_TEXT)
def test_strict_way_gives_the_exact_number_or_a_value_error(text: str) -> None:
    try:
        value = strict(text)
    except ValueError:
        return
    assert value == true_value(text) >= 0


@cases(200)
@given(numbers=st.lists(st.tuples(PRINTED, PRINTED), max_size=6), bids=st.integers(0, 6))
def test_levels_are_exact_at_their_scale_or_kept_as_printed(
    numbers: list[tuple[str, str]], bids: int
) -> None:
    assume(all(true_value(price) for price, _ in numbers))
    columns = scale_levels(numbers[:bids], numbers[bids:])
    if columns["wide"]:
        return
    for place, what in ((0, "price"), (1, "size")):
        found = columns[f"bid_{what}s"] + columns[f"ask_{what}s"]
        assert found == [true_value(level[place], columns[f"{what}_scale"]) for level in numbers]
        assert all(0 <= value <= INT64_MAX for value in found)
