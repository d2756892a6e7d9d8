"""Look up the published instruments of a warehouse by symbol."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import InstrumentRow
from deltabook.schemas.tables import INSTRUMENTS

_MAX_LISTED = 40
"""Largest number of instruments that an error message lists."""


def _join(symbol: str) -> str:
    """Return a symbol in upper case without separators: BTCUSDT for btc/usdt and BTC-USDT."""
    return symbol.upper().translate(_SEPARATORS)


_SEPARATORS = str.maketrans("", "", "-_/: ")
_SPELLINGS: tuple[Callable[[str], str], ...] = (str, _join, lambda symbol: _join(symbol).removesuffix("PERP"))
"""Functions that make two spellings of one symbol equal; the first that finds an instrument counts."""


def find_instruments(warehouse: Path, symbol: str, exchange: str | None = None) -> list[InstrumentRow]:
    """Return the published instruments with a symbol, one for each exchange that lists it.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    symbol : str
        Symbol as the tables spell it, such as BTC-USDT, or as people and venues do: BTCUSDT, btc/usdt. A
        spelling without PERP also stands for a perpetual, if there is no other instrument of that name.
    exchange : str, optional
        Exchange whose instrument is returned. None returns the instruments of all exchanges.

    Returns
    -------
    list of InstrumentRow
        At least one row.

    Raises
    ------
    WarehouseError
        If no instrument matches. The message lists the existing instruments and suggests the closest symbol.
    """
    tables = TableReader(warehouse.absolute(), require_published(warehouse))
    rows = cast(list[InstrumentRow], tables.rows(INSTRUMENTS))
    candidates = [row for row in rows if exchange in (None, row["exchange"])]
    for spell in _SPELLINGS:
        matches = [row for row in candidates if spell(row["symbol"]) == spell(symbol)]
        if matches:
            return matches
    existing = sorted(f"{row['exchange']} {row['symbol']}" for row in rows)
    closest = get_close_matches(symbol.upper(), sorted({row["symbol"] for row in rows}), n=1)
    is_typo = bool(closest) and closest[0] != symbol
    introduction = f": did you mean {closest[0]}? There are" if is_typo else "; there are"
    listed = ", ".join(existing[:_MAX_LISTED]) or "none yet: run `deltabook ingest`"
    unlisted = len(existing) - _MAX_LISTED
    more = f" and {unlisted:,} more: see `deltabook status`" if unlisted > 0 else ""
    wanted = " ".join(filter(None, (exchange, symbol)))
    raise WarehouseError(f"no {wanted} in {warehouse}{introduction}: {listed}{more}")


def resolve_symbol(warehouse: Path, symbol: str, exchange: str | None = None) -> str:
    """Return a symbol as the tables spell it; unchanged if no instrument, or several, may be meant.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    symbol : str
        Symbol in any spelling; see `find_instruments`.
    exchange : str, optional
        Exchange of the instrument.
    """
    try:
        symbols = {row["symbol"] for row in find_instruments(warehouse, symbol, exchange)}
    except WarehouseError:
        return symbol  # the code that reads the tables says what is wrong
    return symbols.pop() if len(symbols) == 1 else symbol


def find_instrument(
    warehouse: Path, symbol: str, exchange: str | None = None, option: str = "--exchange {}"
) -> InstrumentRow:
    """Return the published instrument with a symbol, which must be the only one.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    symbol : str
        Symbol as the tables spell it, such as BTC-USDT.
    exchange : str, optional
        Exchange of the instrument. It is required if several exchanges list the symbol.
    option : str
        How the caller passes an exchange, for the error message; {} stands for the exchange.

    Returns
    -------
    InstrumentRow
        The row of the instrument.

    Raises
    ------
    WarehouseError
        If no instrument matches, or if several instruments match.
    """
    matches = find_instruments(warehouse, symbol, exchange)
    if len(matches) > 1:
        if len(symbols := sorted({row["symbol"] for row in matches})) > 1:
            raise WarehouseError(f"{symbol} may be {' or '.join(symbols)}: name one of them")
        exchanges = sorted(row["exchange"] for row in matches)
        raise WarehouseError(
            f"{symbol} is listed on {', '.join(exchanges)}: choose one, such as {option.format(exchanges[0])}"
        )
    return matches[0]
