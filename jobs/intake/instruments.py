"""Instruments: which feed each is built from, and what its numbers are, decided once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pyspark.sql import Row

from deltabook.jobs.runtime.settings import Settings
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.scales import scale_for
from deltabook.udfs.ordering.survey import digits_of

Instrument = tuple[str, str]
"""Exchange and symbol."""

USUAL_SCALES: dict[str, int | bool] = {
    "price_scale": DEFAULT_SCALE,
    "size_scale": DEFAULT_SCALE,
    "is_decimal": False,
}
"""What `instruments` says of numbers that fit int64 with eight decimals."""
DECIMAL_SCALES: dict[str, int | bool] = {"price_scale": 18, "size_scale": 18, "is_decimal": True}
"""What `instruments` says of numbers that are DECIMAL(38,18)."""


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
        for symbol, scales in symbols.items():
            recorded, wanted = instruments.get((exchange, symbol)), scales.model_dump()
            held = {name: recorded[name] for name in wanted} if recorded else wanted
            if held != wanted:
                raise SettingsError(
                    f"instruments.{exchange}.{symbol}: the warehouse holds {held}, the settings say "
                    f"{wanted}; scales never change: use a new --warehouse"
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
                **(given.model_dump() if given else _scales(rows)),
                "trade_stream": "",
            }
        # The first met is kept: ids of single and aggregated trades do not mix. Single ones are preferred.
        if not instruments[key]["trade_stream"]:
            records = {row.record for row in rows}
            stream = next((name for name in ("trade", "agg_trade") if name in records), "")
            instruments[key]["trade_stream"] = stream


def _scales(rows: list[Row]) -> dict[str, int | bool]:
    """Choose the scales, or decimals if no int64 holds all numbers at any one."""
    price_scale, size_scale = (_scale(rows, what) for what in ("price", "size"))
    if price_scale is None or size_scale is None or any(row.wide for row in rows):
        return DECIMAL_SCALES
    return {"price_scale": price_scale, "size_scale": size_scale, "is_decimal": False}


def _scale(rows: list[Row], what: str) -> int | None:
    """Choose a scale: eight decimals unless the numbers need more, or room before the point."""
    needs: dict[str, tuple[int, int]] = {}
    for row in rows:
        needs[row.file] = max(needs.get(row.file, (0, 0)), (row[f"{what}_decimals"], row[f"{what}_digits"]))
    # A file of which all fits the usual scale was not looked at; if all are so, that scale is right.
    if not any(digits for _, digits in needs.values()):
        return DEFAULT_SCALE
    found = [need if need[1] else digits_of(file, what) for file, need in needs.items()]
    decimals, digits = (max(counts) for counts in zip(*found, strict=True))
    return scale_for(decimals, digits)
