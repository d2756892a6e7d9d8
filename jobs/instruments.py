"""Instruments: which feed each is built from, and the scales of its integers, decided once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pyspark.sql import Row

from deltabook.jobs.settings import Settings
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.udfs.decimals import DEFAULT_SCALE

Instrument = tuple[str, str]
"""Exchange and symbol."""

_DIGITS, _HEADROOM = 18, 1
"""Any 18 digits fit int64; one more before the point than seen so far is left room for."""


def foreign(
    instruments: dict[Instrument, dict[str, Any]], source: str, told: set[Instrument]
) -> dict[Instrument, str]:
    """Name the instruments that the warehouse builds from another source, and why they are refused."""
    reasons = {}
    for key in sorted(told & instruments.keys()):
        recorded = FEEDS[instruments[key]["feed"]]
        if recorded.source != source:
            reasons[key] = (
                f"{' '.join(key)} is built from source {recorded.source} here, and ids of {source} do not "
                "mix with them: use another --warehouse"
            )
    return reasons


def describe(
    instruments: dict[Instrument, dict[str, Any]], settings: Settings, source: str, surveyed: list[Row]
) -> None:
    """Record the instruments met for the first time, and which stream gives each its trades.

    Parameters
    ----------
    instruments : dict
        Rows of `instruments` by (exchange, symbol); changed in place.
    settings : Settings
        May give scales.
    source : str
        Name of the source.
    surveyed : list of Row
        Rows of `survey`.

    Raises
    ------
    SettingsError
        If the settings give a recorded instrument other scales.
    """
    for exchange, symbols in settings.instruments.items():
        for symbol, wanted in symbols.items():
            recorded = instruments.get((exchange, symbol), {})
            held = recorded.get("price_scale"), recorded.get("size_scale")
            scales = (wanted.price_scale, wanted.size_scale)
            if recorded and scales != held:
                raise SettingsError(
                    f"instruments.{exchange}.{symbol}: the warehouse holds scales {held}, the settings say "
                    f"{scales}; scales never change: use a new --warehouse"
                )
    groups: dict[Instrument, list[Row]] = defaultdict(list)
    for row in surveyed:
        groups[row.exchange, row.symbol].append(row)
    for key, rows in sorted(groups.items()):
        if key not in instruments:
            given = settings.instruments.get(key[0], {}).get(key[1])
            instruments[key] = {
                "exchange": key[0],
                "symbol": key[1],
                "feed": feed_of(source, key[0]).name,
                "price_scale": given.price_scale if given else _scale(rows, "price"),
                "size_scale": given.size_scale if given else _scale(rows, "size"),
                "trade_stream": "",
            }
        # The first met is kept: ids of single and aggregated trades do not mix. Single ones are preferred.
        if not instruments[key]["trade_stream"]:
            records = {row.record for row in rows}
            stream = next((name for name in ("trade", "agg_trade") if name in records), "")
            instruments[key]["trade_stream"] = stream


def _scale(rows: list[Row], what: str) -> int:
    """Choose a scale: eight decimals unless the numbers need more, or room before the point."""
    decimals = max(row[f"{what}_decimals"] for row in rows)
    digits = max(row[f"{what}_digits"] for row in rows)
    if decimals <= DEFAULT_SCALE:
        needed = max((row[f"{what}_decimals"] for row in rows if row[f"{what}_digits"]), default=0)
        return int(max(needed, min(DEFAULT_SCALE, _DIGITS - digits - _HEADROOM)))
    return int(min(decimals, max(_DIGITS - digits, 0)))
