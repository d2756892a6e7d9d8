"""The command `sql`: run queries over the published tables, views and functions."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import IO

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, Row
from pyspark.sql.types import ArrayType, DataType, DecimalType, NumericType, StructType
from rich import box
from rich.table import Table as RichTable

from deltabook.jobs.console.printable import SafeConsole, make_printable, wrap_stream
from deltabook.jobs.queries.allowed import check_statement
from deltabook.jobs.queries.query_tree import AllowedQuery, UnknownRelationError
from deltabook.jobs.queries.views import BY_KIND, FAILED_HOURS, LIVE_BOOKS, Relations
from deltabook.jobs.tables.delta_tables import LIVE_FOLDER
from deltabook.jobs.tables.published import published_versions, require_published
from deltabook.jobs.tables.stored import TableReader, open_live_tables
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import DeltabookError
from deltabook.schemas.tables import BOOKS, TABLES

FORMATS = ("table", "csv", "json")
_UNSAFE_SETTINGS = ("spark.sql.runSQLOnFiles", "spark.sql.variable.substitute")
"""Spark settings that let a statement read files by name and insert variables. `--unsafe` enables them."""


class QueryError(DeltabookError):
    """Raised if a query is not valid. The message is the reason, followed by the names of all relations."""


def prepare_query(warehouse: Warehouse, text: str, unsafe: bool = False) -> DataFrame:
    """Return a query over the published tables and views as a DataFrame.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse to read, with its Spark session.
    text : str
        One SQL statement.
    unsafe : bool
        If true, run the statement as typed, without a check. If false, check the statement, and run the SQL
        that is generated from the parsed statement.

    Returns
    -------
    DataFrame
        Rows of the result. Spark computes the rows when they are read.

    Raises
    ------
    WarehouseError
        If no run has published yet.
    QueryError
        If the statement is not valid. The message lists the names of all relations.
    ForbiddenQueryError
        If the statement does more than read the warehouse, and `unsafe` is false.
    """
    try:
        checked = None if unsafe else check_statement(text)
    except UnknownRelationError as error:
        raise QueryError(f"{error}\n{_relation_names()}") from None
    published = _published_versions(warehouse.root)
    relations = Relations(TableReader(warehouse.root, published))
    checked = checked or AllowedQuery(text, relations.mentioned(text))
    _create_views(warehouse, published, relations, checked.relations)
    spark = warehouse.spark
    for setting in _UNSAFE_SETTINGS:
        spark.conf.set(setting, unsafe)
    try:
        return spark.sql(checked.text)
    except (AnalysisException, ParseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise QueryError(f"{reason}\n{_relation_names()}") from None
    finally:
        for setting in _UNSAFE_SETTINGS:
            spark.conf.unset(setting)


def _relation_names() -> str:
    """Return the names of all relations as text: one line each for tables, views and functions."""
    return "\n".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in BY_KIND.items())


def _create_views(
    warehouse: Warehouse, published: dict[str, int], relations: Relations, names: frozenset[str]
) -> None:
    """Create the temporary views and functions that a query uses."""
    spark = warehouse.spark
    published_warehouse = Warehouse(spark, warehouse.settings, published)
    live = Warehouse(spark, warehouse.settings.model_copy(update={"warehouse": warehouse.root / LIVE_FOLDER}))
    for name in relations.needed(names):
        if name in TABLES:
            published_warehouse.read(TABLES[name]).createOrReplaceTempView(name)
        elif name in LIVE_BOOKS:
            live.read(LIVE_BOOKS[name]).createOrReplaceTempView(name)
        else:
            spark.sql(relations.statement(name))


def describe_failed_hours(warehouse: Warehouse, text: str, unsafe: bool = False) -> str:
    """Return lines that say whether a query left out or included symbol-hours that failed validation.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse that the query read.
    text : str
        The SQL statement.
    unsafe : bool
        Whether the statement was run as typed.

    Returns
    -------
    str
        Lines for people. Empty if no symbol-hour has failed, or if the query reads no rows of books, events
        or trades.
    """
    stored = TableReader(warehouse.root, _published_versions(warehouse.root))
    failed = stored.failed_chunks()
    if not failed:
        return ""
    relations = Relations(stored)
    names = relations.mentioned(text) if unsafe else check_statement(text).relations
    lines = []
    if FAILED_HOURS in relations.needed(names):
        lines.append(
            f"without {len(failed):,} symbol-hours that failed validation: book_all, book_wide_all and "
            "trades_all have them, verdicts has the reasons"
        )
    if included := relations.with_failed_hours(names):
        lines.append(
            f"with {len(failed):,} symbol-hours that failed validation, in {', '.join(included)}: "
            "failed_hours lists them"
        )
    return "\n".join(lines)


def _published_versions(root: Path) -> dict[str, int]:
    """Return the published table versions; raise an error if the warehouse has nothing to query.

    If nothing is published yet, but the warehouse has live books, the result is empty.
    """
    is_live = open_live_tables(root).exists(BOOKS)
    return published_versions(root) if is_live else require_published(root)


def print_rows(result: DataFrame, form: str, out: IO[str]) -> int:
    """Compute a result, print its rows, and return how many rows were printed.

    Parameters
    ----------
    result : DataFrame
        The query, from `prepare_query`.
    form : str
        Format: `table`, `csv` or `json` (one object per line).
    out : text file
        Stream to which the rows are printed.

    Returns
    -------
    int
        Number of printed rows.
    """
    names, kinds, count = result.columns, [field.dataType for field in result.schema], 0
    rows = (
        [_to_plain(value, kind) for value, kind in zip(row, kinds, strict=True)]
        for row in result.toLocalIterator()
    )
    if form == "csv":
        writer = csv.writer(wrap_stream(out))
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell_text(value) for value in row])
            count += 1
    elif form == "json":
        for row in rows:
            out.write(json.dumps(dict(zip(names, row, strict=True)), default=str) + "\n")
            count += 1
    else:
        table = RichTable(*names, box=box.SIMPLE, show_edge=False, header_style="bold")
        for column, kind in zip(table.columns, kinds, strict=True):
            column.justify = "right" if isinstance(kind, NumericType) else "left"
        for row in rows:
            # The console makes text printable too, but only after the widths of columns have been measured.
            table.add_row(*(make_printable(_cell_text(value)) for value in row))
            count += 1
        width = None if out.isatty() else 10_000
        SafeConsole(file=out, markup=False, width=width).print(table)
    return count


def _to_plain(value: object, kind: DataType) -> object:
    """Return a value in the form to print: a decimal with all digits of its type, a struct as a dict."""
    if isinstance(kind, DecimalType) and isinstance(value, Decimal):
        return f"{value:.{kind.scale}f}"
    if isinstance(kind, ArrayType) and isinstance(value, list):
        return [_to_plain(item, kind.elementType) for item in value]
    if isinstance(kind, StructType) and isinstance(value, Row):
        return {field.name: _to_plain(value[field.name], field.dataType) for field in kind}
    return value


def _cell_text(value: object) -> str:
    """Return the text of a value in a table or CSV cell: nested values as JSON, a null as empty text."""
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return "" if value is None else str(value)
