"""Readers of the fields of a decoded message; each explains what it expected and what it found."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from hashlib import blake2b

from deltabook.schemas.names import INT64_MAX, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import MOST_DECIMALS
from deltabook.udfs.sources.common.json_decoding import JsonObject


def read_integer(message: JsonObject, key: str) -> int:
    """Return a field that is an id or a time.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    int
        The value, from 0 to 2^63 - 1.

    Raises
    ------
    ValueError
        If the field is absent, or is neither an integer from 0 to 2^63 - 1 nor the decimal text of such an
        integer.
    """
    value = message.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
        raise ValueError(f"field {key}: expected an integer that fits int64, found {excerpt(value)}")
    return value


def read_text(message: JsonObject, key: str) -> str:
    """Return a field that is a text.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the field is absent or not a text.
    """
    value = message.get(key)
    if not isinstance(value, str):
        raise ValueError(f"field {key}: expected a text, found {excerpt(value)}")
    return value


def read_choice(message: JsonObject, key: str, choices: Collection[str]) -> str:
    """Return a field that is one of a few texts.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.
    choices : collection of str
        The texts that the field may have.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the field is absent, or has another value.
    """
    value = message.get(key)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"field {key}: expected {' or '.join(choices)}, found {excerpt(value)}")
    return value


def read_objects(message: JsonObject, key: str) -> list[JsonObject]:
    """Return a field that is a list of JSON objects.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    list of dict
        The objects, in the order of the message.

    Raises
    ------
    ValueError
        If the field is absent or not a list of objects.
    """
    value = message.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"field {key}: expected a list of objects, found {excerpt(value)}")
    return value


def read_id(message: JsonObject, key: str) -> int:
    """Return a field that is an id as text: its number, or the hash of a text that is no number.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    int
        The id, from 0 to 2^63 - 1.

    Raises
    ------
    ValueError
        If the field is absent or not a text.
    """
    text = read_text(message, key)
    is_number = text.isdecimal() and len(text) < 20 and int(text) <= INT64_MAX
    return int(text) if is_number else hash_id(text)


def read_signed_checksum(message: JsonObject, key: str) -> int:
    """Return a CRC-32 that a venue prints as a signed number.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    int
        The checksum as an unsigned number; -1 if it is 0 or absent.

    Raises
    ------
    ValueError
        If the field is not a number of 32 bits.
    """
    value = message.get(key)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return NOT_GIVEN
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**32:
        raise ValueError(f"field {key}: expected a CRC-32, found {excerpt(value)}")
    return value & 0xFFFFFFFF


def read_level_list(message: JsonObject, key: str) -> list[list[object]]:
    """Return the printed price and size of each level in a field.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field; its value is a list of `[price, size, …]`.

    Returns
    -------
    list of [price, size]
        Price and size of each level as printed, in the order of the message.

    Raises
    ------
    ValueError
        If the field is absent or not a list of lists.
    """
    value = message.get(key)
    if not isinstance(value, list) or not all(isinstance(level, list) for level in value):
        raise ValueError(f"field {key}: expected a list of levels, found {excerpt(value)}")
    return [level[:2] for level in value]


def read_price_levels(message: JsonObject, key: str) -> list[tuple[object, object]]:
    """Return the printed price and size of each level `{"price","qty"}` in a field.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    list of (price, size)
        Price and size of each level as printed; None where a level lacks one.

    Raises
    ------
    ValueError
        If the field is absent or not a list of objects.
    """
    return [(level.get("price"), level.get("qty")) for level in read_objects(message, key)]


def count_digits(numbers: list[object]) -> int:
    """Return the largest number of decimals that any of the printed numbers has; -1 for an empty list.

    Parameters
    ----------
    numbers : list of (str, int or Decimal)
        Numbers as the venue prints them.

    Raises
    ------
    ValueError
        If a number is no plain number, or has more than `MOST_DECIMALS` decimals.
    """
    try:
        exponents = [int(Decimal(str(number)).as_tuple().exponent) for number in numbers]
    except (ArithmeticError, ValueError):
        raise ValueError(f"expected plain numbers, found {excerpt(numbers)}") from None
    digits = max((max(0, -exponent) for exponent in exponents), default=NOT_GIVEN)
    if digits > MOST_DECIMALS:
        raise ValueError(f"expected a level with at most {MOST_DECIMALS} decimals, found {digits}")
    return digits


def hash_id(text: str) -> int:
    """Return a hash, from 0 to 2^63 - 1, that replaces a text id such as a UUID."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def excerpt(value: object) -> str:
    """Return the first 200 characters of a value's repr, for an error message."""
    return repr(value)[:200]
