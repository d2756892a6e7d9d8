"""Which instruments a warehouse has: how every command finds the one it is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import INSTRUMENTS

_LISTED = 40


def instruments_named(warehouse: Path, symbol: str, exchange: str | None = None) -> list[dict[str, Any]]:
    """Find the instruments of a symbol, one on each exchange that lists it.

    Parameters
    ----------
    warehouse : Path
        Its published versions are read.
    symbol : str
        As in the tables.
    exchange : str, optional
        Only that of this exchange.

    Returns
    -------
    list of dict
        Rows of `instruments`, at least one.

    Raises
    ------
    WarehouseError
        If there is none; names those there are, and the one that was probably meant.
    """
    rows = Stored(warehouse.absolute(), require_published(warehouse)).rows(INSTRUMENTS)
    found = [row for row in rows if row["symbol"] == symbol and exchange in (None, row["exchange"])]
    if found:
        return found
    there = sorted(f"{row['exchange']} {row['symbol']}" for row in rows)
    near = get_close_matches(symbol.upper(), sorted({row["symbol"] for row in rows}), n=1)
    known = f": did you mean {near[0]}? There are" if near and near[0] != symbol else "; there are"
    listed = ", ".join(there[:_LISTED]) or "none yet: run `deltabook ingest`"
    more = f" and {len(there) - _LISTED:,} more: see `deltabook status`" if len(there) > _LISTED else ""
    asked = " ".join(filter(None, (exchange, symbol)))
    raise WarehouseError(f"no {asked} in {warehouse}{known}: {listed}{more}")


def instrument_named(warehouse: Path, symbol: str, exchange: str | None = None) -> dict[str, Any]:
    """Find the one instrument of a symbol.

    Parameters
    ----------
    warehouse : Path
        Its published versions are read.
    symbol : str
        As in the tables.
    exchange : str, optional
        Needed if several exchanges list the symbol.

    Returns
    -------
    dict
        Its row of `instruments`.

    Raises
    ------
    WarehouseError
        If there is none, or there are several.
    """
    found = instruments_named(warehouse, symbol, exchange)
    if len(found) > 1:
        venues = sorted(row["exchange"] for row in found)
        raise WarehouseError(
            f"{symbol} is listed on {', '.join(venues)}: choose one, such as --exchange {venues[0]}"
        )
    return found[0]
