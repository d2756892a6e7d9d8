"""Selection of the instruments, chunks and data files that an export reads.

A chunk is a range of ids, one hour by default. A symbol-day is one UTC day of one instrument.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from deltabook.jobs.exporting.options import ExportOptions
from deltabook.jobs.intake.instruments import Instrument, get_scales, read_instruments
from deltabook.jobs.pipeline.vendor_files import NO_VENDOR, find_vendor_files
from deltabook.jobs.tables.instrument_lookup import find_instruments
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.exports import FORMS, IN_DOUBLES, Form, What
from deltabook.schemas.names import CLOCK_TOLERANCE, DAY, INT64_MAX
from deltabook.schemas.rows import ExportReference, InstrumentRow
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, HOURS
from deltabook.udfs.export.tardis import make_vendor_names

_TABLES = {What.BOOKS: BOOKS, What.FEATURES: BOOKS, What.EVENTS: EVENTS, What.TRADES: EVENTS}
"""Table from which an export reads each kind of rows."""


class InstrumentSelection(NamedTuple):
    """The instruments of an export.

    Attributes
    ----------
    rows : dict
        Rows of the table `instruments` to export, by (exchange, symbol).
    left_out : list of str
        "EXCHANGE SYMBOL" of each instrument whose numbers the format cannot hold.
    """

    rows: dict[Instrument, InstrumentRow]
    left_out: list[str]


def select_instruments(tables: TableReader, options: ExportOptions) -> InstrumentSelection:
    """Return the instruments to export, and the instruments whose numbers the format cannot hold.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.
    options : ExportOptions
        Options of the export.

    Returns
    -------
    InstrumentSelection
        The selection, with at least one instrument to export.

    Raises
    ------
    WarehouseError
        If the warehouse has no matching instrument. The message lists the existing ones.
    SettingsError
        If the format cannot hold the numbers of any selected instrument.
    InputError
        If the format is Tardis, and an instrument has no known name at Tardis.dev.
    """
    rows = _find_rows(tables, options)
    selected = {
        (row["exchange"], row["symbol"]): row for row in rows if options.exchange in (None, row["exchange"])
    }
    if not selected:
        exchanges = ", ".join(sorted({row["exchange"] for row in rows}))
        raise WarehouseError(f"no instrument of {options.exchange} in {tables.root}; there are: {exchanges}")
    is_double = options.form in IN_DOUBLES
    too_wide = sorted(key for key, row in selected.items() if row["is_decimal"] and is_double)
    selected = {key: row for key, row in selected.items() if key not in too_wide}
    left_out = [" ".join(key) for key in too_wide]
    if not selected:
        other_forms = ", ".join(form for form in FORMS[options.what] if form not in IN_DOUBLES)
        raise SettingsError(
            f"{', '.join(left_out)}: numbers need DECIMAL(38,18), but {options.form} stores doubles: export "
            f"as {other_forms}"
        )
    if options.form is Form.TARDIS:
        for key in selected:
            make_vendor_names(*key)  # raises InputError for an unknown name, before anything is written
    return InstrumentSelection(selected, left_out)


def filter_by_time(tables: TableReader, options: ExportOptions, keys: Iterable[ChunkKey]) -> list[ChunkKey]:
    """Return those of the given chunks that may have rows in the export's range of times.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.
    options : ExportOptions
        Options of the export.
    keys : iterable of (exchange, symbol, chunk)
        The chunks to filter.

    Returns
    -------
    list of (exchange, symbol, chunk)
        The remaining chunks, in the order of `keys`.
    """
    if not options.has_time_limits:
        return [*keys]
    times: dict[ChunkKey, tuple[int, int]] = {}
    for row in tables.rows(HOURS):
        key = row["exchange"], row["symbol"], row["hour"]
        first, last = times.get(key, (INT64_MAX, 0))
        times[key] = min(first, row["first_time"]), max(last, row["last_time"])

    def may_overlap(key: ChunkKey) -> bool:
        if key not in times:
            return True
        first, last = times[key]
        return first - CLOCK_TOLERANCE < options.until and last + CLOCK_TOLERANCE >= options.since

    return [key for key in keys if may_overlap(key)]


def make_references(
    tables: TableReader,
    options: ExportOptions,
    instruments: Mapping[Instrument, InstrumentRow],
    failed: Collection[ChunkKey],
) -> list[ExportReference]:
    """Return a row of `export_references` for each chunk to export; it names the data files of the chunk.

    The rows of a symbol-day are adjacent. The symbol-days with the most chunks come first.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.
    options : ExportOptions
        Options of the export.
    instruments : mapping
        Rows of `instruments` to export, by (exchange, symbol).
    failed : collection of (exchange, symbol, chunk)
        Chunks to leave out because they failed validation.

    Returns
    -------
    list of ExportReference
        Rows of the frame `export_references`.

    Raises
    ------
    WarehouseError
        If the warehouse has no rows of the kind to export yet.
    """
    is_replayed = options.form is Form.HFTBACKTEST
    files = tables.files_of_both(_TABLES[options.what])
    checkpoints = tables.files_of_both(CHECKPOINTS) if is_replayed else {}
    books = tables.files_of_both(BOOKS) if is_replayed else {}
    vendor = find_vendor_files(tables) if is_replayed else {}
    stored = [key for key in files if key[:2] in instruments and (key in checkpoints or not is_replayed)]
    if not stored:
        raise WarehouseError(
            f"warehouse {tables.root} has no {options.what} yet: run `deltabook reconstruct`"
        )
    selected = {key for key in filter_by_time(tables, options, stored) if key not in failed}
    references_of_day: dict[tuple[str, str, str], list[ExportReference]] = defaultdict(list)
    for index, key in enumerate(stored):
        if key not in selected:
            continue
        exchange, symbol, chunk = key
        day, instrument = _format_day(chunk), instruments[exchange, symbol]
        references_of_day[exchange, symbol, day].append(
            {
                "exchange": exchange,
                "symbol": symbol,
                "date": day,
                "hour": chunk,
                "feed": instrument["feed"],
                **get_scales(instrument),
                "data_files": files[key],
                "book_files": books.get(key, []),
                "checkpoint_file": next(iter(checkpoints.get(key, [])), ""),
                "follows": _follows_exported(stored, index, selected),
                "is_last": index + 1 == len(stored) or stored[index + 1][:2] != key[:2],
                **vendor.get(key, NO_VENDOR),
            }
        )
    days = sorted(references_of_day.values(), key=len, reverse=True)
    return [reference for day_references in days for reference in day_references]


def _find_rows(tables: TableReader, options: ExportOptions) -> list[InstrumentRow]:
    """Return the rows of `instruments` for the symbols to export; all rows if no symbol is given."""
    if not options.symbols:
        return list(read_instruments(tables).values())
    found = [find_instruments(tables.root, symbol, options.exchange) for symbol in options.symbols]
    return [row for rows in found for row in rows]


def _follows_exported(stored: Sequence[ChunkKey], index: int, selected: Collection[ChunkKey]) -> bool:
    """Return whether the export has the previous stored chunk, with the same instrument and day."""
    if index == 0:
        return False
    before, key = stored[index - 1], stored[index]
    return before in selected and before[:2] == key[:2] and _format_day(before[2]) == _format_day(key[2])


def _format_day(chunk: int) -> str:
    """Return the UTC day of a chunk's start (ns since 1970 UTC) as YYYY-MM-DD."""
    return f"{datetime.fromtimestamp(chunk // DAY * 86_400, UTC):%Y-%m-%d}"
