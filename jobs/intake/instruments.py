"""The table `instruments`: the feed, the scales and the trade stream of each instrument.

The feed and the scales never change after the first messages of an instrument were ingested. A scale is how
many decimal digits prices or sizes have: a scaled integer is a price or size multiplied by 10**scale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import cast

from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.schemas.rows import InstrumentRow, ScaleFields, SurveyRow
from deltabook.schemas.tables import INSTRUMENTS
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.scales import choose_scale
from deltabook.udfs.ordering.survey import find_digits_needed

Instrument = tuple[str, str]
"""Exchange and symbol of an instrument."""

DEFAULT_SCALES: ScaleFields = {
    "price_scale": DEFAULT_SCALE,
    "size_scale": DEFAULT_SCALE,
    "is_decimal": False,
}
"""Scales of an instrument whose prices and sizes all fit into int64 at the default scale, eight decimals."""
DECIMAL_SCALES: ScaleFields = {"price_scale": 18, "size_scale": 18, "is_decimal": True}
"""Scales of an instrument whose prices or sizes do not fit into int64 and are stored as DECIMAL(38,18)."""


def read_instruments(tables: TableReader) -> dict[Instrument, InstrumentRow]:
    """Return a dict that maps each exchange and symbol to the row in the table `instruments`.

    Parameters
    ----------
    tables : TableReader
        Reader of the warehouse's tables.

    Returns
    -------
    dict
        Maps (exchange, symbol) to the row of `instruments`.
    """
    rows = cast(list[InstrumentRow], tables.rows(INSTRUMENTS))
    return {(row["exchange"], row["symbol"]): row for row in rows}


def get_scales(instrument: InstrumentRow) -> ScaleFields:
    """Return the scales of an instrument, without the other columns of the instrument's row.

    Parameters
    ----------
    instrument : InstrumentRow
        Row of the table `instruments`.

    Returns
    -------
    ScaleFields
        Number of decimal digits of prices and of sizes, and whether numbers are stored as DECIMAL(38,18)
        instead of scaled integers.
    """
    return {
        "price_scale": instrument["price_scale"],
        "size_scale": instrument["size_scale"],
        "is_decimal": instrument["is_decimal"],
    }


def find_foreign_instruments(
    instruments: Mapping[Instrument, InstrumentRow], named: Iterable[tuple[Instrument, str]]
) -> tuple[dict[Instrument, str], dict[tuple[Instrument, str], str]]:
    """Return the source of each instrument, and what to refuse, because it comes from another source.

    Parameters
    ----------
    instruments : mapping
        Maps (exchange, symbol) to the row of `instruments`.
    named : iterable of ((exchange, symbol), source)
        Instruments that occur in the files, with the source that reads the file.

    Returns
    -------
    (sources, reasons) : (dict, dict)
        {(exchange, symbol): source from which the instrument is built}, and {((exchange, symbol), source):
        reason} for what is refused. Of several sources of a new instrument, the first by name is used.
    """
    sources = {key: FEEDS[row["feed"]].source for key, row in instruments.items()}
    reasons = {}
    for key, source in sorted(set(named)):
        if sources.setdefault(key, source) != source:
            reasons[key, source] = (
                f"{' '.join(key)} is built from source {sources[key]} here, and its ids cannot be mixed "
                f"with those of source {source}: use another --warehouse"
            )
    return sources, reasons


def add_new_instruments(
    instruments: dict[Instrument, InstrumentRow],
    settings: Settings,
    sources: Mapping[Instrument, str],
    surveyed: Iterable[SurveyRow],
) -> None:
    """Add new instruments to `instruments`, and choose a trade stream for each instrument that has none.

    Parameters
    ----------
    instruments : dict
        Maps (exchange, symbol) to the row of `instruments`. The function changes this dict in place.
    settings : Settings
        Settings, whose field `instruments` may give the scales of new instruments.
    sources : mapping
        Maps (exchange, symbol) to the name of the source from which the instrument is built.
    surveyed : iterable of SurveyRow
        Rows of the frame `survey` that describe the new messages; see `survey_streams`.

    Raises
    ------
    SettingsError
        If the scales that the settings give for an instrument differ from the instrument's stored scales.
    """
    _check_scales(instruments, settings)
    rows_of_instrument: dict[Instrument, list[SurveyRow]] = defaultdict(list)
    for row in surveyed:
        rows_of_instrument[row.exchange, row.symbol].append(row)
    for key, rows in sorted(rows_of_instrument.items()):
        exchange, symbol = key
        if key not in instruments:
            given = settings.instruments.get(exchange, {}).get(symbol)
            scales = cast(ScaleFields, given.model_dump()) if given else _choose_scales(rows)
            instruments[key] = {
                "exchange": exchange,
                "symbol": symbol,
                "feed": feed_of(sources[key], exchange).name,
                **scales,
                "trade_stream": "",
            }
        # The trade stream is chosen once and then never changes, because ids of single trades and ids of
        # aggregated trades cannot be mixed. Single trades are preferred.
        if not instruments[key]["trade_stream"]:
            records = {row.record for row in rows}
            stream = next((name for name in ("trade", "agg_trade") if name in records), "")
            instruments[key]["trade_stream"] = stream


def _check_scales(instruments: Mapping[Instrument, InstrumentRow], settings: Settings) -> None:
    """Raise an error if the settings give scales that differ from the stored scales of an instrument."""
    for exchange, symbols in settings.instruments.items():
        for symbol, given in symbols.items():
            recorded, scales = instruments.get((exchange, symbol)), given.model_dump()
            if recorded and get_scales(recorded) != scales:
                raise SettingsError(
                    f"instruments.{exchange}.{symbol}: the settings have {scales}, but the warehouse has "
                    f"{get_scales(recorded)}; scales never change: use a new --warehouse, or correct the "
                    "settings"
                )


def _choose_scales(rows: list[SurveyRow]) -> ScaleFields:
    """Return the scales of a new instrument. `rows` are the rows of the frame `survey` for the instrument.

    If at no scale all prices, or all sizes, fit into int64, the result is `DECIMAL_SCALES`.
    """
    price_scale = _choose_scale("price", [(row.file, row.price_decimals, row.price_digits) for row in rows])
    size_scale = _choose_scale("size", [(row.file, row.size_decimals, row.size_digits) for row in rows])
    if price_scale is None or size_scale is None or any(row.wide for row in rows):
        return DECIMAL_SCALES
    return {"price_scale": price_scale, "size_scale": size_scale, "is_decimal": False}


def _choose_scale(number: str, needs: list[tuple[str, int, int]]) -> int | None:
    """Return the scale for prices or sizes; None if there is no scale at which all of them fit into int64.

    The scale is eight decimals, unless some prices or sizes need more decimals or more digits before the
    decimal point.

    `number` is "price" or "size". Each item of `needs` describes the prices or sizes in one staged file: path
    of the file, largest count of decimals, and largest count of digits before the decimal point.
    """
    need_of_file: dict[str, tuple[int, int]] = {}
    for file, decimals, digits in needs:
        need_of_file[file] = max(need_of_file.get(file, (0, 0)), (decimals, digits))
    # For a file whose numbers all fit at the default scale, the survey reports 0 digits instead of a count.
    if not any(digits for _, digits in need_of_file.values()):
        return DEFAULT_SCALE
    counted = [need if need[1] else find_digits_needed(file, number) for file, need in need_of_file.items()]
    return choose_scale(max(decimals for decimals, _ in counted), max(digits for _, digits in counted))
