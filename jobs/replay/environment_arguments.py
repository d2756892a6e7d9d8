"""Check the arguments of `BookEnvironment` before any table is read. One error lists all problems."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from numbers import Integral, Real
from pathlib import Path
from typing import SupportsInt, TypeGuard

from deltabook.jobs.console.formats import parse_time
from deltabook.jobs.tables.instrument_lookup import find_instrument
from deltabook.jobs.tables.published import require_published
from deltabook.schemas.errors import InputError, SettingsError, WarehouseError
from deltabook.schemas.names import INT64_MAX, valid_name
from deltabook.udfs.replay.clocks import Clock
from deltabook.udfs.replay.fills import CancelPosition

MAX_LEVELS = 5_000
"""Maximum number of levels per side in an observation. Each level takes four numbers: two for each side."""
_LARGEST_SIZE = Decimal(10**18)


def check_arguments(given: Mapping[str, object]) -> None:
    """Check the arguments of `BookEnvironment`; raise an error that lists all invalid arguments.

    Parameters
    ----------
    given : mapping
        Values of all arguments, by name.

    Raises
    ------
    SettingsError
        If an argument is not valid. The message lists each invalid argument with its value and the values
        that are expected.
    """
    problems = [f"{name}={given[name]!r}: expected {expected}" for name, expected in _find_problems(given)]
    if problems:
        raise SettingsError("; ".join(problems))


def check_instrument(warehouse: Path, symbol: str, exchange: str | None) -> None:
    """Check that a warehouse has exactly one instrument with the given symbol and exchange.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol, exchange : str
        Names as in the tables. `exchange` may be None if only one exchange lists the symbol.

    Raises
    ------
    SettingsError
        If no exchange lists the symbol, or if several exchanges list it.
    WarehouseError
        If the warehouse does not exist, or has no published tables.
    """
    require_published(warehouse)
    try:
        find_instrument(warehouse, symbol, exchange)
    except WarehouseError as error:
        raise SettingsError(
            f"symbol={symbol!r}, exchange={exchange!r}: expected one instrument of the warehouse: {error}"
        ) from None


def scale_size(max_size: str, scale: int) -> int:
    """Return the largest position as a scaled integer.

    Parameters
    ----------
    max_size : str
        Size as decimal text that `check_arguments` has accepted.
    scale : int
        Decimal digits of the instrument's sizes.

    Returns
    -------
    int
        ``max_size * 10^scale``.

    Raises
    ------
    SettingsError
        If the result is not a whole number.
    """
    scaled = Decimal(max_size).scaleb(scale)
    if scaled != scaled.to_integral_value():
        raise SettingsError(f"max_size={max_size!r}: expected a size of {scale} decimals at most")
    return int(scaled)


def _find_problems(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield a pair for each invalid argument: its name, and a description of what is expected."""
    if not isinstance(given["warehouse"], str | Path) or not str(given["warehouse"]):
        yield "warehouse", "the folder of a warehouse"
    for name in ("symbol", "exchange"):
        if not (_is_name(given[name], name) or (name == "exchange" and given[name] is None)):
            yield name, f"the name of {'a' if name == 'symbol' else 'an'} {name} as in the tables"
    yield from _find_time_problems(given)
    if not _is_integer(given["levels"], 1, MAX_LEVELS):
        yield "levels", f"a number of levels from 1 to {MAX_LEVELS:,}"
    yield from _find_step_problems(given)
    if not _is_size(given["max_size"]):
        yield "max_size", 'a size above 0 as text, such as "0.5"'
    if not (_is_share(given["fee"]) and given["fee"] >= 0):
        yield "fee", "a share of what is traded, from 0 to less than 1"
    if not _is_share(given["passive_fee"]):
        yield "passive_fee", "a share of what is traded, above -1 (less than 0: a rebate) and less than 1"
    for name in ("passive", "known_only"):
        if not isinstance(given[name], bool):
            yield name, "True or False"
    for name, choices in (("clock", Clock), ("cancelled", CancelPosition)):
        if given[name] not in tuple(choices):
            yield name, " or ".join(choices)


def _find_time_problems(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    start, end = (_read_time(given[name]) for name in ("start", "end"))
    for name, time in (("start", start), ("end", end)):
        if given[name] is not None and time is None:
            yield name, "None, ISO 8601 such as 2024-08-09T00:01:02.5Z, or ns since 1970"
    if start is not None and end is not None and end <= start:
        yield "end", f"a time after start, {given['start']!r}"


def _read_time(value: object) -> int | None:
    """Return a time as ns since 1970 UTC; None if the value is not a valid time."""
    try:
        time = parse_time(value) if isinstance(value, str) else value
    except SettingsError:
        return None
    return int(time) if _is_integer(time, 0, INT64_MAX) else None


def _find_step_problems(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    valid: dict[str, int] = {}
    for name, least in (("step", 1), ("length", 1), ("latency", 0)):
        value = given[name]
        if _is_integer(value, least, INT64_MAX):
            valid[name] = int(value)
        else:
            yield name, f"a whole number of ns from {least}"
    if len(valid) < 3:
        return
    if valid["latency"] >= valid["step"]:
        yield "latency", f"less than step, {given['step']}"
    if valid["length"] < valid["step"]:
        yield "length", f"at least step, {given['step']}"


def _is_name(value: object, what: str) -> bool:
    """Return whether a value is a valid symbol or exchange name. `what` is "symbol" or "exchange"."""
    try:
        return isinstance(value, str) and valid_name(value, what) == value
    except InputError:
        return False


def _is_integer(value: object, least: int, most: int) -> TypeGuard[SupportsInt]:
    return not isinstance(value, bool) and isinstance(value, Integral) and least <= int(value) <= most


def _is_share(value: object) -> TypeGuard[float]:
    """Return whether a value is a number above -1 and below 1."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value) and -1 < float(value) < 1


def _is_size(value: object) -> bool:
    """Return whether a value is the decimal text of a size above 0 and up to `_LARGEST_SIZE`."""
    try:
        return isinstance(value, str) and 0 < Decimal(value) <= _LARGEST_SIZE
    except InvalidOperation:  # the text is not a number, or is NaN, which cannot be compared
        return False
