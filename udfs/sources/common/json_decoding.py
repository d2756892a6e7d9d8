"""JSON of one message: decoded exactly, without repeated keys, and no larger than a message may be."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from deltabook.udfs.sources.common.limits import Limits, too_many_levels

_FIELDS_OF_A_LEVEL = 4
"""Values that a venue prints for a level, at most."""
_OTHER_ARRAYS, _OTHER_VALUES = 8, 100
"""Arrays of a message that are no levels, and values outside of levels, at most."""


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"number {text[:80]} is out of range") from None


_DECODER = msgspec.json.Decoder(float_hook=_decimal)


def decode(payload: bytes, most_levels: int = Limits.most_levels) -> Any:
    """Decode the JSON of one message.

    Parameters
    ----------
    payload : bytes
        The message.
    most_levels : int
        Level changes that it may have; it is counted before anything is decoded, so that a line of
        millions of small values takes no memory.

    Returns
    -------
    Any
        Its value; numbers with a point are Decimal.

    Raises
    ------
    ValueError
        If it is not JSON, has an object that gives a key twice, or is larger than a message may be.
    """
    _check_size(payload, most_levels)
    try:
        message = _DECODER.decode(payload)
        # Every member of an object has one colon. Where as many colons are printed as the members and texts
        # account for, no member was dropped; an escape could hide a colon. Else it is decoded again, slowly.
        if payload.count(b":") != _count_colons(message) or b"\\" in payload:
            json.loads(payload, object_pairs_hook=_check_keys, parse_int=str, parse_float=str)
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    return message


def _check_size(payload: bytes, most_levels: int) -> None:
    """Refuse a message that has more arrays or values than its levels can account for."""
    if len(payload) <= most_levels:  # of one byte each: it cannot have more
        return
    arrays = payload.count(b"[")
    if arrays > most_levels + _OTHER_ARRAYS:
        raise ValueError(too_many_levels(arrays - _OTHER_ARRAYS, most_levels))
    values, most_values = payload.count(b",") + payload.count(b"{"), _FIELDS_OF_A_LEVEL * most_levels
    if values > most_values + _OTHER_VALUES:
        raise ValueError(
            f"a message has {values:,} values, and one may have {most_values:,}: {_FIELDS_OF_A_LEVEL} for "
            "each level change that it may have (setting most_levels)"
        )


def _count_colons(value: Any) -> int:
    """Count the colons that a decoded value was printed with; those within arrays of arrays are left out."""
    if type(value) is dict:
        return len(value) + sum(map(_count_colons, value.values()))
    if type(value) is str:
        return value.count(":")
    if type(value) is list and value and type(value[0]) is not list:
        return sum(map(_count_colons, value))
    return 0


def _check_keys(members: list[tuple[str, Any]]) -> None:
    """Refuse an object that gives a key twice; called for every object, the inner ones first."""
    keys: set[str] = set()
    for key, _ in members:
        if key in keys:
            raise ValueError(f"key {key[:80]!r} is given twice in one object")
        keys.add(key)
