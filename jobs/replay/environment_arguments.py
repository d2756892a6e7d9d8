"""Arguments of the environment: each is checked before a table is opened, all problems are told at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from deltabook.jobs.console.formats import parse_time
from deltabook.jobs.tables.instrument_lookup import instrument_named
from deltabook.jobs.tables.published import require_published
from deltabook.schemas.errors import InputError, SettingsError, WarehouseError
from deltabook.schemas.names import valid_name
from deltabook.udfs.numbers.decimal_text import INT64_MAX
from deltabook.udfs.replay.clocks import Clock
from deltabook.udfs.replay.fills import Cancelled

MOST_LEVELS = 5_000
"""Levels a side of an observation: each is four numbers."""
_MOST_SIZE = Decimal(10**18)


def check_arguments(given: Mapping[str, Any]) -> None:
    """Check the arguments of `BookEnvironment`.

    Parameters
    ----------
    given : mapping
        All of them, by name.

    Raises
    ------
    SettingsError
        Naming each argument that is not usable, its value, and what is expected.
    """
    problems = [f"{name}={given[name]!r}: expected {expected}" for name, expected in _problems(given)]
    if problems:
        raise SettingsError("; ".join(problems))


def check_instrument(warehouse: Path, symbol: str, exchange: str | None) -> None:
    """Check that a warehouse has a symbol, on one exchange or on the one named.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol, exchange : str
        As in the tables; exchange may be None.

    Raises
    ------
    SettingsError
        If there is none, or there are several.
    WarehouseError
        If there is no such warehouse, or nothing is published in it.
    """
    require_published(warehouse)
    try:
        instrument_named(warehouse, symbol, exchange)
    except WarehouseError as error:
        raise SettingsError(
            f"symbol={symbol!r}, exchange={exchange!r}: expected one instrument of the warehouse: {error}"
        ) from None


def size_of(max_size: str, scale: int) -> int:
    """Return the largest position as an integer.

    Parameters
    ----------
    max_size : str
        In units of size; `check_arguments` has taken it.
    scale : int
        Decimal digits of the instrument's sizes.

    Returns
    -------
    int
        ``max_size * 10^scale``.

    Raises
    ------
    SettingsError
        If that is not a whole number.
    """
    scaled = Decimal(max_size).scaleb(scale)
    if scaled != scaled.to_integral_value():
        raise SettingsError(f"max_size={max_size!r}: expected a size of {scale} decimals at most")
    return int(scaled)


def _problems(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each argument that is not usable, and what is expected of it."""
    if not isinstance(given["warehouse"], str | Path) or not str(given["warehouse"]):
        yield "warehouse", "the folder of a warehouse"
    for name in ("symbol", "exchange"):
        if not (_is_name(given[name], name) or (name == "exchange" and given[name] is None)):
            yield name, f"the name of {'a' if name == 'symbol' else 'an'} {name} as in the tables"
    yield from _problems_of_times(given)
    if not _is_integer(given["levels"], 1, MOST_LEVELS):
        yield "levels", f"a number of levels from 1 to {MOST_LEVELS:,}"
    yield from _problems_of_steps(given)
    if not _is_size(given["max_size"]):
        yield "max_size", 'a size above 0 as text, such as "0.5"'
    if not (_is_share(given["fee"]) and given["fee"] >= 0):
        yield "fee", "a share of what is traded, from 0 to less than 1"
    if not _is_share(given["passive_fee"]):
        yield "passive_fee", "a share of what is traded, above -1 (less than 0: a rebate) and less than 1"
    if not isinstance(given["passive"], bool):
        yield "passive", "True or False"
    for name, choices in (("clock", Clock), ("cancelled", Cancelled)):
        if given[name] not in tuple(choices):
            yield name, " or ".join(choices)


def _problems_of_times(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    times = {}
    for name in ("start", "end"):
        value = given[name]
        try:
            times[name] = parse_time(value) if isinstance(value, str) else value
        except SettingsError:
            times[name] = NotImplemented
        if not (value is None or _is_integer(times[name], 0, INT64_MAX)):
            yield name, "None, ISO 8601 such as 2024-08-09T00:01:02.5Z, or ns since 1970"
            times[name] = None
    if None not in times.values() and times["end"] <= times["start"]:
        yield "end", f"a time after start, {given['start']!r}"


def _problems_of_steps(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    usable = True
    for name, least in (("step", 1), ("length", 1), ("latency", 0)):
        if not _is_integer(given[name], least, INT64_MAX):
            usable = False
            yield name, f"a whole number of ns from {least}"
    if usable and given["latency"] >= given["step"]:
        yield "latency", f"less than step, {given['step']}"
    if usable and given["length"] < given["step"]:
        yield "length", f"at least step, {given['step']}"


def _is_name(value: Any, what: str) -> bool:
    try:
        return isinstance(value, str) and valid_name(value, what) == value
    except InputError:
        return False


def _is_integer(value: Any, least: int, most: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and least <= int(value) <= most


def _is_share(value: Any) -> bool:
    is_number = not isinstance(value, bool) and isinstance(value, Real)
    return is_number and math.isfinite(value) and -1 < value < 1


def _is_size(value: Any) -> bool:
    try:
        return isinstance(value, str) and 0 < Decimal(value) <= _MOST_SIZE
    except InvalidOperation:  # no number, or NaN, which cannot be compared
        return False
