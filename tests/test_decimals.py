"""Decimal text to scaled int64: the fast way, the strict way, and that they agree."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from events import examples
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from deltabook.udfs.decimals import INT64_MAX, scan_decimal, to_scaled

pytestmark = pytest.mark.kernel

PRINTED = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,12})?", fullmatch=True)
ANY_TEXT = st.one_of(
    PRINTED,
    st.from_regex(r"[-+]?[0-9]{0,22}(\.[0-9]{0,14})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.text(alphabet="0123456789.-+eE_ ٣NaInf", max_size=24),
)


def scan(text: str, scale: int) -> int | None:
    """The fast way over `text` between quotes; None where it leaves the text to the strict way."""
    raw = f'"{text}"'.encode()
    value, behind = scan_decimal(np.frombuffer(raw, dtype=np.uint8), 1, scale)
    return int(value) if behind == len(raw) - 1 else None


def exact(text: str, scale: int) -> Decimal:
    with localcontext() as context:
        context.prec = 400
        return Decimal(text) * 10**scale


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
    assert (scan(text, scale), to_scaled(text, scale, "price")) == (value, value)


@pytest.mark.parametrize("text", ["1000000000000000000", "9223372036854775807"])
def test_19_digits_are_left_to_the_strict_way_which_is_exact(text: str) -> None:
    assert (scan(text, 0), to_scaled(text, 0, "size")) == (None, int(text))


def test_the_greatest_int64_is_the_last_that_fits() -> None:
    assert to_scaled("92233720368.54775807", 8, "price") == INT64_MAX
    for text in ("92233720368.54775808", "99999999999.99999999", "100000000000"):
        assert scan(text, 8) is None
        with pytest.raises(ValueError, match="does not fit int64 exactly at scale 8"):
            to_scaled(text, 8, "price")


@pytest.mark.parametrize("digits", [20, 21, 40, 400])
def test_more_digits_than_int64_are_refused_by_both(digits: int) -> None:
    assert scan("9" * digits, 0) is None
    with pytest.raises(ValueError, match="does not fit int64"):
        to_scaled("9" * digits, 0, "price")


@pytest.mark.parametrize(
    ("text", "scale"), [("1.2300", 2), ("1.230000000000000000000000000000", 2), ("5.0", 0)]
)
def test_zeros_beyond_the_scale_are_accepted(text: str, scale: int) -> None:
    value = int(exact(text, scale))
    assert (scan(text, scale), to_scaled(text, scale, "price")) == (value, value)


@pytest.mark.parametrize(
    ("text", "scale"), [("1.234", 2), ("0.001", 2), ("0.00000000000000000001", 8), ("1.5", 0), ("1e-9", 8)]
)
def test_digit_beyond_the_scale_is_refused_never_rounded(text: str, scale: int) -> None:
    assert scan(text, scale) is None
    with pytest.raises(ValueError, match=f"at scale {scale}: set the instrument's size_scale"):
        to_scaled(text, scale, "size")


@pytest.mark.parametrize("text", ["-1", "-0.00000001", "-1e-8"])
def test_negative_number_is_refused(text: str) -> None:
    assert scan(text, 8) is None
    with pytest.raises(ValueError, match=f"size {text} is negative"):
        to_scaled(text, 8, "size")


def test_negative_zero_is_zero() -> None:
    assert [to_scaled(text, 8, "size") for text in ("-0", "-0.00", Decimal("-0"))] == [0, 0, 0]


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
        to_scaled(text, 8, "price")


@pytest.mark.parametrize("number", [True, False, None, 1.5, [], {}, b"1", float("nan")])
def test_value_that_is_no_number_is_refused(number: object) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        to_scaled(number, 8, "price")


@pytest.mark.parametrize(
    "number", [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("sNaN")]
)
def test_decimal_that_is_not_finite_is_refused(number: Decimal) -> None:
    with pytest.raises(ValueError, match="is not a plain finite number"):
        to_scaled(number, 8, "price")


@pytest.mark.parametrize(
    ("number", "value"),
    [(5, 5 * 10**8), (0, 0), (Decimal("1.50"), 150_000_000), (Decimal("1E+2"), 10**10), (Decimal("1E-8"), 1)],
)
def test_integer_and_decimal_are_taken_exactly(number: object, value: int) -> None:
    assert to_scaled(number, 8, "price") == value


@pytest.mark.parametrize(
    ("text", "value"), [("1e2", 10**10), ("1.5E1", 15 * 10**8), ("2e-8", 2), ("0e9999", 0)]
)
def test_exponent_is_left_to_the_strict_way_which_is_exact(text: str, value: int) -> None:
    assert (scan(text, 8), to_scaled(text, 8, "price")) == (None, value)


@pytest.mark.parametrize("text", ["1e9999", "1e11", "1e-9999"])
def test_wild_magnitude_is_refused_without_work(text: str) -> None:
    assert scan(text, 8) is None
    with pytest.raises(ValueError, match="price"):
        to_scaled(text, 8, "price")


def test_number_of_4301_digits_is_refused_by_name() -> None:
    """Python refuses to convert more than 4300 digits: that message would name neither field nor remedy."""
    with pytest.raises(ValueError, match="does not fit int64 exactly at scale 8"):
        to_scaled("1" * 4_301, 8, "price")


def test_a_long_text_is_cut_in_the_message() -> None:
    for text in ("x" * 10_000, "-" + "1" * 4_000, "1" * 4_000):
        with pytest.raises(ValueError, match="price") as refused:
            to_scaled(text, 8, "price")
        assert len(str(refused.value)) < 300


def test_fast_way_reads_from_its_position_and_says_where_it_stopped() -> None:
    raw = np.frombuffer(b'[["12.5","0.1"]]', dtype=np.uint8)
    assert tuple(map(int, scan_decimal(raw, 3, 1))) == (125, 7)
    assert tuple(map(int, scan_decimal(raw, 10, 1))) == (1, 13)


@settings(derandomize=True, deadline=None, max_examples=examples(1_000))
@given(text=PRINTED, scale=st.integers(0, 10))
@example(text="0." + "0" * 12, scale=0)
def test_plain_numbers_are_exact_or_refused(text: str, scale: int) -> None:
    """Both ways give Decimal's value; the strict one refuses only what int64 cannot hold."""
    assume(len(text.split(".")[0]) <= 18)  # wider: test_more_digits_than_int64_are_refused_by_both
    expected = exact(text, scale)
    fits = expected == expected.to_integral_value() and expected <= INT64_MAX
    fast = scan(text, scale)
    assert fast is None or fast == expected
    if fits:
        assert to_scaled(text, scale, "price") == expected
        assert fast is not None or len(text.split(".")[0]) + scale > 18
    else:
        assert fast is None
        with pytest.raises(ValueError, match="does not fit int64 exactly"):
            to_scaled(text, scale, "price")


@settings(derandomize=True, deadline=None, max_examples=examples(1_000))
@given(text=ANY_TEXT, scale=st.integers(0, 10))
def test_what_the_fast_way_accepts_the_strict_way_accepts_alike(text: str, scale: int) -> None:
    assume(len(text) <= 18 or not text[:19].isdecimal())
    fast = scan(text, scale)
    if fast is not None:
        assert fast == to_scaled(text, scale, "price") == exact(text, scale)


@settings(derandomize=True, deadline=None, max_examples=examples(1_000))
@given(text=ANY_TEXT, scale=st.integers(0, 10))
def test_strict_way_gives_an_exact_int64_or_a_value_error(text: str, scale: int) -> None:
    try:
        value = to_scaled(text, scale, "price")
    except ValueError:
        return
    assert isinstance(value, int) and 0 <= value <= INT64_MAX
    assert value == exact(text, scale)
