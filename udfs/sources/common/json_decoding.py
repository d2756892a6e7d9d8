"""Exact decoding of one JSON message: numbers with a decimal point become Decimal.

The decoder refuses a message that repeats a key in one object, or that is too large.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TypeAlias

import msgspec

from deltabook.udfs.sources.common.limits import Limits, too_many_levels

JsonObject: TypeAlias = dict[str, object]
"""A decoded JSON object, {key: decoded value}."""

_FIELDS_OF_A_LEVEL = 4
"""Largest number of values that a venue prints for one level."""
_OTHER_ARRAYS, _OTHER_VALUES = 8, 100
"""Largest number of arrays that are not levels, and of values outside levels, in one message."""


def _parse_decimal(text: str) -> Decimal:
    """Return a JSON number as Decimal."""
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"number {text[:80]} is out of range") from None


_DECODER = msgspec.json.Decoder(float_hook=_parse_decimal)


def decode_message(payload: bytes, most_levels: int = Limits.most_levels) -> object:
    """Decode the JSON of one message.

    Parameters
    ----------
    payload : bytes
        The message, UTF-8 JSON.
    most_levels : int
        Largest number of level changes of a message. This limit is checked before decoding, so that a line
        with millions of small values does not fill the memory.

    Returns
    -------
    object
        The decoded value: None, bool, int, Decimal, str, list or dict. A number with a decimal point is a
        Decimal.

    Raises
    ------
    ValueError
        If the message is not JSON, repeats a key in one object, or has more values than `most_levels` allows.
    """
    _check_size(payload, most_levels)
    try:
        message = _DECODER.decode(payload)
        # The fast decoder silently drops repeated keys. Each member of an object has one colon, and a string
        # may contain colons. If the payload has exactly the colons that the decoded message accounts for, no
        # repeated key was dropped. An escape such as \u003a can hide a colon. If the two counts differ, or
        # the payload has an escape, a slow decoder checks the keys.
        if payload.count(b":") != _count_colons(message) or b"\\" in payload:
            json.loads(payload, object_pairs_hook=_refuse_repeated_keys, parse_int=str, parse_float=str)
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    return message


def _check_size(payload: bytes, most_levels: int) -> None:
    """Raise ValueError for a message with more arrays or values than `most_levels` levels need."""
    if len(payload) <= most_levels:  # each level takes more than one byte
        return
    arrays = payload.count(b"[")
    if arrays > most_levels + _OTHER_ARRAYS:
        raise ValueError(too_many_levels(arrays - _OTHER_ARRAYS, most_levels))
    values, most_values = payload.count(b",") + payload.count(b"{"), _FIELDS_OF_A_LEVEL * most_levels
    if values > most_values + _OTHER_VALUES:
        raise ValueError(
            f"a message has {values:,} values; the limit is {most_values:,}: {_FIELDS_OF_A_LEVEL} times the "
            f"setting most_levels ({most_levels:,}). If the message is right, raise the setting"
        )


def _count_colons(value: object) -> int:
    """Return the number of colons in the JSON of a decoded value.

    Arrays of arrays are levels. This function does not search levels, because no venue prints colons in them.
    """
    if type(value) is dict:
        return len(value) + sum(map(_count_colons, value.values()))
    if type(value) is str:
        return value.count(":")
    if type(value) is list and value and type(value[0]) is not list:
        return sum(map(_count_colons, value))
    return 0


def _refuse_repeated_keys(members: list[tuple[str, object]]) -> None:
    """Raise ValueError for an object that repeats a key.

    `json.loads` calls this function for every object, inner objects first. The result is not used.
    """
    keys: set[str] = set()
    for key, _ in members:
        if key in keys:
            raise ValueError(f"key {key[:80]!r} is given twice in one object")
        keys.add(key)
