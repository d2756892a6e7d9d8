"""Read published tables: rows that are selected by instrument and time, columns that are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.rows import InstrumentRow
from deltabook.schemas.tables import TABLES

from .exact_numbers import NumberForm, choose_form, convert_column
from .failed_chunks import select_failed
from .result import Result
from .table_views import View

_KEYS = ("exchange", "symbol", "hour")
"""Columns that identify a chunk of an instrument."""
_ChunkRows = tuple[tuple[str | int, ...], pa.Table]
"""A chunk's values of the columns `_KEYS`, and the chunk's rows. Columns that the table lacks are omitted."""


class Selection(NamedTuple):
    """Rows and columns to read, and the types in which to return prices and sizes.

    Attributes
    ----------
    instruments : sequence of InstrumentRow
        All instruments that the result may contain.
    exchange, symbol : str or None
        Select only rows of this exchange or symbol; None: all.
    start, end : int or None
        Start (inclusive) and end (exclusive) of the times, ns since 1970 UTC; None: no limit.
    columns : sequence of str or None
        Names of the columns; None: all.
    decimals : bool
        True: prices and sizes are exact decimals. False: they are integers at the instrument's scales.
    include_failed : bool
        Whether chunks that failed a check are included.
    """

    instruments: Sequence[InstrumentRow]
    exchange: str | None = None
    symbol: str | None = None
    start: int | None = None
    end: int | None = None
    columns: Sequence[str] | None = None
    decimals: bool = True
    include_failed: bool = True


def read_result(reader: TableReader, view: View, selection: Selection) -> Result:
    """Read the rows of a view.

    Parameters
    ----------
    reader : TableReader
        Reader of the published table versions.
    view : View
        Table to read, and columns that a result may show.
    selection : Selection
        Rows and columns to read.

    Returns
    -------
    Result
        Rows ordered by exchange, symbol and chunk. Rows of one chunk are in stored order, which is the order
        of the feed.

    Raises
    ------
    SettingsError
        If the view lacks a selected column, or if `start` or `end` is given but the view has no time column.

    Examples
    --------
    >>> read_result(reader, BOOKS_VIEW, Selection(instruments, symbol="BTC-USDT"))  # doctest: +SKIP
    """
    columns = _check_columns(view, selection.columns)
    condition = _condition(view, selection)
    form = choose_form(selection.instruments, selection.decimals)
    failed = reader.failed_chunks() if view.names_failed else {}
    parts: list[_ChunkRows] = []
    for table in _forms_of(view.table):
        if reader.exists(table):
            needed = _needed_columns(view, columns)
            projection = {name: view.expression_of(name) for name in needed}
            rows = reader.dataset(table).to_table(columns=projection, filter=condition)
            parts += _split_by_chunk(rows, [name for name in _KEYS if name in needed])
    parts.sort(key=lambda part: part[0])
    named = select_failed(failed, (cast(ChunkKey, key) for key, _ in parts if len(key) == len(_KEYS)))
    left_out = set() if selection.include_failed else {chunk[:3] for chunk in named}
    scales: dict[tuple[str | int, ...], dict[str, int]] = {
        (row["exchange"], row["symbol"]): {"price_scale": row["price_scale"], "size_scale": row["size_scale"]}
        for row in selection.instruments
    }
    shown = [
        _show(view, rows, columns, scales.get(key[:2], {}), form)
        for key, rows in parts
        if key not in left_out
    ]
    empty = _show(view, _empty_rows(view, columns), columns, {}, form)
    return Result(pa.concat_tables([empty, *shown]), named)


def _forms_of(table: Table) -> Iterator[Table]:
    """Yield a table and, if it exists, the table `NAME_decimal` of instruments that need DECIMAL(38,18)."""
    yield table
    if f"{table.name}_decimal" in TABLES:
        yield TABLES[f"{table.name}_decimal"]


def _check_columns(view: View, columns: Sequence[str] | None) -> list[str]:
    """Return the names of the requested columns, without repetitions; raise if a name is unknown."""
    if columns is None:
        return list(view.columns)
    if isinstance(columns, str):
        raise SettingsError(f"columns={columns!r}: expected a list of names, such as [{columns!r}]")
    unknown = [name for name in columns if name not in view.columns]
    if unknown:
        raise SettingsError(
            f"no column {unknown[0]!r} in {view.table.name}: expected some of {', '.join(view.columns)}"
        )
    return list(dict.fromkeys(columns))


def _needed_columns(view: View, columns: Sequence[str]) -> list[str]:
    """Return the stored columns that the requested columns need, and the columns that identify a chunk."""
    keys = [name for name in _KEYS if name in view.table.names]
    sources = [
        source
        for name in columns
        for source in (view.derived[name].sources if name in view.derived else (name,))
    ]
    return list(dict.fromkeys([*keys, *sources]))


def _condition(view: View, selection: Selection) -> pc.Expression | None:
    """Return the Arrow filter that selects the rows of a selection; None if all rows are selected."""
    tests: list[pc.Expression] = []
    if view.event_type is not None:
        tests.append(pc.field("event_type") == str(view.event_type))
    for name in ("exchange", "symbol"):
        value = getattr(selection, name)
        if value is None:
            continue
        if name not in view.table.names:
            raise SettingsError(f"table {view.table.name} has no column {name}: leave out {name}")
        tests.append(pc.field(name) == value)
    if selection.start is not None or selection.end is not None:
        if view.time_column is None:
            raise SettingsError(f"table {view.table.name} has no time column: leave out start and end")
        time = pc.field(view.time_column)
        tests += [time >= selection.start] if selection.start is not None else []
        tests += [time < selection.end] if selection.end is not None else []
    condition = None
    for test in tests:
        condition = test if condition is None else condition & test
    return condition


def _split_by_chunk(rows: pa.Table, keys: Sequence[str]) -> Iterator[_ChunkRows]:
    """Split rows wherever a value in a column of `keys` changes; yield the key values and rows of each part.

    The parts are slices, so no data is copied. If there are no keys, all rows are one part.
    """
    if rows.num_rows == 0:
        return
    cuts = [0]
    if keys and rows.num_rows > 1:
        differs = None
        for name in keys:
            changes = pc.not_equal(rows[name].slice(1), rows[name].slice(0, rows.num_rows - 1))
            differs = changes if differs is None else pc.or_(differs, changes)
        cuts += [index + 1 for index in pc.indices_nonzero(differs).to_pylist()]
    for start, end in zip(cuts, [*cuts[1:], rows.num_rows], strict=True):
        yield tuple(rows[name][start].as_py() for name in keys), rows.slice(start, end - start)


def _show(
    view: View, rows: pa.Table, columns: Sequence[str], scales: Mapping[str, int], form: NumberForm
) -> pa.Table:
    """Return the requested columns of one instrument's rows, with numbers in the types of the result."""
    declared = view.stored_columns()
    for index, name in enumerate(rows.column_names):
        rows = rows.set_column(index, name, convert_column(rows[name], declared[name], scales, form))
    made = {
        name: view.derived[name].compute(rows) if name in view.derived else rows[name] for name in columns
    }
    return pa.table(made)


def _empty_rows(view: View, columns: Sequence[str]) -> pa.Table:
    """Return an empty table with the stored columns that must be read, in the types of the stored table."""
    declared = view.stored_columns()
    return pa.table(
        {name: pa.chunked_array([], type=declared[name].arrow) for name in _needed_columns(view, columns)}
    )
